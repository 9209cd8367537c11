from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.encoders.checks import check_positive_integers
from keras_mmrel.encoders.checks import check_rate


@keras.saving.register_keras_serializable(package="keras_mmrel")
class ConvEncoder(keras.layers.Layer):
    """Encode an image or a spectrogram with residual convolution blocks.

    Each block is `Conv3x3 -> norm -> relu -> Conv3x3 -> norm`, added to a 1x1
    projection of its input, then `relu`; every block but the first halves the
    resolution. Global average pooling ends the encoder.

    The normalisation is over groups of channels of one sample, not over the
    batch: a modality that is missing in other samples of the batch, or a
    batch of one, cannot change a feature.

    Args:
        filters: Sequence of positive integers, the channels of each block;
            the last is the feature size `d`. Prefer multiples of 8: with
            others the convolutions of PyTorch 2.13.0 can crash on CPUs.
        groups: Positive integer, the most channel groups a normalisation
            uses; a block takes the largest divisor of its channels up to it.
        dropout: Float in `[0, 1)`, dropout rate on the pooled feature.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`, or
            `(batch, frames, bins)` for a spectrogram.
        training: Whether dropout is active.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If `filters` or `groups` are not positive integers, or
            `dropout` is outside `[0, 1)`.

    Example:

    >>> encoder = keras_mmrel.encoders.ConvEncoder((8, 16))
    >>> encoder(np.zeros((4, 8, 8, 1))).shape
    (4, 16)
    """

    def __init__(
        self,
        filters: Sequence[int] = (16, 32, 64),
        groups: int = 8,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_positive_integers("filters", filters)
        check_positive_integers("groups", (groups,))
        check_rate("dropout", dropout)
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.groups = groups
        self.dropout = dropout
        self.blocks = [
            _ResidualBlock(
                count,
                strides=1 if index == 0 else 2,
                groups=max(g for g in range(1, groups + 1) if count % g == 0),
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(self.filters)
        ]
        self.pool = keras.layers.GlobalAveragePooling2D(dtype=self.dtype_policy)
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        shape = (*input_shape, 1) if len(input_shape) == 3 else input_shape
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = ops.cast(inputs, self.compute_dtype)
        if len(x.shape) == 3:
            x = ops.expand_dims(x, axis=-1)
        for block in self.blocks:
            x = block(x, training=training)
        return self.drop(self.pool(x), training=training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.filters[-1])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "groups": self.groups,
            "dropout": self.dropout,
        }


class _ResidualBlock(keras.layers.Layer):
    """Two normalised convolutions added to a projection of the input."""

    def __init__(
        self, filters: int, strides: int, groups: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides

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
        self.shortcut = convolution(1, strides)

    def build(self, input_shape: tuple) -> None:
        self.shortcut.build(input_shape)
        shape = input_shape
        for layer in self.main_path:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        first, norm_first, second, norm_second = self.main_path
        x = ops.relu(norm_first(first(inputs)))
        return ops.relu(norm_second(second(x)) + self.shortcut(inputs))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self.shortcut.compute_output_shape(input_shape)
