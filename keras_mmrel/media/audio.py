import math
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel._presets import PRESET
from keras_mmrel._presets import from_preset
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.media import _decoders
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media._reading import WrongCell
from keras_mmrel.media.file_medium import FileMedium

RANDOM = "random"
# Names of places that are those of no column.
PLACES = ("middle", RANDOM)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    sample_rate=Integer(1, 768_000),
    seconds=Number(0, 3600, low_open=True),
    start=Either(Number(0), COLUMN),
    end=Either(Number(0, low_open=True), COLUMN, None),
    mono=Flag(),
    padding=Choice("zeros", "repeat"),
    decoder=Choice("auto", *_decoders.AUDIO),
    transform=Either(TRANSFORM, PRESET),
)
class Audio(FileMedium):
    """Sound from files: so many seconds at one sample rate.

    Values are in about [-1, 1], as float32; what has another sample rate is
    resampled. A file whose end is missing (a truncated download) is
    unreadable, it is not taken for a short one.

    Args:
        column: Name of the column of paths.
        sample_rate: Samples a second, 1 to 768,000.
        seconds: Length, up to 3,600; a sample has
            `round(seconds * sample_rate)` values.
        start: Where it begins: seconds from the beginning, `"middle"` for
            as much before as behind it, `"random"` for another place in every
            epoch, or the name of a column that holds seconds.
        end: Second at which it ends at the latest, or the name of a column
            that holds them; what follows is as where a file ends. `None` for
            the file's own end.
        mono: Whether the channels are averaged. Otherwise there are two: the
            first two of a file, or its only one twice.
        padding: What follows where a file ends before: `"zeros"`, or
            `"repeat"` for the sound again.
        decoder: `"pyav"` reads what FFmpeg does, videos too; `"soundfile"`
            reads WAV, FLAC, OGG and the like, faster; `"auto"` takes
            soundfile for WAV and FLAC and PyAV for the rest;
            `"tensorflow_io"` is there for who has it, with TensorFlow 2.16
            or 2.17: its own project calls it abandoned.
        transform: As in `keras_mmrel.media.FileMedium`, or the name of a
            preset of keras-hub, the one that
            `keras_mmrel.encoders.AudioEncoder` gets: its converter makes
            spectrograms.

    Example:

    >>> from keras_mmrel import media
    >>> media.Audio("path", sample_rate=16000, seconds=3.0).shape
    (48000,)
    """

    def __init__(
        self,
        column: str,
        *,
        sample_rate: int = 16_000,
        seconds: float = 3.0,
        start: float | str = 0.0,
        end: float | str | None = None,
        mono: bool = True,
        padding: str = "zeros",
        decoder: str = "auto",
        transform: Callable[[Array], Array] | str | None = None,
    ) -> None:
        self.preset = transform if isinstance(transform, str) else None
        super().__init__(
            column,
            transform=(
                converter_of(transform, sample_rate)
                if isinstance(transform, str)
                else transform
            ),
        )
        self.sample_rate = sample_rate
        self.seconds = seconds
        self.start = start
        self.end = end
        self.mono = mono
        self.padding = padding
        self.decoder = decoder
        self.is_random = start == RANDOM
        self.samples = max(1, round(seconds * sample_rate))
        self.decoded_shape = (self.samples,) if mono else (self.samples, 2)
        self.columns = (column, *columns_of(start, end))

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Array:
        decoder = _decoders.audio_decoder(self.decoder, path)
        end = math.inf if self.end is None else second_of(self.end, cells)
        if self.start in PLACES:
            spare = max(min(decoder.duration(path), end) - self.seconds, 0.0)
            begin = rng.uniform(0, spare) if self.is_random else spare / 2
        else:
            begin = second_of(self.start, cells)
        check_order(begin, end)
        seconds = min(self.seconds, end - begin)
        sound = decoder.audio(path, self.sample_rate, begin, seconds)
        if not len(sound):
            raise ValueError(f"no sound from second {begin:g} on")
        samples = max(1, round(seconds * self.sample_rate))
        sound = self._channels(sound)[:samples]
        lacking = self.samples - len(sound)
        if lacking and self.padding == "repeat":
            return np.resize(sound, self.decoded_shape)
        return np.pad(sound, [(0, lacking)] + [(0, 0)] * (sound.ndim - 1))

    def _channels(self, sound: Array) -> Array:
        """Return `(frames, channels)` as one or as two channels."""
        if self.mono:
            return sound.mean(axis=1, dtype="float32")
        return (
            np.repeat(sound, 2, axis=1) if sound.shape[1] == 1 else sound[:, :2]
        )

    def settings(self) -> dict[str, Any]:
        return {
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
            "start": self.start,
            "end": self.end,
            "mono": self.mono,
            "padding": self.padding,
            "decoder": self.decoder,
        }

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "transform": self.preset or config["transform"]}


def converter_of(preset: str, sample_rate: int) -> keras.layers.Layer:
    """Return what makes of sound what a preset's backbone takes."""
    converter = from_preset(
        "transform",
        "a function of an array",
        preset,
        lambda hub: hub.layers.AudioConverter.from_preset(preset),
    )
    expected = getattr(converter, "sampling_rate", sample_rate)
    if expected != sample_rate:
        raise ValueError(
            f"`sample_rate` must be {expected} for the preset {preset!r}. "
            f"Received: {sample_rate}"
        )
    try:
        converter(np.zeros(sample_rate, "float32"))
    except Exception as error:
        raise ValueError(
            "`transform` must be a preset whose converter takes a waveform, "
            "as Whisper's does; a backbone that takes the waveform itself "
            f"needs none. Received: transform={preset!r}"
        ) from error
    return converter


def columns_of(start: float | str, end: float | str | None) -> list[str]:
    """Return the columns that say where segments are."""
    named = [s for s in (start, end) if isinstance(s, str) and s not in PLACES]
    return list(dict.fromkeys(named))


def second_of(second: float | str, cells: Mapping[str, Any]) -> float:
    """Return a second, which may be that of a column, of one row."""
    if not isinstance(second, str):
        return second
    try:
        value = float(cells[second])
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < 1e9:
        raise WrongCell(
            f"column '{second}' must hold seconds, of at least 0. Received: "
            f"{cells[second]!r}"
        )
    return value


def check_order(start: float, end: float) -> None:
    """Refuse a segment that ends before it begins."""
    if end <= start:
        raise ValueError(f"an end at {end:g}, not after the start at {start:g}")
