from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(filters=SIZE, strides=Integer(1), groups=Integer(1))
class ResidualBlock(TensorLayer):
    """Two normalised convolutions added to a projection of the input.

    `Conv3x3 -> norm -> relu -> Conv3x3 -> norm`, added to a 1x1 convolution
    of the input, then `relu`. The normalisation is over groups of channels of
    one sample.

    Args:
        filters: Positive integer, the output's channels.
        strides: Positive integer.
        groups: Positive integer, a divisor of `filters`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`, or
            `(batch, height, width)` for one channel.

    Returns:
        Tensor of shape `(batch, height / strides, width / strides, filters)`.

    Example:

    >>> block = keras_mmrel.encoders.ResidualBlock(8, strides=2, groups=4)
    >>> block(np.zeros((2, 6, 6, 1))).shape
    (2, 3, 3, 8)
    """

    shapes = (
        ("batch", "height", "width", "channels"),
        ("batch", "height", "width"),
    )

    def __init__(
        self, filters: int, strides: int = 1, groups: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.groups = groups

        def convolution(size: int, step: int) -> keras.layers.Layer:
            return keras.layers.Conv2D(
                filters,
                size,
                strides=step,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                dtype=self.dtype_policy,
            )

        def norm() -> keras.layers.Layer:
            return keras.layers.GroupNormalization(
                groups, dtype=self.dtype_policy
            )

        self.main_path = [
            convolution(3, strides),
            norm(),
            convolution(3, 1),
            norm(),
        ]
        # Of every `strides`-th position: the same as a convolution with
        # strides, which crashes in PyTorch 2.13.0 on CPUs unless the input's
        # channels are a multiple of 8.
        self.shortcut = convolution(1, 1)

    def build(self, input_shape: tuple) -> None:
        shape = _with_channels(input_shape)
        self.shortcut.build(shape)
        for layer in self.main_path:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        x = ops.cast(inputs, self.compute_dtype)
        if len(x.shape) == 3:
            x = ops.expand_dims(x, axis=-1)
        first, norm_first, second, norm_second = self.main_path
        main = ops.relu(norm_first(first(x)))
        return ops.relu(
            norm_second(second(main))
            + self.shortcut(x[:, :: self.strides, :: self.strides])
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        first = self.main_path[0]
        return first.compute_output_shape(_with_channels(input_shape))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "groups": self.groups,
        }


def _with_channels(shape: tuple) -> tuple:
    return (*shape, 1) if len(shape) == 3 else tuple(shape)
