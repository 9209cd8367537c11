"""What corruptions of sound have in common."""

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.corruptions._media_corruption import MediaCorruption

# A tenth of a second at 8 kHz: what is shorter is a vector of features.
SHORTEST = 800
CHANNELS = (1, 2)


class WaveformCorruption(MediaCorruption):
    """Base: acts on `(samples, time)` and `(samples, time, channels)`."""

    medium = (
        "waveforms, (samples, time) or (samples, time, channels) with 1 or 2 "
        f"channels and {SHORTEST} or more points in time"
    )

    def fits(self, values: Array) -> bool:
        mono = values.ndim == 2
        several = values.ndim == 3 and values.shape[2] in CHANNELS
        return (mono or several) and values.shape[1] >= SHORTEST


def sounding(wave: Array) -> slice:
    """Return where a waveform sounds: from its first to its last value not 0.

    So zeros that a short clip is padded with do not count. It is empty for
    one that is silent throughout.

    Args:
        wave: `(time,)` or `(time, channels)`.
    """
    loud = np.flatnonzero((wave != 0).reshape(len(wave), -1).any(axis=1))
    return slice(loud[0], loud[-1] + 1) if len(loud) else slice(0, 0)
