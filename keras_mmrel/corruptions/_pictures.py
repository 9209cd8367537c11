"""What corruptions of images and of video have in common."""

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._media_corruption import MediaCorruption

CHANNELS = (1, 2, 3, 4)
WHITE = Number(0, low_open=True)
# A brightest pixel of one step of 255 or less is of another scale, or black.
STEPS = 255
# What the rounding of floats adds.
SLACK = 1e-5


class PictureCorruption(MediaCorruption):
    """Base: acts on images and, frame by frame, on video.

    Channels stand where `keras.config.image_data_format()` has them.
    """

    channels: tuple[int, ...] = CHANNELS

    @property
    def medium(self) -> str:  # type: ignore[override]
        return (
            "images, (samples, height, width, channels), or video, (samples, "
            f"frames, height, width, channels), with {_listed(self.channels)} "
            "channels"
        )

    def fits(self, values: Array) -> bool:
        return (
            values.ndim in (4, 5) and pictures(values).shape[4] in self.channels
        )


class ScaledPictureCorruption(PictureCorruption):
    """Base: has to know the value of white, and refuses another scale."""

    high: float

    def check_values(self, name: str, values: Array) -> None:
        low, top = float(values.min()), float(values.max())
        inside = low >= 0 and top <= self.high * (1 + SLACK)
        if not inside or 0 < top <= self.high / STEPS * (1 + SLACK):
            raise ValueError(
                f"`high` of `{type(self).__name__}` must be the value of white "
                f"in modality '{name}', with black at 0: 1 for floats in "
                "[0, 1], 255 for bytes. Received: "
                f"high={self.high!r} for pixels from {low:.4g} to {top:.4g}"
            )


class FrameCorruption(MediaCorruption):
    """Base: acts on whole frames of video."""

    medium = (
        "video, (samples, frames, height, width, channels), with 2 or more "
        f"frames and {', '.join(map(str, CHANNELS[:-1]))} or {CHANNELS[-1]} "
        "channels"
    )

    def fits(self, values: Array) -> bool:
        return (
            values.ndim == 5
            and values.shape[1] > 1
            and pictures(values).shape[4] in CHANNELS
        )


def pictures(values: Array) -> Array:
    """Return a view `(samples, frames, height, width, channels)`.

    Args:
        values: Images or video, with the channels where Keras has them.
    """
    values = values if values.ndim == 5 else values[:, None]
    if keras.config.image_data_format() == "channels_first":
        return np.moveaxis(values, 2, 4)
    return values


def _listed(numbers: tuple[int, ...]) -> str:
    return " or ".join(
        filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])])
    )
