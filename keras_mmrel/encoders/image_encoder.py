from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel._presets import USER
from keras_mmrel.constraints import Constraint
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.encoders._backbone_encoder import BACKBONE
from keras_mmrel.encoders._backbone_encoder import OPTIONS
from keras_mmrel.encoders._backbone_encoder import BackboneEncoder
from keras_mmrel.encoders._backbone_encoder import input_shapes
from keras_mmrel.encoders._backbone_encoder import known_sizes
from keras_mmrel.encoders._backbone_encoder import load_backbone
from keras_mmrel.encoders._pixel_scaling import PixelScaling
from keras_mmrel.optional import require

_POSITIVE = Number(0, low_open=True)
PIXELS: dict[str, Constraint] = {
    "image_shape": Either(Every(Integer(1)), None),
    "mean": Either(Number(), Every(Number()), "auto"),
    "std": Either(_POSITIVE, Every(_POSITIVE), "auto"),
}


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(backbone=BACKBONE, **PIXELS, **OPTIONS)
class ImageEncoder(BackboneEncoder):
    """Encode an image with a backbone, pretrained or not.

    Takes pixels as `keras_mmrel.media.Image` makes them: bytes from 0 to 255
    (`pixels="uint8"`), or floats in [0, 1]. Floats up to 255 are divided by
    255 by a model whose first training has such, which it says. They are
    standardised as the backbone expects it, and what it returns is averaged
    over all positions.

    What of the backbone learns is `fine_tune`. What is frozen runs as at
    inference, its moving statistics too. A backbone that was given as an
    object is used itself, not copied.

    Args:
        backbone: `keras.Model` or `keras.Layer` (of keras-hub or
            `keras.applications` for example), or the name of a preset of
            keras-hub, which is downloaded.
        image_shape: `(height, width, channels)`, needed where the backbone
            leaves sizes open.
        mean: Mean of a pixel on the scale [0, 1], one number or one a channel;
            `"auto"` is what a preset's own preprocessing takes, and 0 for
            any other backbone.
        std: Deviation of a pixel, likewise; `"auto"` is 1 but for presets. For
            a backbone that wants bytes, say `std=1 / 255`.
        fine_tune: `"all"`, `"none"`, `"lora"` (small factors of the kernels of
            attention), or a number: the last so many of its layers that have
            weights. A layer that stacks layers of one class, as the encoder
            of a vision transformer does, counts as these.
        lora_rank: Rank of the factors of `"lora"`.
        pooling: `"mean"` over all positions, or `"first"`, where a class token
            stands.
        output_key: Which output to take where the backbone returns a dict.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, height, width, channels)`.
        training: Passed on to the backbone.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If a preset cannot be had, the shape of images is unknown,
            the backbone has no attention for LoRA, or an argument is outside
            its range.
        ImportError: If a preset is named and keras-hub is not installed.

    Example:

    >>> backbone = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
    ... )
    >>> encoder = keras_mmrel.encoders.ImageEncoder(backbone, fine_tune="none")
    >>> encoder(np.zeros((2, 8, 8, 3), "uint8")).shape
    (2, 4)
    >>> len(encoder.trainable_weights)
    0
    """

    def __init__(
        self,
        backbone: keras.layers.Layer | str,
        image_shape: Sequence[int] | None = None,
        *,
        mean: float | Sequence[float] | str = "auto",
        std: float | Sequence[float] | str = "auto",
        fine_tune: str | int = "all",
        lora_rank: int = 4,
        pooling: str = "mean",
        output_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        scale: tuple[Any, Any] = (0.0, 1.0)
        preset, backbone = backbone, load_backbone(backbone)
        if isinstance(preset, str) and "auto" in (mean, std):
            scale = preset_scale(preset)
        self.mean = scale[0] if isinstance(mean, str) else mean
        self.std = scale[1] if isinstance(std, str) else std
        shape = input_shapes(backbone)
        self.image_shape = known_sizes(shape, image_shape, "image_shape")
        for name, value in (("mean", self.mean), ("std", self.std)):
            channels = self.image_shape[-1]
            if np.size(value) not in (1, channels):
                raise ValueError(
                    f"`{name}` must be one number, or one a channel, "
                    f"{channels}. Received: {name}={value!r}"
                )
        super().__init__(
            backbone,
            PixelScaling(
                self.image_shape,
                self.mean,
                self.std,
                name="front",
                dtype=kwargs.get("dtype"),
            ),
            fine_tune=fine_tune,
            lora_rank=lora_rank,
            pooling=pooling,
            output_key=output_key,
            **kwargs,
        )

    @property
    def input_shape(self) -> tuple:
        """Shape that is taken, batch axis included."""
        return (None, *self.image_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "image_shape": list(self.image_shape),
            "mean": self.mean,
            "std": self.std,
        }


def preset_scale(preset: str) -> tuple[Any, Any]:
    """Mean and deviation on the scale [0, 1] that a preset's pixels have."""
    hub = require("keras_hub", USER)
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        raise ValueError(
            "`mean` and `std` must be given for a preset that does not say how "
            "pixels are scaled. Received: mean='auto' or std='auto' for "
            f"backbone={preset!r}"
        ) from error
    # The converter takes bytes.
    scale = np.multiply(
        255.0, 1.0 if converter.scale is None else converter.scale
    )
    offset = np.add(0.0, 0.0 if converter.offset is None else converter.offset)
    return (-offset / scale).tolist(), (1.0 / scale).tolist()
