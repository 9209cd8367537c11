from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._inputs import white_of
from keras_mmrel.corruptions.corruption import Corruption

POSITIVE = Number(0, low_open=True)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(deviation=POSITIVE, high=POSITIVE, as_published=Flag())
class QMFImageNoise(Corruption):
    """Gaussian noise on images as QMF and its successors test with.

    Severities are the `eps` of their tables: with pixels from 0 to 255 the
    noise has the standard deviation `deviation * severity`. Each modality is
    corrupted with probability 1/2, independently.

    By default the protocol is corrected: every sample and every channel has
    noise of its own, and pixels stay between 0 and `high`. With
    `as_published=True` all samples get the same grey noise pattern (one for
    the channels of an image, one for each modality), and pixels are cut off
    above `high` but not below 0 before they become bytes, so that dark pixels
    turn bright. A table should say which of the two it used.

    Args:
        severity: Number of at least 0, usually 5 or 10.
        target: Which modalities are corrupted, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        deviation: Positive number, 10 in the text-image tables and 1 in those
            of RGB and depth.
        high: Positive number, the value of white in the inputs: 1 or 255.
            Of bytes white is 255 in any case.
        as_published: Whether to keep the shared pattern and the overflow.
            Samples of rank 3 are then images with the channels where
            `keras.config.image_data_format()` has them.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> noise = keras_mmrel.corruptions.QMFImageNoise(5.0, target="rgb")
    >>> x = noise({"rgb": np.zeros((2, 4, 4, 3))})
    >>> bool(x["rgb"].min() == 0)
    True

    References:
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050). The corrected
          form is this library's own.
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "independent",
        probability: float = 0.5,
        deviation: float = 10.0,
        high: float = 1.0,
        as_published: bool = False,
    ) -> None:
        super().__init__(severity, target, probability)
        self.deviation = deviation
        self.high = high
        self.as_published = as_published

    def unit(self, given: Any) -> float:
        return white_of(given, self.high)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        shape = values.shape
        if self.as_published:
            shape = _pattern_shape(values.shape[1:])
        noise = self.deviation * self.severity * rng.standard_normal(shape)
        if self.as_published:
            pixels = values[corrupted] * (255.0 / self.high) + noise
            # What the cast to bytes makes of a negative number.
            noisy = np.minimum(pixels, 255.0).astype("int64") % 256
        else:
            pixels = values[corrupted] * (255.0 / self.high) + noise[corrupted]
            noisy = np.clip(pixels, 0.0, 255.0)
        values[corrupted] = (noisy * (self.high / 255.0)).astype(values.dtype)
        return values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "deviation": self.deviation,
            "high": self.high,
            "as_published": self.as_published,
        }


def _pattern_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one sample, an image with a single channel."""
    if len(shape) != 3:
        return shape
    if keras.config.image_data_format() == "channels_first":
        return (1, *shape[1:])
    return (*shape[:-1], 1)
