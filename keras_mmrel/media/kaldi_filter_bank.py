import functools
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array

LOWEST = 20.0  # hertz
PREEMPHASIS = 0.97
# The smallest power whose logarithm is taken.
FLOOR = float(np.finfo("float32").eps)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    sample_rate=Integer(1000, 768_000),
    mel_bins=Integer(4, 1024),
    frames=Integer(1, 1_000_000),
    mean=Number(),
    std=Number(0, low_open=True),
)
@dataclass(frozen=True)
class KaldiFilterBank:
    """Logarithmic mel filter bank as Kaldi has it: a `transform` of `Audio`.

    The sound's mean is taken out. Frames of 25 ms, one every 10 ms and all
    inside the sound, lose their mean and are pre-emphasised
    (`x[t] - 0.97 x[t - 1]`); after Hann's window (symmetric) their power
    spectrum, of as many samples as the next power of 2, goes through
    triangles in mel, `1127 log(1 + hertz / 700)`, between 20 Hz and half the
    rate. Nothing random is added (no dither). Then there are as many frames
    as said: later ones are cut off, rows of zeros take the place of those
    that lack; `(value - mean) / std` comes last.

    It is compared by its settings, saved with a medium, and sent to processes.

    Args:
        sample_rate: Samples a second, from 1,000.
        mel_bins: Number of triangles.
        frames: Number of frames.
        mean: What is subtracted from the logarithms.
        std: What they are divided by.

    Returns:
        Array `(frames, mel_bins)` in float32, low frequencies first.

    Raises:
        ValueError: If a sound has more than one channel, or not one frame.

    Example:

    >>> from keras_mmrel import media
    >>> audio = media.Audio(
    ...     "wav", sample_rate=16000, seconds=10.0,
    ...     transform=media.KaldiFilterBank(16000, 128, 1024),
    ... )
    >>> audio.shape
    (1024, 128)

    References:
        - [Povey et al., 2011, The Kaldi speech recognition
          toolkit](https://infoscience.epfl.ch/record/192584)
    """

    sample_rate: int = 16_000
    mel_bins: int = 128
    frames: int = 1024
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, sound: Array) -> Array:
        length = self.sample_rate // 40
        if sound.ndim != 1 or len(sound) < length:
            raise ValueError(
                "`KaldiFilterBank` must get sound of one channel, (samples,), "
                f"and {length} samples or more. Received: shape {sound.shape}"
            )
        sound = sound.astype("float32") - sound.mean(dtype="float64")
        every = np.lib.stride_tricks.sliding_window_view(sound, length)
        frames = every[:: self.sample_rate // 100][: self.frames]
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        frames = (frames - PREEMPHASIS * before) * np.hanning(length)
        size = 1 << (length - 1).bit_length()
        # Kaldi has no triangle over the last frequency.
        power = np.abs(np.fft.rfft(frames, size)[:, :-1]) ** 2
        mel = power @ _triangles(self.sample_rate, size, self.mel_bins).T
        values = np.zeros((self.frames, self.mel_bins))
        values[: len(mel)] = np.log(np.maximum(mel, FLOOR))
        return ((values - self.mean) / self.std).astype("float32")

    def get_config(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "KaldiFilterBank":
        return cls(**config)


def _mel(hertz: Array | float) -> Array:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


@functools.lru_cache(maxsize=8)
def _triangles(sample_rate: int, size: int, mel_bins: int) -> Array:
    """Return `(mel_bins, size // 2)` weights of the frequencies."""
    ends = np.linspace(_mel(LOWEST), _mel(sample_rate / 2), mel_bins + 2)
    left, middle, right = (ends[i : i + mel_bins, None] for i in range(3))
    frequencies = _mel(np.arange(size // 2) * sample_rate / size)
    up = (frequencies - left) / (middle - left)
    down = (right - frequencies) / (right - middle)
    return np.maximum(0.0, np.minimum(up, down))
