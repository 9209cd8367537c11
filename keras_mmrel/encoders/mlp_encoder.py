from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._dense_block import DenseBlock
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    hidden_units=Every(SIZE),
    dropout=Number(0, 1, high_open=True),
    seed=SEED,
)
class MLPEncoder(TensorLayer):
    """Encode a vector modality with dense blocks.

    Each block is `Dense -> activation -> Dropout`. No batch statistics are
    used, so a sample's feature depends on that sample alone.

    Args:
        hidden_units: Sequence of positive integers, the width of each block;
            the last is the feature size `d`.
        dropout: Float in `[0, 1)`, the dropout rate of every block.
        activation: Activation of every block, as in `keras.layers.Dense`.
        seed: Integer, or `None` to draw one. Seed of the dropout. It is
            drawn when the layer is made, so that the dropout has a state
            which can be saved: with PyTorch, Keras draws the dropout of a
            layer without a seed from torch's own generator.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        training: Whether dropout is active.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If `hidden_units` is empty or not made of positive
            integers, or `dropout` is outside `[0, 1)`.

    Example:

    >>> encoder = keras_mmrel.encoders.MLPEncoder((32, 16))
    >>> encoder(np.zeros((4, 10))).shape
    (4, 16)
    """

    shapes = (("batch", ..., "features"),)

    def __init__(
        self,
        hidden_units: Sequence[int] = (64,),
        dropout: float = 0.5,
        activation: Any = "relu",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.dropout = dropout
        self.activation = self._activation(activation)
        self.seed = known_seed(seed)
        self.blocks = [
            DenseBlock(
                units,
                self.activation,
                dropout,
                self.seed + index,
                name=f"block_{index}",
                dtype=self.dtype_policy,
            )
            for index, units in enumerate(self.hidden_units)
        ]

    def _activation(self, given: Any) -> Any:
        try:
            return keras.activations.get(given)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`activation` must be what `keras.layers.Dense` takes. "
                f"Received: activation={given!r}"
            ) from error

    def build(self, input_shape: tuple) -> None:
        for block in self.blocks:
            block.build(input_shape)
            input_shape = block.compute_output_shape(input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        for block in self.blocks:
            # What Keras does around a call takes longer than this one.
            inputs = block.call(inputs, training=training)
        return inputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.hidden_units[-1])

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "hidden_units": list(self.hidden_units),
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "seed": self.seed,
        }
