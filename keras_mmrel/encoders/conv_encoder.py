from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._pixel_scaling import unit_pixels
from keras_mmrel.encoders.residual_block import ResidualBlock
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    filters=Every(SIZE),
    groups=Integer(1),
    dropout=Number(0, 1, high_open=True),
    seed=SEED,
)
class ConvEncoder(TensorLayer):
    """Encode an image or a spectrogram with residual convolution blocks.

    Each block is `Conv3x3 -> norm -> relu -> Conv3x3 -> norm`, added to a 1x1
    projection of its input, then `relu`; every block but the first halves the
    resolution. Global average pooling ends the encoder.

    The normalisation is over groups of channels of one sample, not over the
    batch: a modality that is missing in other samples of the batch, or a
    batch of one, cannot change a feature.

    Args:
        filters: Sequence of positive integers, the channels of each block;
            the last is the feature size `d`.
        groups: Positive integer, the most channel groups a normalisation
            uses; a block takes the largest divisor of its channels up to it.
        dropout: Float in `[0, 1)`, dropout rate on the pooled feature.
        seed: Integer, or `None` to draw one. Seed of the dropout, see
            `MLPEncoder`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`, or
            `(batch, frames, bins)` for a spectrogram. Bytes (uint8) are
            pixels from 0 to 255 and become [0, 1], and so do, in a model,
            floats of images up to 255 (see `ImageEncoder`).
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

    shapes = (
        ("batch", "height", "width", "channels"),
        ("batch", "frames", "bins"),
    )

    def __init__(
        self,
        filters: Sequence[int] = (16, 32, 64),
        groups: int = 8,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.groups = groups
        self.dropout = dropout
        self.seed = known_seed(seed)
        self.blocks = [
            ResidualBlock(
                count,
                strides=1 if index == 0 else 2,
                groups=max(g for g in range(1, groups + 1) if count % g == 0),
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(self.filters)
        ]
        self.pool = keras.layers.GlobalAveragePooling2D(dtype=self.dtype_policy)
        self.drop = keras.layers.Dropout(
            dropout, seed=self.seed, dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        for block in self.blocks:
            block.build(input_shape)
            input_shape = block.compute_output_shape(input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        x = unit_pixels(inputs, self.compute_dtype)
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
            "seed": self.seed,
        }
