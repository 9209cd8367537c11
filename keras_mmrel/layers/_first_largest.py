from keras import ops

from keras_mmrel.contract import Tensor


def first_largest(values: Tensor) -> Tensor:
    """Mark the first of the largest values along the last axis.

    As `one_hot(argmax(values))`, without an index: on TensorFlow `argmax`
    looks at the bits of its input, which neither ONNX nor LiteRT can do.

    Args:
        values: Float tensor, finite.

    Returns:
        Float32 tensor of the same shape, 1 there and 0 elsewhere.
    """
    largest = ops.cast(
        values == ops.max(values, axis=-1, keepdims=True), "float32"
    )
    return ops.where(ops.cumsum(largest, axis=-1) > 1.5, 0.0, largest)
