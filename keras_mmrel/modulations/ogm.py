from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.modulations.scores import ratio_to_others
from keras_mmrel.modulations.scores import true_class_probability


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(alpha=Number(0))
class OGM(GradientModulation):
    """On-the-fly gradient modulation: slow the leading modality down.

    A modality's score is the mean probability that it gives to the true class
    by itself, and `r` the ratio of its score to the mean score of the others.
    Where `r > 1` its encoder's coefficient is `1 - tanh(alpha * r)`, elsewhere
    1.

    The paper has two modalities and sums over the batch; the mean of the
    others, and means over the samples that have a modality, are this
    library's extension, equal to the paper's with two complete modalities.

    Args:
        alpha: Non-negative float, strength; 0.1 to 0.8 in the paper.
        **kwargs: Arguments of `GradientModulation`.

    Raises:
        ValueError: If `alpha` is negative.

    Example:

    >>> modulation = keras_mmrel.modulations.OGM(0.3, until=0.5)
    >>> modulation.alpha
    0.3

    References:
        - [Peng et al., 2022, Balanced Multimodal Learning via On-the-fly
          Gradient Modulation](https://arxiv.org/abs/2203.15332)
    """

    def __init__(self, alpha: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        scores = true_class_probability(labels, outputs[MODALITY_LOGITS])
        ratio = ratio_to_others(batch_mean(scores, outputs), present)
        slowed = 1.0 - ops.tanh(self.alpha * ratio)
        # A ratio of NaN is not `<= 1`: its coefficient is NaN, not taken over.
        return ops.where(ratio <= 1.0, ops.ones_like(slowed), slowed)

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha}
