"""Sound and video by tensorflow-io, which its own project calls abandoned.

Its compiled operations load into TensorFlow 2.16 and 2.17 alone. Sound is
resampled by PyAV as all sound is: `tensorflow_io.audio.resample` delays what
it returns by half its filter, 32 samples of the lower rate. For video it needs
FFmpeg 4 (or 3.4, 2.8) of the machine, and gives all pictures without their
moments: how long a file takes is asked of PyAV.

A file that it opens takes the place of the last one for every thread, in
silence: https://github.com/tensorflow/io/issues/1647 and 1764, both open. So
one thread at a time is in here.
"""

import math
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.media import _pyav
from keras_mmrel.optional import require

USER = 'media.Audio(decoder="tensorflow_io")'
VIDEO_USER = 'media.Video(decoder="tensorflow_io")'

_alone = threading.Lock()


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
    with _alone:
        file = _opened(path)
        return int(file.shape[0]) / int(file.rate)


def audio(path: Path, sample_rate: int, start: float, seconds: float) -> Array:
    with _alone:
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


def video(path: Path, choose: Callable[[float], Array], end: float) -> list:
    """Return pictures as they are shown at some moments, not turned upright.

    Args:
        path: The file. Its pictures are as long as each other.
        choose: Function from a duration to moments, in seconds, in order.
        end: Not used: all of the file is decoded.
    """
    length = _pyav.duration(path, "video")
    pictures = _all_pictures(path)
    if not len(pictures):
        raise ValueError("no picture in it")
    image = require("PIL.Image", VIDEO_USER)
    numbers = [int(t / length * len(pictures)) for t in choose(length)]
    return [
        image.fromarray(pictures[min(n, len(pictures) - 1)]) for n in numbers
    ]


def _all_pictures(path: Path) -> Array:
    """Return `(pictures, height, width, 3)` in bytes."""
    ffmpeg = require("tensorflow_io", VIDEO_USER).experimental.ffmpeg
    content = path.read_bytes()
    try:
        # It warns of every FFmpeg that it looks for before the machine's.
        with _alone, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ffmpeg.decode_video(content, 0).numpy()
    except NotImplementedError as error:
        raise ImportError(
            "tensorflow-io reads video where the machine has the libraries of "
            "FFmpeg 4, 3.4 or 2.8 and the TensorFlow that it was compiled "
            'for; `decoder="pyav"` brings its own. Received: '
            f"{str(error).splitlines()[0]}"
        ) from error
    # TensorFlow's errors share no base but this.
    except Exception as error:
        raise ValueError(str(error).splitlines()[0][:200]) from None


def scaled(values: Array) -> Array:
    """Return samples of any dtype in [-1, 1]."""
    if values.dtype.kind == "f":
        return values.astype("float32")
    if values.dtype.kind == "u":
        values = values.astype("float32") - 128
        return values / 128
    size = 8 * values.dtype.itemsize - 1
    return (values / np.float64(2**size)).astype("float32")
