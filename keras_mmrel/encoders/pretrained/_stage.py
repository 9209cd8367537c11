from collections.abc import Callable
from typing import Any

import keras

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
class Stage(TensorLayer):
    """A part of a network as one layer, after which the network can be cut.

    Args:
        network: `keras.Model`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, network: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.network(inputs, training=training)

    def get_config(self) -> dict:
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network}

    @classmethod
    def from_config(cls, config: dict) -> "Stage":
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def stage(name: str, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a stage, made by a function of its input, makes of `x`."""
    inputs = keras.Input(x.shape[1:])
    network = keras.Model(inputs, function(inputs), name=name)
    return Stage(network, name=name)(x)


def parts_with_weights(layer: Stage) -> list[keras.layers.Layer]:
    """Return the layers of a stage that have weights, in order."""
    return [part for part in layer.network.layers if part.weights]
