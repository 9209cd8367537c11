import math
from collections.abc import Sequence
from typing import Self

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._waveforms import WaveformCorruption
from keras_mmrel.corruptions._waveforms import sounding

DECIBELS = Number(-200, 200)


@keras.saving.register_keras_serializable(package="keras_mmrel")
class WaveformNoise(WaveformCorruption):
    """Add white noise to sound, at a signal-to-noise ratio.

    The ratio in decibels (SNR) is small where noise is strong, and infinite
    without any. A severity grows with the damage and is 0 without any, as
    tables and figures take it: it is the **amplitude of the noise as a
    multiple of that of the sound** (root mean squares), `10 ** (-snr / 20)`.
    `from_snr` takes decibels, and `snr` says them:

    | SNR, dB  | 40   | 20  | 10   | 6   | 0 | -6 |
    |----------|------|-----|------|-----|---|----|
    | severity | .01  | .1  | .316 | .5  | 1 | 2  |

    The ratio holds exactly for every clip, measured from its first to its
    last value that is not 0: zeros that pad a short clip do not make the sound
    weaker. They get the noise too. A silent clip stays as it is. Nothing is
    cut off at -1 and 1; see `WaveformClipping`.

    Args:
        severity: Number of at least 0, noise to sound in amplitude.
        target: Which modalities are corrupted, as in `Corruption`; each of
            them must be waveforms, `(samples, time)` or `(samples, time,
            channels)` with 1 or 2 channels, 800 points in time or more.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If an argument is not as above, or a targeted modality is
            no waveform.

    Example:

    >>> noise = keras_mmrel.corruptions.WaveformNoise.from_snr(20, "audio")
    >>> noise.severity, noise.snr
    (0.1, 20.0)
    >>> sound = np.sin(np.arange(8000) / 5)[None]
    >>> added = noise({"audio": sound})["audio"] - sound
    >>> round(20 * np.log10(sound.std() / added.std()))
    20

    The severities of a report, from its mildest to its worst:

    >>> protocol = keras_mmrel.evaluation.NoiseProtocol(
    ...     "noise", noise,
    ...     [noise.from_snr(snr).severity for snr in (20, 10, 0)],
    ... )
    """

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        for row, chosen in enumerate(corrupted):
            # Drawn for all, so that a sample's noise is always the same.
            noise = rng.standard_normal(values.shape[1:])
            wave = values[row].astype("float64")
            where = sounding(wave)
            if chosen and where.stop:
                ratio = _amplitude(wave[where]) / _amplitude(noise[where])
                values[row] = wave + self.severity * ratio * noise
        return values

    @property
    def snr(self) -> float:
        """The signal-to-noise ratio in decibels, infinite at severity 0."""
        if self.severity == 0:
            return math.inf
        return -20.0 * math.log10(self.severity)

    @classmethod
    def from_snr(
        cls,
        snr: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> Self:
        """Return the noise of a signal-to-noise ratio.

        Args:
            snr: Decibels, from -200 to 200.
            target: As in the constructor.
            probability: As in the constructor.

        Raises:
            ValueError: If `snr` is out of its range.
        """
        severity = 10.0 ** (-DECIBELS("snr", snr) / 20.0)
        return cls(severity, target, probability)


def _amplitude(values: Array) -> float:
    return float(np.sqrt(np.square(values).mean()))
