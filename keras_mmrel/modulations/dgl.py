from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.gradient_modulation import Owners


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(alpha=Number(0, low_open=True))
class DGL(GradientModulation):
    """Disentangled gradient learning: encoders learn from their own loss alone.

    To the model's loss it adds the cross-entropies of `modality_logits`, times
    `alpha`. Each encoder takes the gradient of what is added, and nothing of
    the model's loss; the fusion and all else takes that of the model's loss,
    and nothing of what is added. Outside its window (`warmup`, `until`) all
    take the sum. A step takes two backward passes.

    It suits models whose `modality_logits` come from the fusion, such as
    `keras_mmrel.ConcatFusion` with any `fusion`: heads that only they use, as
    in `keras_mmrel.LateFusion`, learn from the model's loss. A
    `modality_loss_weight` of the model is a part of the model's loss.

    The paper's text was not available to us beyond its abstract; this follows
    its released code (commit b72a55f), whose loss and gradients for one batch
    are those of this class to 1e-6. It clips gradients to a common norm of 40
    (`global_clipnorm` of the optimizer). More than two modalities, and missing
    ones, are this library's own: the loss of a sample counts the modalities
    that it has.

    Args:
        alpha: Positive float, weight of the added loss; 4 by default in the
            released code.
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account.

    Raises:
        ValueError: If `alpha` is not positive.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.DGL())

    References:
        - [Wei et al., 2025, Boosting Multimodal Learning via Disentangled
          Gradient Learning](https://arxiv.org/abs/2507.10213)
    """

    def __init__(self, alpha: float = 4.0, **kwargs: Any) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.alpha = alpha

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        log_p = ops.log_softmax(outputs[MODALITY_LOGITS], axis=-1)
        losses = -ops.sum(labels[:, None, :] * log_p, axis=-1)
        return self.alpha * mean_over_samples(
            losses * outputs[MASK], sample_weight
        )

    def merge_gradients(
        self,
        gradients: Sequence[Tensor],
        added: Sequence[Tensor],
        variables: Variables,
        owners: Owners,
    ) -> list[Tensor]:
        merged: list[Tensor] = []
        for total, own, owner in zip(gradients, added, owners, strict=True):
            if total is None:
                merged.append(None)
                continue
            own = ops.zeros_like(total) if own is None else own
            apart = total - own if owner is None else own
            merged.append(ops.where(self.active > 0, apart, total))
        return merged

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha}
