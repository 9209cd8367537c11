from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.modulations.scores import mean_of_others
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(alpha=Number(0))
class AGM(GradientModulation):
    """Adaptive gradient modulation: keep each modality's lead where it was.

    The fused logits are split into one part a modality by their Shapley
    value, and a modality's score `s` is the cross-entropy of its part, with
    `S` the mean of `s` over all steps so far. With `d = s_others - s` and
    `D = S_others - S`, the coefficient is
    `exp(alpha * min(exp(D) - exp(d), 10))`: below 1 for a modality that is
    further ahead than it has been on average.

    A modality's part is `l_m - (sum_n l_n - l) / M` of the fused logits `l`
    and its own `l_m`. That is the Shapley value for two modalities, and for
    any number of them where the logits are a sum over modalities, as in
    `ConcatFusion`. The paper multiplies the gradient that enters the part;
    here the coefficient acts on the encoder and leaves the fusion alone.
    More than two modalities, missing ones and the default of `alpha` are this
    library's own.

    Args:
        alpha: Non-negative float, strength.
        **kwargs: Arguments of `GradientModulation`.

    Raises:
        ValueError: If `alpha` is negative.

    Example:

    >>> modulation = keras_mmrel.modulations.AGM(alpha=0.5)
    >>> modulation.get_config()["alpha"]
    0.5

    References:
        - [Li et al., 2023, Boosting Multi-modal Model Performance with
          Adaptive Gradient Modulation](https://arxiv.org/abs/2308.07686)
    """

    def __init__(self, alpha: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.mean_score = add_state(self, "mean_score", (input_shape[-1],))
        self.seen = add_state(self, "seen", (input_shape[-1],))

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        mask = outputs[MASK]
        own = outputs[MODALITY_LOGITS] * mask[:, :, None]
        count = ops.maximum(ops.sum(mask, axis=1), 1.0)[:, None]
        excess = (ops.sum(own, axis=1) - outputs[LOGITS]) / count
        part = ops.log_softmax(own - excess[:, None, :], axis=-1)
        score = batch_mean(
            -ops.sum(labels[:, None, :] * part, axis=-1), outputs
        )
        score = ops.stop_gradient(score)
        finite = ops.isfinite(score)
        counted = present * ops.cast(finite, "float32")
        seen = self.seen + counted
        step = ops.where(finite, score, 0.0) - self.mean_score
        mean = self.mean_score + counted * step / ops.maximum(seen, 1.0)
        self.mean_score.assign(mean)
        self.seen.assign(seen)
        lead = mean_of_others(score, present) - score
        usual_lead = mean_of_others(mean, present) - mean
        drift = ops.exp(usual_lead) - ops.exp(lead)
        return ops.exp(self.alpha * ops.minimum(drift, 10.0))

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha}
