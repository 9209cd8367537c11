from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.encoders._pooling import FEATURES
from keras_mmrel.encoders._pooling import PADDING
from keras_mmrel.tensor_layer import TensorLayer
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
        shape = input_shape[check_sequence(input_shape)]
        self.convolution.build(shape)
        self.norm.build((*shape[:-1], self.filters))

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x, mask = inputs[check_sequence(shapes_of(inputs))], inputs[PADDING]
        there = ops.cast(mask, "bool")[:, :, None]
        # Zeros, as beyond the end: the padding may hold anything.
        x = ops.where(there, ops.cast(x, self.compute_dtype), 0)
        x = ops.relu(self.norm(self.convolution(x)))
        return {FEATURES: ops.where(there, x, 0), PADDING: mask}

    def compute_output_shape(self, input_shape: dict[str, tuple]) -> dict:
        shape = input_shape[check_sequence(input_shape)]
        return {
            FEATURES: (*shape[:-1], self.filters),
            PADDING: input_shape[PADDING],
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }


def shapes_of(inputs: Any) -> Any:
    """Return the shape of a tensor, or of each one of a dict."""
    if isinstance(inputs, Mapping):
        return {name: shapes_of(x) for name, x in inputs.items()}
    return tuple(inputs.shape)


def check_sequence(shapes: Any) -> str:
    """Return the name of the values of a padded sequence.

    Args:
        shapes: What should be a dict of the shapes of values `(batch, time,
            features)` and of their mask `(batch, time)`.
    """
    names = [n for n in shapes if n != PADDING] if is_dict(shapes) else []
    if not is_dict(shapes) or PADDING not in shapes or len(names) != 1:
        raise refused(
            f"`inputs` must be a dict of values and '{PADDING}'",
            f"the keys {list(shapes)}"
            if is_dict(shapes)
            else f"shape={shapes}",
        )
    values, mask = tuple(shapes[names[0]]), tuple(shapes[PADDING])
    steps = {values[1], mask[1]} if len(values) == 3 and len(mask) == 2 else ()
    if not steps or len(steps) == 2 and None not in steps:
        raise refused(
            f"`inputs` must be values '{names[0]}' of shape (batch, time, "
            f"features) and '{PADDING}' of shape (batch, time)",
            f"{values} and {mask}",
        )
    return names[0]


def is_dict(shapes: Any) -> bool:
    return isinstance(shapes, Mapping)
