from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._backbone_encoder import BACKBONE
from keras_mmrel.encoders._frame_block import FrameBlock
from keras_mmrel.encoders._split_backbone import natural_blocks
from keras_mmrel.encoders.image_encoder import ImageEncoder
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    image_encoder=BACKBONE,
    pooling=Choice("mean", "max"),
)
class VideoEncoder(TensorLayer):
    """Encode a video frame by frame, with the encoder of an image.

    All frames share its weights, and their features become one. So the order
    of frames plays no part; a backbone that sees motion goes into
    `keras_mmrel.encoders.PooledEncoder` instead.

    Args:
        image_encoder: Layer from `(batch, height, width, channels)` to
            `(batch, d)`, such as `keras_mmrel.encoders.ImageEncoder` or
            `ConvEncoder`; or the name of a preset of keras-hub, which becomes
            an `ImageEncoder`.
        pooling: `"mean"` of the frames' features, or their `"max"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, frames, height, width, channels)`.
        training: Passed on to the encoder.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If `image_encoder` is no layer, a preset that cannot be
            had, or does not take a frame.

    Example:

    >>> from keras_mmrel import encoders
    >>> encoder = encoders.VideoEncoder(encoders.ConvEncoder((4, 8)))
    >>> encoder(np.zeros((2, 3, 8, 8, 3), "float32")).shape
    (2, 8)
    """

    shapes = (("batch", "frames", "height", "width", "channels"),)

    def __init__(
        self,
        image_encoder: keras.layers.Layer | str,
        pooling: str = "mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(image_encoder, str):
            image_encoder = ImageEncoder(image_encoder)
        self.image_encoder = image_encoder
        self.pooling = pooling

    @property
    def blocks(self) -> list[keras.layers.Layer]:
        """The blocks of the image's encoder, for every frame.

        Their mean over positions is its feature, where `pooling` is `"mean"`.
        """
        blocks = natural_blocks(self.image_encoder) or [self.image_encoder]
        return [
            FrameBlock(block, name=f"block_{index}")
            for index, block in enumerate(blocks)
        ]

    def build(self, input_shape: tuple) -> None:
        if not self.image_encoder.built:
            self.image_encoder.build((None, *input_shape[2:]))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        frames = ops.reshape(inputs, (-1, *inputs.shape[2:]))
        feature = self.image_encoder(frames, training=training)
        if len(feature.shape) != 2:
            raise refused(
                "`image_encoder` must return one feature a frame, (batch, d)",
                describe(feature),
            )
        size = (-1, inputs.shape[1], feature.shape[-1])
        pooled = ops.mean if self.pooling == "mean" else ops.max
        return pooled(ops.reshape(feature, size), axis=1)

    def get_config(self) -> dict:
        encoder = keras.saving.serialize_keras_object(self.image_encoder)
        return {
            **super().get_config(),
            "image_encoder": encoder,
            "pooling": self.pooling,
        }

    @classmethod
    def from_config(cls, config: dict) -> "VideoEncoder":
        encoder = keras.saving.deserialize_keras_object(config["image_encoder"])
        return cls(**{**config, "image_encoder": encoder})
