from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
class FrameBlock(TensorLayer):
    """A block of an image's encoder, for every frame of a video.

    Args:
        block: Layer from a batch of frames to a batch of tensors.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, block: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.block = block

    def build(self, input_shape: tuple) -> None:
        if not self.block.built:
            self.block.build((None, *input_shape[2:]))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        frames = ops.reshape(inputs, (-1, *inputs.shape[2:]))
        x = self.block(frames, training=training)
        return ops.reshape(x, (-1, inputs.shape[1], *x.shape[1:]))

    def get_config(self) -> dict:
        block = keras.saving.serialize_keras_object(self.block)
        return {**super().get_config(), "block": block}

    @classmethod
    def from_config(cls, config: dict) -> "FrameBlock":
        block = keras.saving.deserialize_keras_object(config["block"])
        return cls(**{**config, "block": block})
