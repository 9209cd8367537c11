from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.layers.cosine_classifier import CosineClassifier
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.multimodal_model import MultimodalModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(scale=Number(0, low_open=True))
class MMCosine(MultimodalModel):
    """Let each modality speak by angles, so that none speaks louder.

    In a linear head on all features, the modality with the larger features
    and weights decides. Here a modality's logits are `scale` times the
    cosines between its feature and its classes' weights
    (`keras_mmrel.layers.CosineClassifier`), and the fused logits are their
    sum over the modalities that a sample has: each can say at most `scale`.

    The sum and the scale follow the released code (commit 00ba0a9), whose
    training logits and gradients are those of this class to 1e-4 for one
    batch. Its evaluation predicts by inner products that were never trained
    as such; here training and prediction are the same. More than two
    modalities, and missing ones, are this library's own.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        scale: Positive float; 10 by default in the released code.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If `scale` is not positive.

    Example:

    >>> model = keras_mmrel.MMCosine({"a": (8,), "b": (4,)}, 3)
    >>> x = {"a": np.ones((2, 8)), "b": np.ones((2, 4))}
    >>> out = model.predict(x, verbose=0)
    >>> bool((abs(out["modality_logits"]) <= 10).all())
    True

    References:
        - [Xu et al., 2023, MMCosine: Multi-Modal Cosine Loss Towards
          Balanced Audio-Visual Fine-Grained
          Learning](https://arxiv.org/abs/2303.05338)
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        scale: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(modalities, num_classes, **kwargs)
        self.scale = scale
        self.heads = [
            CosineClassifier(
                num_classes, scale, dtype="float32", name=f"head_{i}"
            )
            for i in range(len(self.modality_names))
        ]
        self.build_from_modalities()

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        # A missing modality's feature is zero, and so are its cosines.
        logits = head_logits(self.heads, self.encode(inputs, training))
        return self.make_outputs(ops.sum(logits, axis=1), logits, inputs)

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale}
