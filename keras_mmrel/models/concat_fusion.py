from typing import Any

import keras
from keras import ops

from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.validation import MASK


@keras.saving.register_keras_serializable(package="keras_mmrel")
class ConcatFusion(MultimodalModel):
    """Concatenate all features and classify them with one linear head.

    The plain baseline of early fusion. `modality_logits` are the head's
    answer to one modality with the features of all others at zero and the
    full bias, as in the literature on modality imbalance.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        augmentation: As in `keras_mmrel.models.MultimodalModel`.
        **kwargs: Arguments of `keras.Model`.

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
        augmentation: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities, num_classes, augmentation=augmentation, **kwargs
        )
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
        self.build_from_modalities()

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = self.encode(inputs, training)
        parts = ops.stack(
            [
                part(feature)
                for part, feature in zip(self.head, features, strict=True)
            ],
            axis=1,
        )
        return self.make_outputs(
            ops.sum(parts, axis=1) + self.bias, parts + self.bias, inputs[MASK]
        )
