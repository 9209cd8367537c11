from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._pictures import FrameCorruption
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class FrozenFrames(FrameCorruption):
    """Let video stand still for a while, as a broken connection does.

    From a random frame on, so many frames show what the one before them
    shows. The first frame is never frozen. It says that it stays inside the
    range of the data, as every frame is one of the clip; evaluations measure
    whether the pixels of each frame do.

    Args:
        severity: Share in [0, 1] of the frames that are frozen (rounded, at
            least one unless it is 0, and at most all but the first).
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be video, `(samples, frames, height, width, channels)`,
            with two frames or more and 1 to 4 channels, where
            `keras.config.image_data_format()` has them.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality is
            no video.

    Example:

    >>> frozen = keras_mmrel.corruptions.FrozenFrames(0.5, "video")
    >>> clip = np.arange(6.0).reshape(1, 6, 1, 1, 1)
    >>> frozen({"video": clip}, seed=1)["video"].ravel()
    array([0., 1., 1., 1., 1., 5.])
    """

    in_range = True

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
        frames = values.shape[1]
        count = min(frames - 1, max(1, round(self.severity * frames)))
        draws = rng.random(len(values))
        for row in np.flatnonzero(corrupted):
            first = 1 + int(draws[row] * (frames - count))
            values[row, first : first + count] = values[row, first - 1]
        return values
