from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._pictures import FrameCorruption
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import choose_features


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, fill=Number())
class DroppedFrames(FrameCorruption):
    """Replace random frames of video by blank ones.

    A larger severity with the same seed also blanks what a smaller one did.

    Args:
        severity: Share in [0, 1] of the frames that are blank (rounded, at
            least one unless it is 0).
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be video, `(samples, frames, height, width, channels)`,
            with two frames or more and 1 to 4 channels, where
            `keras.config.image_data_format()` has them.
        probability: Number in [0, 1] for `target="independent"`.
        fill: Value of the pixels of a blank frame in the unit of the inputs,
            in which 0 is mostly black. It says that it stays inside the range
            of the data, as 0 does for pixels; evaluations measure whether it
            does.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality is
            no video.

    Example:

    >>> blank = keras_mmrel.corruptions.DroppedFrames(0.25, "video")
    >>> x = blank({"video": np.ones((3, 8, 4, 4, 1))})["video"]
    >>> (x == 0).all(axis=(2, 3, 4)).sum(axis=1)
    array([2, 2, 2])
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
        blank = choose_features(values.shape[:2], self.severity, rng)
        values[blank & corrupted[:, None]] = self.fill
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fill": self.fill}
