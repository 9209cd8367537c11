import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._pictures import PictureCorruption
from keras_mmrel.corruptions._pictures import pictures

# Standard deviations to each side, beyond which nothing is left to weigh.
REACH = 4


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=Number(0, 1000))
class Blur(PictureCorruption):
    """Blur images and the frames of video, as a lens out of focus does.

    A Gaussian of `severity` pixels, cut off at four standard deviations.
    Beyond the border the picture goes on as it ends. It is the same for every
    scale of the pixels, also for standardised ones.

    Args:
        severity: Standard deviation in pixels, 0 to 1,000.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be images, `(samples, height, width, channels)`, or
            video, `(samples, frames, height, width, channels)`, with 1 to 4
            channels, where `keras.config.image_data_format()` has them.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality
            holds no pictures.

    Example:

    >>> blur = keras_mmrel.corruptions.Blur(1.0, "image")
    >>> point = np.zeros((1, 9, 9, 1))
    >>> point[0, 4, 4] = 1
    >>> blur({"image": point})["image"][0, 4, 2:7, 0].round(2)
    array([0.02, 0.1 , 0.16, 0.1 , 0.02])
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        view = pictures(values)
        down = _smoothing(view.shape[2], self.severity)
        across = _smoothing(view.shape[3], self.severity)
        for row in np.flatnonzero(corrupted):
            view[row] = np.einsum(
                "hi,wj,fijc->fhwc", down, across, view[row], optimize=True
            )
        return values


def _smoothing(size: int, sigma: float) -> Array:
    """Return the weights `(to, from)` along one axis, which add up to 1."""
    reach = math.ceil(REACH * sigma)
    offsets = np.arange(-reach, reach + 1)
    with np.errstate(over="ignore"):
        weights = np.exp(-0.5 * np.square(offsets / sigma))
    places = np.arange(size)[:, None]
    matrix = np.zeros((size, size))
    sources = np.clip(places + offsets, 0, size - 1)
    np.add.at(matrix, (places, sources), weights / weights.sum())
    return matrix
