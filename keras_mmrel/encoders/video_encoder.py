from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._backbone_encoder import BACKBONE
from keras_mmrel.encoders._backbone_encoder import OPTIONS
from keras_mmrel.encoders._backbone_encoder import BackboneEncoder
from keras_mmrel.encoders._frame_block import FrameBlock
from keras_mmrel.encoders._split_backbone import graph_ends
from keras_mmrel.encoders._split_backbone import natural_blocks
from keras_mmrel.encoders.image_encoder import PIXELS
from keras_mmrel.encoders.image_encoder import ImageEncoder
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refused

# Of the image's encoder, and what they are where nobody says it.
DEFAULTS = {
    "image_shape": None,
    "mean": "auto",
    "std": "auto",
    "fine_tune": "all",
    "lora_rank": 4,
    "image_pooling": "mean",
    "output_key": None,
}


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    backbone=BACKBONE,
    **PIXELS,
    **{
        **OPTIONS,
        "pooling": Choice("mean", "max"),
        "image_pooling": OPTIONS["pooling"],
    },
)
class VideoEncoder(TensorLayer):
    """Encode a video frame by frame, with the encoder of an image.

    A preset's name or a backbone becomes a
    `keras_mmrel.encoders.ImageEncoder`, which takes pixels as that one does:
    bytes from 0 to 255, or floats in [0, 1] or up to 255. A layer that makes
    one feature of an image already, such as
    `keras_mmrel.encoders.ConvEncoder` or an `ImageEncoder`, is used itself,
    unless an argument of the image's encoder is given.

    All frames share its weights, and their features become one. So the order
    of frames plays no part; a backbone that sees motion goes into
    `keras_mmrel.encoders.PooledEncoder` instead.

    Args:
        backbone: `keras.Model` or `keras.Layer` for images (of keras-hub or
            `keras.applications` for example), or the name of a preset of
            keras-hub, which is downloaded; or a layer from
            `(batch, height, width, channels)` to `(batch, d)`.
        pooling: `"mean"` of the frames' features, or their `"max"`.
        image_shape: `(height, width, channels)` of a frame, needed where the
            backbone leaves sizes open.
        mean: As in `keras_mmrel.encoders.ImageEncoder`.
        std: Likewise.
        fine_tune: Likewise: `"all"`, `"none"`, `"lora"`, or the number of the
            last layers that learn.
        lora_rank: Likewise.
        image_pooling: `"mean"` over all positions of a frame, or `"first"`,
            where a class token stands.
        output_key: Which output to take where the backbone returns a dict.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, frames, height, width, channels)`.
        training: Passed on to the encoder.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If a preset cannot be had, the shape of frames is unknown,
            the backbone does not take a frame or has no attention for LoRA,
            an `ImageEncoder` is given together with arguments of one, or an
            argument is outside its range.
        ImportError: If a preset is named and keras-hub is not installed.

    Example:

    >>> backbone = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
    ... )
    >>> encoder = keras_mmrel.encoders.VideoEncoder(backbone, fine_tune="none")
    >>> encoder(np.zeros((2, 3, 8, 8, 3), "uint8")).shape
    (2, 4)
    >>> len(encoder.trainable_weights)
    0
    """

    shapes = (("batch", "frames", "height", "width", "channels"),)

    def __init__(
        self,
        backbone: keras.layers.Layer | str,
        pooling: str = "mean",
        *,
        image_shape: Sequence[int] | None = None,
        mean: float | Sequence[float] | str = "auto",
        std: float | Sequence[float] | str = "auto",
        fine_tune: str | int = "all",
        lora_rank: int = 4,
        image_pooling: str = "mean",
        output_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        options: dict[str, Any] = {
            "image_shape": image_shape,
            "mean": mean,
            "std": std,
            "fine_tune": fine_tune,
            "lora_rank": lora_rank,
            "image_pooling": image_pooling,
            "output_key": output_key,
        }
        given = {n: v for n, v in options.items() if v != DEFAULTS[n]}
        self._wraps = bool(given) or is_image_backbone(backbone)
        if isinstance(backbone, BackboneEncoder) and given:
            name, value = next(iter(given.items()))
            raise ValueError(
                f"`{name}` must be left to the encoder that is given, which "
                f"has one of its own. Received: {name}={value!r} and "
                f"{type(backbone).__name__}"
            )
        encoder: Any = backbone
        if self._wraps:
            inner = options.pop("image_pooling")
            encoder = ImageEncoder(
                backbone, pooling=inner, dtype=kwargs.get("dtype"), **options
            )
        self.image_encoder: keras.layers.Layer = encoder
        self.pooling = pooling

    @property
    def backbone(self) -> keras.layers.Layer:
        """What a frame goes through, without the scaling of its pixels."""
        if isinstance(self.image_encoder, ImageEncoder) and self._wraps:
            return self.image_encoder.backbone
        return self.image_encoder

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
                "`backbone` must return one feature a frame, (batch, d), or "
                "have its `image_shape` given, then positions become one",
                describe(feature),
            )
        size = (-1, inputs.shape[1], feature.shape[-1])
        pooled = ops.mean if self.pooling == "mean" else ops.max
        return pooled(ops.reshape(feature, size), axis=1)

    def get_config(self) -> dict:
        own = {**DEFAULTS, "pooling": self.pooling}
        if self._wraps:
            inner = self.image_encoder.get_config()
            own.update({n: inner[n] for n in DEFAULTS if n in inner})
            own["image_pooling"] = inner["pooling"]
            own["backbone"] = inner["backbone"]
        else:
            serialize = keras.saving.serialize_keras_object
            own["backbone"] = serialize(self.image_encoder)
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict) -> "VideoEncoder":
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


def is_image_backbone(layer: keras.layers.Layer | str) -> bool:
    """Whether it is a preset, or returns more than one feature an image."""
    if isinstance(layer, str):
        return True
    ends = graph_ends(layer)
    # A dict has no shape.
    return ends is not None and len(getattr(ends[1], "shape", ())) != 2
