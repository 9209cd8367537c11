from typing import Any

import keras
from keras import ops

from keras_mmrel.encoders._pooling import FEATURES
from keras_mmrel.encoders._pooling import PADDING
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
class SequenceBlock(TensorLayer):
    """A convolution over time that padding takes no part in.

    Args:
        filters: Channels of the output.
        kernel_size: Steps that one output sees.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.convolution = keras.layers.Conv1D(
            filters, kernel_size, padding="same", dtype=self.dtype_policy
        )
        # Of each step alone: others may be padding.
        self.norm = keras.layers.LayerNormalization(dtype=self.dtype_policy)

    def build(self, input_shape: dict[str, tuple]) -> None:
        shape = next(s for n, s in input_shape.items() if n != PADDING)
        self.convolution.build(shape)
        self.norm.build((*shape[:-1], self.filters))

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        names = [n for n in inputs if n != PADDING]
        if PADDING not in inputs or len(names) != 1:
            raise refused(
                f"`inputs` must be a dict of values and '{PADDING}'",
                describe(inputs),
            )
        x, mask = inputs[names[0]], inputs[PADDING]
        there = ops.cast(mask, "bool")[:, :, None]
        # Zeros, as beyond the end: the padding may hold anything.
        x = ops.where(there, ops.cast(x, self.compute_dtype), 0)
        x = ops.relu(self.norm(self.convolution(x)))
        return {FEATURES: ops.where(there, x, 0), PADDING: mask}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }
