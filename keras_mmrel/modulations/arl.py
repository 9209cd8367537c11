from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.modulations.scores import true_class_probability


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(temperature=Number(0), uniform=Flag())
class ARL(GradientModulation):
    """Asymmetric representation learning: favour what is certain but unused.

    The coefficient is `1 + w`, `w = softmax(temperature * q * (1 - d))` over
    the modalities, where `q` is a modality's fraction of the inverse
    prediction entropies, and `d` its fraction of the dependence: here of the
    mean true-class probabilities. A modality that predicts with certainty and
    on which the model does not depend yet learns faster. No encoder learns
    slower than without modulation.

    The method also trains each modality by itself: give the model a
    `modality_loss_weight` (4 in the paper) for that part. The released code
    computes the weights and never assigns them, so that it runs the same
    factor 1.5 for both modalities; `uniform=True` does that. The measure of
    dependence, and `1 - d` in place of the other modality's `d` for more than
    two modalities, are this library's own.

    Args:
        temperature: Non-negative float that multiplies the logits of `w`; 8
            in the paper.
        uniform: Whether every coefficient is `1 + 1 / n_modalities`.
        **kwargs: Arguments of `GradientModulation`.

    Raises:
        ValueError: If `temperature` is negative.

    Example:

    >>> model = keras_mmrel.ConcatFusion(
    ...     {"a": (8,), "b": (4,)}, 3, modality_loss_weight=4.0
    ... )
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.ARL())

    References:
        - [Wei et al., 2025, Improving Multimodal Learning via Imbalanced
          Learning](https://arxiv.org/abs/2507.10203)
    """

    def __init__(
        self, temperature: float = 8.0, uniform: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature
        self.uniform = uniform

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        count = ops.maximum(ops.sum(present), 1.0)
        if self.uniform:
            return 1.0 + present / count
        logits = outputs[MODALITY_LOGITS]
        log_p = ops.log_softmax(logits, axis=-1)
        entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
        certainty = present / (batch_mean(entropy, outputs) + 1e-6)
        certainty = certainty / (ops.sum(certainty) + 1e-12)
        score = true_class_probability(labels, logits)
        dependence = present * batch_mean(score, outputs)
        dependence = dependence / (ops.sum(dependence) + 1e-12)
        urgency = self.temperature * certainty * (1.0 - dependence)
        return 1.0 + ops.softmax(
            ops.where(present > 0, urgency, ops.full_like(urgency, -1e9))
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "uniform": self.uniform,
        }
