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
from keras_mmrel.encoders._pooling import mean_over_positions
from keras_mmrel.encoders._sequence_block import SequenceBlock
from keras_mmrel.encoders._sequence_block import check_sequence
from keras_mmrel.encoders._sequence_block import shapes_of
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    filters=Every(SIZE),
    kernel_size=Integer(1, 1000),
    dropout=Number(0, 1, high_open=True),
    seed=SEED,
)
class SequenceEncoder(TensorLayer):
    """Encode a sequence of any length, padded, by convolutions over time.

    Each block is `Conv1D -> LayerNormalization -> relu`; the mean over all
    steps that are no padding ends the encoder. The same sequence, padded to
    another length, has the same feature. It is what a modality gets by a
    dict of two shapes: `{"values": (time, features), "padding_mask": (time,)}`,
    as `keras_mmrel.media.Series` has them.

    Args:
        filters: Sequence of positive integers, the channels of each block;
            the last is the feature size `d`.
        kernel_size: Positive integer, steps that a block sees at once.
        dropout: Float in `[0, 1)`, dropout rate on the pooled feature.
        seed: Integer, or `None` to draw one. Seed of the dropout, see
            `MLPEncoder`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Dict of values `(batch, time, features)`, under any name, and
            `"padding_mask"` `(batch, time)`, 1 for what is no padding.
        training: Whether dropout is active.

    Returns:
        Tensor of shape `(batch, d)`, 0 where all is padding.

    Raises:
        ValueError: If an argument is outside its range, or the inputs are no
            values with a mask of the same length.

    Example:

    >>> encoder = keras_mmrel.encoders.SequenceEncoder((8, 16))
    >>> x = {"values": np.zeros((2, 9, 3)), "padding_mask": np.ones((2, 9))}
    >>> encoder(x).shape
    (2, 16)
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        kernel_size: int = 5,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.kernel_size = kernel_size
        self.dropout = dropout
        self.seed = known_seed(seed)
        self.blocks = [
            SequenceBlock(
                count,
                kernel_size,
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index, count in enumerate(self.filters)
        ]
        self.drop = keras.layers.Dropout(
            dropout, seed=self.seed, dtype=self.dtype_policy
        )

    def build(self, input_shape: dict[str, tuple]) -> None:
        check_sequence(input_shape)
        shapes = input_shape
        for block in self.blocks:
            block.build(shapes)
            shapes = block.compute_output_shape(shapes)

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> Tensor:
        check_sequence(shapes_of(inputs))
        for block in self.blocks:
            inputs = block(inputs)
        return self.drop(mean_over_positions(inputs), training=training)

    def compute_output_shape(self, input_shape: dict[str, tuple]) -> tuple:
        shape = input_shape[check_sequence(input_shape)]
        return (shape[0], self.filters[-1])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "kernel_size": self.kernel_size,
            "dropout": self.dropout,
            "seed": self.seed,
        }
