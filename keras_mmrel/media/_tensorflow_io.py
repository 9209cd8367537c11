"""Sound by tensorflow-io, which its own project calls abandoned.

Its compiled operations load into TensorFlow 2.16 and 2.17 alone. It is
resampled by PyAV as all sound is: `tensorflow_io.audio.resample` delays what
it returns by half its filter, 32 samples of the lower rate.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.media import _pyav
from keras_mmrel.optional import require

USER = 'media.Audio(decoder="tensorflow_io")'


def _opened(path: Path) -> Any:
    audio = require("tensorflow_io", USER).audio
    try:
        return audio.AudioIOTensor(str(path))
    except NotImplementedError as error:
        raise ImportError(
            "tensorflow-io must find the TensorFlow that it was compiled for: "
            "`pip install keras-mmrel[tensorflow-io]`, in an environment of "
            f"its own. Received: {str(error).splitlines()[0]}"
        ) from error
    # TensorFlow's errors share no base but this.
    except Exception as error:
        raise ValueError(str(error).splitlines()[0][:200]) from None


def duration(path: Path) -> float:
    file = _opened(path)
    return int(file.shape[0]) / int(file.rate)


def audio(path: Path, sample_rate: int, start: float, seconds: float) -> Array:
    file = _opened(path)
    rate, frames = int(file.rate), int(file.shape[0])
    first = min(round(start * rate), frames)
    last = min(first + math.ceil(seconds * rate) + rate // 10, frames)
    if first == last:
        return np.zeros((0, 1), "float32")
    values = scaled(file[first:last].numpy())
    if len(values) < last - first:
        raise ValueError(f"truncated, {len(values)} of {last - first} frames")
    return _pyav.resampled(values, rate, sample_rate)


def scaled(values: Array) -> Array:
    """Return samples of any dtype in [-1, 1]."""
    if values.dtype.kind == "f":
        return values.astype("float32")
    if values.dtype.kind == "u":
        values = values.astype("float32") - 128
        return values / 128
    size = 8 * values.dtype.itemsize - 1
    return (values / np.float64(2**size)).astype("float32")
