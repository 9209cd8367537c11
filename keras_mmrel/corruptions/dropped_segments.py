from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._waveforms import WaveformCorruption
from keras_mmrel.corruptions._waveforms import sounding
from keras_mmrel.corruptions.corruption import FRACTION


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, segments=Integer(1, 1000))
class DroppedSegments(WaveformCorruption):
    """Replace segments of sound by silence, as lost packets do.

    The segments are about equally long, lie anywhere between the first and
    the last value that is not 0, so not in the padding of a short clip, and do
    not overlap.

    Args:
        severity: Share in [0, 1] of the time between these two that is lost
            (rounded, at least one point in time unless it is 0). With clips
            of `t` seconds of sound, `s` lost seconds are `s / t`.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be waveforms, `(samples, time)` or `(samples, time,
            channels)` with 1 or 2 channels, 800 points in time or more.
        probability: Number in [0, 1] for `target="independent"`.
        segments: Number of segments, 1 to 1,000.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality is
            no waveform.

    Example:

    >>> lost = keras_mmrel.corruptions.DroppedSegments(0.3, "audio", segments=5)
    >>> (lost({"audio": np.ones((2, 1000))})["audio"] == 0).mean(axis=1)
    array([0.3, 0.3])
    """

    in_range = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        segments: int = 1,
    ) -> None:
        super().__init__(severity, target, probability)
        self.segments = segments

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        draws = np.sort(rng.random((len(values), self.segments)), axis=1)
        for row in np.flatnonzero(corrupted):
            where = sounding(values[row])
            if where.stop:
                lost = self._lost(where.stop - where.start, draws[row])
                values[row][where][lost] = 0
        return values

    def _lost(self, length: int, draws: Array) -> Array:
        """Return which points in time are lost, `(length,)`."""
        total = min(length, max(1, round(self.severity * length)))
        ends = np.linspace(0, total, self.segments + 1).round().astype(int)
        # What is kept lies before, between and behind the segments.
        kept = np.floor(draws * (length - total + 1)).astype(int)
        lost = np.zeros(length, bool)
        for begin, end, before in zip(ends, ends[1:], kept, strict=False):
            lost[before + begin : before + end] = True
        return lost

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "segments": self.segments}
