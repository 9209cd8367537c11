from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Names
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
from keras_mmrel.models import _saving
from keras_mmrel.models.multimodal_model import MultimodalModel


@constrained(
    modality_loss_weight=Number(0),
    auxiliary_loss_names=Names(),
    fusion=Either(
        Instance(
            keras.layers.Layer,
            "a Keras layer from the list of features to logits",
        ),
        None,
    ),
)
class SharedHeadModel(MultimodalModel):
    """Base of the models with one head on all features.

    The head is linear, or any `fusion`. `modality_logits` are its answer to
    one modality with the features of all others at zero, as in the literature
    on modality imbalance. A `modality_loss_weight` adds their cross-entropies,
    summed over modalities, to the loss as `modality_loss`.

    Args:
        modalities: As in `MultimodalModel`.
        num_classes: Integer of at least 2.
        modality_loss_weight: Non-negative float; with 0 there is no such
            term.
        auxiliary_loss_names: Names of further terms of a subclass.
        fusion: `None` for the linear head, or a layer that takes the list of
            features, one `(batch, d)` a modality, and returns logits
            `(batch, num_classes)`.
        **kwargs: Arguments of `MultimodalModel`.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        modality_loss_weight: float = 0.0,
        auxiliary_loss_names: Sequence[str] = (),
        fusion: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        own = ("modality_loss",) if modality_loss_weight else ()
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=(*own, *auxiliary_loss_names),
            **kwargs,
        )
        self.modality_loss_weight = modality_loss_weight
        self.fusion = fusion
        if fusion is not None:
            return
        # One linear head on the concatenation, kept in one part a modality:
        # the sum of the parts and the bias is the same function.
        self.head = [
            keras.layers.Dense(
                num_classes, use_bias=False, dtype="float32", name=f"head_{i}"
            )
            for i in range(len(self.modality_names))
        ]
        self.bias = self.add_weight(
            shape=(num_classes,),
            initializer="zeros",
            dtype="float32",
            autocast=False,
            name="bias",
        )

    def classify(self, features: Sequence[Tensor]) -> Tensor:
        """Return the linear head's partial logits, without the bias.

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

    def _with_bias(self, logits: Tensor) -> Tensor:
        # Not `+`: to TensorFlow its gradient may be the memory of another
        # one, and the order of summing several a matter of chance.
        return ops.add(logits, self.bias)

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Return the logits `(batch, num_classes)` of all features.

        Args:
            features: As in `classify`.
        """
        if self.fusion is None:
            return self._with_bias(ops.sum(self.classify(features), axis=1))
        logits = self.fusion(list(features))
        if tuple(logits.shape[1:]) != (self.num_classes,):
            raise ValueError(
                "`fusion` must return logits of shape (batch, "
                f"{self.num_classes}). Received: shape={tuple(logits.shape)}"
            )
        return ops.cast(logits, "float32")

    def head_outputs(
        self,
        features: Sequence[Tensor],
        inputs: Modalities,
        training: bool | None = None,
        training_record: dict[str, Any] | None = None,
        **evidence: Any,
    ) -> dict[str, Any]:
        """Complete the output dict from the features."""
        if training:
            # For what changes the features between the encoders and the head.
            fused = {"fused_features": list(features)}
            training_record = {**(training_record or {}), **fused}
        evidence["training_record"] = training_record
        if self.fusion is None:
            partial_logits = self.classify(features)
            logits = self._with_bias(ops.sum(partial_logits, axis=1))
            alone = partial_logits + self.bias
        else:
            logits = self.fuse(features)
            nothing = [ops.zeros_like(feature) for feature in features]
            each = [
                self.fuse([*nothing[:i], feature, *nothing[i + 1 :]])
                for i, feature in enumerate(features)
            ]
            alone = ops.stack(each, axis=1)
        return self.make_outputs(logits, alone, inputs, **evidence)

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        if not self.modality_loss_weight:
            return {}
        loss = self.modality_crossentropy(
            y, outputs[MODALITY_LOGITS], outputs[MASK], sample_weight
        )
        return {"modality_loss": self.modality_loss_weight * loss}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "modality_loss_weight": self.modality_loss_weight,
            "fusion": _saving.serialize(self.fusion),
        }
