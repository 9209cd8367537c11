from typing import Any

from keras import ops

from keras_mmrel.contract import Tensor


def first_largest(values: Tensor, xp: Any = ops) -> Tensor:
    """Mark the first of the largest values along the last axis.

    As `one_hot(argmax(values))`, without an index: on TensorFlow `argmax`
    looks at the bits of its input, which neither ONNX nor LiteRT can do.

    Args:
        values: Float tensor, finite.
        xp: `keras.ops`, or what stands in for it.

    Returns:
        Float32 tensor of the same shape, 1 there and 0 elsewhere.
    """
    largest = xp.cast(
        values == xp.max(values, axis=-1, keepdims=True), "float32"
    )
    return xp.where(xp.cumsum(largest, axis=-1) > 1.5, 0.0, largest)
