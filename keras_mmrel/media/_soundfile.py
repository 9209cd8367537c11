"""WAV, FLAC and the like by soundfile, resampled by PyAV."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_mmrel.contract import Array
from keras_mmrel.media import _pyav
from keras_mmrel.optional import require

USER = 'media.Audio(decoder="soundfile")'


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    soundfile = require("soundfile", USER)
    try:
        with soundfile.SoundFile(str(path)) as file:
            yield file
    except soundfile.LibsndfileError as error:
        raise ValueError(str(error.error_string)) from None


def duration(path: Path) -> float:
    with _opened(path) as file:
        return file.frames / file.samplerate


def audio(path: Path, sample_rate: int, start: float, seconds: float) -> Array:
    with _opened(path) as file:
        rate = file.samplerate
        first = min(round(start * rate), file.frames)
        # What resampling reads beyond the end does no harm.
        count = min(math.ceil(seconds * rate) + rate // 10, file.frames - first)
        if first:
            file.seek(first)
        values = file.read(count, dtype="float32", always_2d=True)
    if len(values) < count:
        raise ValueError(f"truncated, {len(values)} of {count} frames")
    return _pyav.resampled(values, rate, sample_rate) if count else values
