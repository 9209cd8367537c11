import io
from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
import numpy as np

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._pictures import WHITE
from keras_mmrel.corruptions._pictures import ScaledPictureCorruption
from keras_mmrel.corruptions._pictures import pictures
from keras_mmrel.optional import require

BEST = 100
QUALITY = Integer(1, BEST)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=Number(0, BEST - 1), high=WHITE)
class JPEGCompression(ScaledPictureCorruption):
    """Compress images and the frames of video as JPEG, and read them again.

    JPEG's quality is 100 at best. A severity grows with the damage, as tables
    and figures take it: it is **what the quality lacks of 100**, and 0 leaves
    the pixels alone. `from_quality` takes a quality, and `quality` says it.

    Args:
        severity: 100 less the quality, 0 to 99; the quality is rounded to a
            whole number.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be images, `(samples, height, width, channels)`, or
            video, `(samples, frames, height, width, channels)`, with 1 or 3
            channels, where `keras.config.image_data_format()` has them.
        probability: Number in [0, 1] for `target="independent"`.
        high: Positive number, the value of white in the inputs: 1 or 255.
            Black is 0. Pixels on another scale are refused.

    Raises:
        ValueError: If an argument is not as above, a targeted modality holds
            no pictures, or its pixels are not in `[0, high]` or all within
            a 255th of black, as those of another scale are.
        ImportError: If Pillow is not installed.

    Example:

    >>> jpeg = keras_mmrel.corruptions.JPEGCompression.from_quality(10, "image")
    >>> jpeg.severity, jpeg.quality
    (90, 10)
    >>> image = np.random.rand(1, 16, 16, 3)
    >>> bool((jpeg({"image": image})["image"] != image).any())
    True
    """

    channels = (1, 3)

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        high: float = 1.0,
    ) -> None:
        super().__init__(severity, target, probability)
        self.high = high

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        view = pictures(values)
        for row in np.flatnonzero(corrupted):
            pixels = np.rint(view[row] * (255 / self.high))
            frames = np.clip(pixels, 0, 255).astype("uint8")
            view[row] = np.stack([self._decoded(f) for f in frames])
        return values

    def _decoded(self, frame: Array) -> Array:
        """Return a frame `(height, width, channels)` of bytes, compressed."""
        pillow = require("PIL.Image", "JPEGCompression")
        grey = frame.shape[2] == 1
        picture = pillow.fromarray(frame[..., 0] if grey else frame)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=self.quality)
        pixels = np.asarray(pillow.open(file)).reshape(frame.shape)
        return pixels * (self.high / 255)

    @property
    def quality(self) -> int:
        """JPEG's quality, 1 to 100."""
        return max(1, round(BEST - self.severity))

    @classmethod
    def from_quality(
        cls,
        quality: int,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        high: float = 1.0,
    ) -> Self:
        """Return the compression of a quality.

        Args:
            quality: Whole number, 1 to 100; 100 leaves the pixels alone.
            target: As in the constructor.
            probability: As in the constructor.
            high: As in the constructor.

        Raises:
            ValueError: If `quality` is no such number.
        """
        severity = BEST - QUALITY("quality", quality)
        return cls(severity, target, probability, high)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "high": self.high}
