"""Sound and moving pictures by PyAV, which brings its own FFmpeg."""

import contextlib
import math
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.optional import require

USER = "media"
# Formats that say how long they are; others have it guessed.
MEASURED = {"avi", "flac", "flv", "matroska,webm", "wav"}
MEASURED |= {"mov,mp4,m4a,3gp,3g2,mj2"}
# What is nearer is decoded up to, which is exact in every format.
NEAR = 10.0  # seconds
# What a codec needs to hear before it is right, after a jump.
LEAD = 0.5


@contextlib.contextmanager
def _opened(path: Path, kind: str) -> Iterator[tuple[Any, Any]]:
    """Give the file and its first stream of a kind, and close it."""
    av = require("av", USER)
    try:
        with av.open(str(path), metadata_errors="replace") as file:
            streams = getattr(file.streams, kind)
            if not streams:
                raise ValueError(f"no {kind} in it")
            yield file, streams[0]
    except av.error.FFmpegError as error:
        raise ValueError(str(error.strerror)) from None


def _origin(stream: Any) -> float:
    """Second at which a stream begins."""
    start = stream.start_time
    return 0.0 if start is None else float(start * stream.time_base)


def _known_duration(file: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if file.duration:
        return file.duration / 1_000_000
    return None


def _jump(file: Any, stream: Any, second: float) -> None:
    place = _origin(stream) + second
    file.seek(int(place / stream.time_base), stream=stream)


def _check_whole(file: Any, stream: Any, reached: float, end: float) -> None:
    """Refuse a file that ends long before it says it does.

    Args:
        file: The file.
        stream: Its stream.
        reached: Second at which it ended.
        end: Second up to which it is wanted.
    """
    known = _known_duration(file, stream)
    if known is None or file.format.name not in MEASURED:
        return
    if reached < min(known, end) - 0.5:
        raise ValueError(f"truncated, {reached:.1f} of {known:.1f} seconds")


# -- Sound -------------------------------------------------------------------


def duration(path: Path, kind: str = "audio") -> float:
    """Return the length of a file in seconds."""
    with _opened(path, kind) as (file, stream):
        known = _known_duration(file, stream)
        if known is not None:
            return known
        times = [f.time for f in file.decode(stream) if f.time is not None]
        if not times:
            raise ValueError(f"no {kind} in it")
        return times[-1] - _origin(stream)


def audio(path: Path, sample_rate: int, start: float, seconds: float) -> Array:
    """Return `(frames, channels)` of a segment, shorter where a file ends."""
    av = require("av", USER)
    parts: list[Array] = []
    held, rate = 0, 0
    with _opened(path, "audio") as (file, stream):
        jumps = start > NEAR
        if jumps:
            _jump(file, stream, start - LEAD)
        as_floats = av.AudioResampler(format="fltp")
        first = last = 0
        for frame in file.decode(stream):
            if not rate:
                rate = frame.sample_rate
                # Without a jump samples are counted: Ogg's times are early.
                begin = 0.0
                if jumps and frame.time is not None:
                    begin = frame.time - _origin(stream)
                first = max(round((start - begin) * rate), 0)
                last = first + math.ceil(seconds * rate) + rate // 10
            for part in as_floats.resample(frame):
                parts.append(part.to_ndarray().T)
                held += len(parts[-1])
            if held >= last:
                break
        else:
            reached = start + (held - first) / max(rate, 1)
            _check_whole(file, stream, reached, start + seconds)
    if held <= first:
        return np.zeros((0, 1), "float32")
    values = np.concatenate(parts)[first:last]
    return resampled(values, rate, sample_rate)


def resampled(values: Array, rate: int, sample_rate: int) -> Array:
    """Return samples `(frames, channels)` at another rate."""
    if rate == sample_rate:
        return values
    av = require("av", USER)
    columns = []
    for column in np.ascontiguousarray(values.T):
        frame = av.AudioFrame.from_ndarray(column[None], "fltp", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler("fltp", "mono", sample_rate)
        parts = [*resampler.resample(frame), *resampler.resample(None)]
        columns.append(np.concatenate([p.to_ndarray()[0] for p in parts]))
    return np.stack(columns, axis=1)


# -- Moving pictures ---------------------------------------------------------


def video(path: Path, choose: Callable[[float], Array], end: float) -> list:
    """Return pictures, RGB of Pillow, as they are shown at some moments.

    Args:
        path: The file.
        choose: Function from a duration to moments, in seconds, in order.
        end: Second up to which it is wanted at most.
    """
    length = duration(path, "video")
    moments = [float(t) for t in choose(length)]
    with _opened(path, "video") as (file, stream):
        stream.thread_type = "AUTO"
        return _shown(file, stream, moments, min(length, end))


def _shown(file: Any, stream: Any, moments: list[float], end: float) -> list:
    pictures: list = []
    shown, time, jumped = None, 0.0, -1.0
    origin = _origin(stream)
    while len(pictures) < len(moments):
        due = moments[len(pictures)]
        if due - time > NEAR:
            _jump(file, stream, due)
            shown, jumped = None, due
        for frame in file.decode(stream):
            if frame.time is not None:
                time = frame.time - origin
            if shown is None:
                shown = frame
            # The one before is shown until this one is.
            while len(pictures) < len(moments) and time > due:
                pictures.append(_upright(shown))
                due = moments[min(len(pictures), len(moments) - 1)]
            shown = frame
            # One jump a moment: it may land far before it.
            if len(pictures) == len(moments) or (
                due - time > NEAR and due > jumped
            ):
                break
        else:
            if shown is None:
                raise ValueError("no picture in it")
            _check_whole(file, stream, time, end)
            last = _upright(shown)
            pictures += [last] * (len(moments) - len(pictures))
    return pictures


def _upright(frame: Any) -> Any:
    """Return a frame as a picture, turned as the camera says."""
    image = frame.to_image()
    turn = int(getattr(frame, "rotation", 0) or 0)
    return image.rotate(turn, expand=True) if turn % 360 else image
