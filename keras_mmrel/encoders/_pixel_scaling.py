from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer


def unit_pixels(x: Tensor, dtype: str) -> Tensor:
    """Return pixels as floats; bytes, 0 to 255, become [0, 1]."""
    if keras.backend.standardize_dtype(x.dtype) == "uint8":
        return ops.cast(x, dtype) / 255.0
    return ops.cast(x, dtype)


@keras.saving.register_keras_serializable(package="keras_mmrel")
class PixelScaling(TensorLayer):
    """Standardise pixels by a mean and a deviation of each channel.

    Args:
        image_shape: `(height, width, channels)`.
        mean: Mean on the scale [0, 1], one number or one a channel.
        std: Deviation on that scale, likewise.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        image_shape: Sequence[int | None],
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.mean = mean
        self.std = std
        self.built = True

    @property
    def input_shape(self) -> tuple:
        """Shape that is taken, batch axis included."""
        return (None, *self.image_shape)

    def call(self, inputs: Tensor) -> Tensor:
        x = unit_pixels(inputs, self.compute_dtype)
        mean = ops.convert_to_tensor(self.mean, x.dtype)
        return (x - mean) / ops.convert_to_tensor(self.std, x.dtype)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "image_shape": list(self.image_shape),
            "mean": self.mean,
            "std": self.std,
        }
