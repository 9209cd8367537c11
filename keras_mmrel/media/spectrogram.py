from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array

# Share of Tukey's window that is not flat, as SciPy has it.
TAPERED = 0.25
# What keeps a clip of silence from being divided by 0.
TINY = 1e-9


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    frame=Integer(2, 65_536),
    hop=Integer(1, 65_536),
    kind=Choice("magnitude", "density"),
    sample_rate=Integer(1, 768_000),
    offset=Number(0, low_open=True),
    standardize=Flag(),
)
@dataclass(frozen=True)
class Spectrogram:
    """A sound's logarithmic spectrogram: a `transform` of `Audio`.

    Values are clipped to [-1, 1] first. `"magnitude"` is
    `log(abs(S) + offset)` of a short-time Fourier transform with Hann's
    window, whose frames stand around the samples 0, `hop`, 2 `hop`, ...; zeros
    are beyond the ends. `"density"` is `log(P + offset)` of the power of each
    frequency, as SciPy's `spectrogram` estimates it: frames that lie inside
    the sound, their mean taken out, Tukey's window with a quarter tapered,
    divided by `sample_rate` and by the window's power, doubled between 0 and
    half the rate.

    It is compared by its settings, saved with a medium, and sent to processes.

    Args:
        frame: Samples of a frame, 2 to 65,536.
        hop: Samples from one frame to the next, 1 to 65,536.
        kind: `"magnitude"` or `"density"`.
        sample_rate: Samples a second, of which only densities depend.
        offset: What is added before the logarithm.
        standardize: Whether each clip's mean is taken out, and what is left
            divided by its standard deviation (plus 1e-9).

    Returns:
        Array `(frame // 2 + 1, frames)` in float32, low frequencies first.
        Of `n` samples there are `1 + n // hop` frames of magnitudes and
        `1 + (n - frame) // hop` of densities.

    Raises:
        ValueError: If a sound has more than one channel, or not one frame.

    Example:

    >>> from keras_mmrel import media
    >>> audio = media.Audio(
    ...     "wav", sample_rate=22050, seconds=3.0,
    ...     transform=media.Spectrogram(512, 353),
    ... )
    >>> audio.shape
    (257, 188)
    """

    frame: int = 512
    hop: int = 128
    kind: str = "magnitude"
    sample_rate: int = 16_000
    offset: float = 1e-7
    standardize: bool = False

    def __call__(self, sound: Array) -> Array:
        if sound.ndim != 1:
            raise ValueError(
                "`Spectrogram` must get sound of one channel, (samples,). "
                f"Received: shape {sound.shape}"
            )
        sound = np.clip(sound.astype("float32"), -1.0, 1.0)
        if self.kind == "magnitude":
            values = np.abs(self._transformed(np.pad(sound, self.frame // 2)))
        else:
            values = self._density(sound)
        logarithms = np.log(values + self.offset, dtype="float64")
        if self.standardize:
            logarithms -= logarithms.mean()
            logarithms /= logarithms.std() + TINY
        return logarithms.T.astype("float32")

    def _frames(self, sound: Array) -> Array:
        if len(sound) < self.frame:
            raise ValueError(
                f"`Spectrogram` must get at least {self.frame} samples. "
                f"Received: {len(sound)}"
            )
        every = np.lib.stride_tricks.sliding_window_view(sound, self.frame)
        return every[:: self.hop]

    def _transformed(self, sound: Array) -> Array:
        turns = np.arange(self.frame) / self.frame
        window = 0.5 - 0.5 * np.cos(2 * np.pi * turns)
        return np.fft.rfft(self._frames(sound) * window.astype("float32"))

    def _density(self, sound: Array) -> Array:
        window = _tukey(self.frame)
        frames = self._frames(sound)
        frames = frames - frames.mean(axis=1, keepdims=True)
        spectra = np.fft.rfft(frames * window.astype("float32"))
        power = np.abs(spectra) ** 2
        power /= self.sample_rate * (window**2).sum()
        # An even frame has half the rate as its last frequency, alone.
        power[:, 1 : (self.frame + 1) // 2] *= 2
        return power

    def get_config(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> "Spectrogram":
        return cls(**config)


def _tukey(length: int) -> Array:
    """Flat, with a cosine at both ends, and periodic."""
    place = np.arange(length) / (length / 2)
    place = np.minimum(place, 2 - place) / TAPERED
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(place, 1))
