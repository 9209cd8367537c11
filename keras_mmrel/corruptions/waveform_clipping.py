from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._waveforms import WaveformCorruption
from keras_mmrel.corruptions._waveforms import sounding
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class WaveformClipping(WaveformCorruption):
    """Cut off the loudest values of sound, as an overdriven microphone does.

    Each clip gets a level of its own, beyond which exactly the wanted share of
    its values lies; they come to stand at this level. The share is one of the
    values from the first to the last that is not 0, so padding does not count.
    Nothing is made louder afterwards.

    Args:
        severity: Share in [0, 1] of the values that are cut off (rounded, at
            least one unless it is 0). Equal values are cut off together or
            not at all, and a share of 1 leaves silence.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be waveforms, `(samples, time)` or `(samples, time,
            channels)` with 1 or 2 channels, 800 points in time or more.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality is
            no waveform.

    Example:

    >>> clipping = keras_mmrel.corruptions.WaveformClipping(0.25, "audio")
    >>> sound = np.random.normal(size=(2, 1000))
    >>> (clipping({"audio": sound})["audio"] != sound).mean(axis=1)
    array([0.25, 0.25])
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
        for row in np.flatnonzero(corrupted):
            level = self._level(np.abs(values[row][sounding(values[row])]))
            values[row] = np.clip(values[row], -level, level)
        return values

    def _level(self, sizes: Array) -> float:
        """Return the level beyond which the share of the sizes lies."""
        if sizes.size == 0:
            return 0.0
        count = max(1, round(self.severity * sizes.size))
        if count == sizes.size:
            return 0.0
        place = sizes.size - count - 1
        return float(np.partition(sizes, place, axis=None)[place])
