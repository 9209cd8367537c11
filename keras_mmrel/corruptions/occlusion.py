import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._pictures import PictureCorruption
from keras_mmrel.corruptions._pictures import pictures
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, fill=Number())
class Occlusion(PictureCorruption):
    """Cover a part of images or of video by a rectangle of one colour.

    The rectangle has the proportions of the picture and a random place that
    lies within it; in video it stays where it is. A larger severity covers
    more, round about the same place.

    Args:
        severity: Share in [0, 1] of the area that is covered, with sides
            rounded to whole pixels, at least one unless it is 0.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be images, `(samples, height, width, channels)`, or
            video, `(samples, frames, height, width, channels)`, with 1 to 4
            channels, where `keras.config.image_data_format()` has them.
        probability: Number in [0, 1] for `target="independent"`.
        fill: Value of the covered pixels in the unit of the inputs, in which
            0 is mostly black. It says that it stays inside the range of the
            data, as 0 does for pixels; evaluations measure whether it does.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality
            holds no pictures.

    Example:

    >>> cover = keras_mmrel.corruptions.Occlusion(0.25, "image")
    >>> x = cover({"image": np.ones((2, 8, 8, 3))})["image"]
    >>> (x == 0).mean(axis=(1, 2, 3))
    array([0.25, 0.25])
    """

    in_range = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        fill: float = 0.0,
    ) -> None:
        super().__init__(severity, target, probability)
        self.fill = fill

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        view = pictures(values)
        height, width = view.shape[2:4]
        side = math.sqrt(self.severity)
        tall, wide = (max(1, round(side * n)) for n in (height, width))
        draws = rng.random((len(values), 2))
        for row in np.flatnonzero(corrupted):
            top = round(draws[row, 0] * (height - tall))
            left = round(draws[row, 1] * (width - wide))
            view[row, :, top : top + tall, left : left + wide] = self.fill
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fill": self.fill}
