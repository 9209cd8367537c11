"""A linear classifier for each modality by itself."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_mmrel.contract import Tensor


def linear_heads(num_classes: int, count: int) -> list[keras.layers.Dense]:
    """Return one head a modality; logits stay in float32."""
    return [
        keras.layers.Dense(num_classes, dtype="float32", name=f"head_{i}")
        for i in range(count)
    ]


def head_logits(
    heads: Sequence[keras.layers.Layer], features: Sequence[Tensor]
) -> Tensor:
    """Return `(batch, modalities, classes)`, each head's answer."""
    return ops.stack(
        [head(x) for head, x in zip(heads, features, strict=True)], axis=1
    )
