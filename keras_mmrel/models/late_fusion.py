from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    average=Choice("logits", "probabilities"),
    modality_loss_weight=Number(0),
)
class LateFusion(MultimodalModel):
    """Classify each modality by itself and average over modalities.

    The mean is taken over the modalities that are present, of their logits or
    of their probabilities. One modality with large logits decides alone in
    the first case and has one vote in the second. Each modality's own
    cross-entropy, summed over modalities, is added to the loss as
    `modality_loss`.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        average: `"logits"` or `"probabilities"`.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If `average` is unknown or `modality_loss_weight` is
            negative.

    Example:

    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> x = {"a": np.zeros((2, 8)), "b": np.zeros((2, 4))}
    >>> out = model.predict(x, verbose=0)
    >>> out["confidence"].shape
    (2, 2)
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        average: str = "logits",
        modality_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=("modality_loss",),
            **kwargs,
        )
        self.average = average
        self.modality_loss_weight = modality_loss_weight
        self.heads = linear_heads(num_classes, len(self.modality_names))
        self.build_from_modalities()

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = self.encode(inputs, training)
        modality_logits = head_logits(self.heads, features)
        mask = inputs[MASK]
        present = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
        votes = modality_logits
        if self.average == "probabilities":
            votes = ops.softmax(votes, axis=-1)
        logits = ops.sum(votes * mask[:, :, None], axis=1) / present
        if self.average == "probabilities":
            logits = ops.log(logits + 1e-7)
        return self.make_outputs(logits, modality_logits, inputs)

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        loss = self.modality_crossentropy(
            y, outputs[MODALITY_LOGITS], outputs[MASK], sample_weight
        )
        return {"modality_loss": self.modality_loss_weight * loss}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "average": self.average,
            "modality_loss_weight": self.modality_loss_weight,
        }
