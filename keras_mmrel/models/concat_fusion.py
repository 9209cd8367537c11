from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.validation import MASK
from keras_mmrel.modulations.gradient_modulation import check_strength


@keras.saving.register_keras_serializable(package="keras_mmrel")
class ConcatFusion(MultimodalModel):
    """Concatenate all features and classify them with one linear head.

    The plain baseline of early fusion. `modality_logits` are the head's
    answer to one modality with the features of all others at zero and the
    full bias, as in the literature on modality imbalance. With a
    `modality_loss_weight` their cross-entropies, summed over modalities, are
    added to the loss as `modality_loss`, so that no encoder is left behind.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        modality_loss_weight: Non-negative float, weight of `modality_loss`;
            with 0 there is no such term.
        augmentation: As in `keras_mmrel.models.MultimodalModel`.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If `modality_loss_weight` is negative.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> x = {"a": np.zeros((2, 8)), "b": np.zeros((2, 4))}
    >>> out = model.predict(x, verbose=0)
    >>> out["modality_logits"].shape
    (2, 2, 3)
    """

    def __init__(
        self,
        modalities: Any,
        num_classes: int,
        *,
        modality_loss_weight: float = 0.0,
        augmentation: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        check_strength("modality_loss_weight", modality_loss_weight)
        names = (
            *(("modality_loss",) if modality_loss_weight else ()),
            *kwargs.pop("auxiliary_loss_names", ()),
        )
        super().__init__(
            modalities,
            num_classes,
            augmentation=augmentation,
            auxiliary_loss_names=names,
            **kwargs,
        )
        self.modality_loss_weight = modality_loss_weight
        # One linear head on the concatenation, kept in one part a modality:
        # the sum of the parts and the bias is the same function.
        self.head = [
            keras.layers.Dense(
                num_classes, use_bias=False, dtype="float32", name=f"head_{i}"
            )
            for i in range(len(self.modality_names))
        ]
        self.bias = self.add_weight(
            shape=(num_classes,), initializer="zeros", name="bias"
        )
        self.add_parts()
        self.build_from_modalities()

    def add_parts(self) -> None:
        """Add the layers of a subclass, before all is built."""

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        parts = self.classify(self.encode(inputs, training))
        return self.make_outputs(
            ops.sum(parts, axis=1) + self.bias, parts + self.bias, inputs[MASK]
        )

    def classify(self, features: Sequence[Any]) -> Any:
        """Return each modality's part of the logits, without the bias.

        Args:
            features: One `(batch, d)` a modality.

        Returns:
            `(batch, n_modalities, num_classes)`.
        """
        return ops.stack(
            [
                part(feature)
                for part, feature in zip(self.head, features, strict=True)
            ],
            axis=1,
        )

    def auxiliary_losses(
        self, y: Any, outputs: Any, sample_weight: Any = None
    ) -> dict:
        if not self.modality_loss_weight:
            return {}
        loss = self.modality_crossentropy(
            y, outputs["modality_logits"], outputs[MASK], sample_weight
        )
        return {"modality_loss": self.modality_loss_weight * loss}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "modality_loss_weight": self.modality_loss_weight,
        }
