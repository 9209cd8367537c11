from typing import Any

import keras

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
class DenseBlock(TensorLayer):
    """`Dense`, with its activation, then `Dropout`.

    A `keras.Sequential` of both walks its graph in every eager call, which
    takes longer than the two layers of it.

    Args:
        units: Units of the output.
        activation: As in `keras.layers.Dense`.
        dropout: Dropout rate.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(
            units, activation, dtype=self.dtype_policy, name="dense"
        )
        self.drop = keras.layers.Dropout(
            dropout, seed=seed, dtype=self.dtype_policy, name="dropout"
        )

    def build(self, input_shape: tuple) -> None:
        self.dense.build(input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.drop(self.dense(inputs), training=training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.dense.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.dense.units,
            "activation": keras.activations.serialize(self.dense.activation),
            "dropout": self.drop.rate,
            "seed": self.drop.seed,
        }
