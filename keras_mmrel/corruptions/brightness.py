from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._pictures import WHITE
from keras_mmrel.corruptions._pictures import ScaledPictureCorruption
from keras_mmrel.corruptions._pictures import pictures
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    severity=FRACTION,
    direction=Choice("brighter", "darker", "random"),
    high=WHITE,
)
class Brightness(ScaledPictureCorruption):
    """Make images or video brighter or darker, as a wrong exposure does.

    To every pixel the same is added, or of every pixel it is taken, and what
    passes black or white is cut off there.

    Args:
        severity: How much, as a share in [0, 1] of the way from black to
            white: `severity * high`.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be images, `(samples, height, width, channels)`, or
            video, `(samples, frames, height, width, channels)`, with 1 to 4
            channels, where `keras.config.image_data_format()` has them.
        probability: Number in [0, 1] for `target="independent"`.
        direction: `"brighter"`, `"darker"`, or `"random"` for one of the two
            for each sample.
        high: Positive number, the value of white in the inputs: 1 or 255.
            Black is 0. Pixels on another scale are refused.

    Raises:
        ValueError: If an argument is not as above, a targeted modality holds
            no pictures, or its pixels are not in `[0, high]` or all within
            a 255th of black, as those of another scale are.

    Example:

    >>> bright = keras_mmrel.corruptions.Brightness(
    ...     0.5, "image", direction="brighter", high=255
    ... )
    >>> bright({"image": np.array([[[[10], [200]]]], "uint8")})["image"].ravel()
    array([138, 255], dtype=uint8)
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        direction: str = "random",
        high: float = 1.0,
    ) -> None:
        super().__init__(severity, target, probability)
        self.direction = direction
        self.high = high

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        up = rng.random(len(values)) < 0.5
        if self.direction != "random":
            up[:] = self.direction == "brighter"
        view = pictures(values)
        for row in np.flatnonzero(corrupted):
            shift = self.severity * self.high * (1 if up[row] else -1)
            view[row] = np.clip(view[row] + shift, 0, self.high)
        return values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "direction": self.direction,
            "high": self.high,
        }
