"""Readers of sound and video, one a file, all with the same functions.

A reader of sound has `duration(path)`, in seconds, and
`audio(path, sample_rate, start, seconds)`, which returns `(frames, channels)`
in float32. One of video has `video(path, choose, end)`, which returns pictures
of Pillow. They raise a `ValueError` for what they cannot read.
"""

from pathlib import Path
from types import ModuleType

from keras_mmrel.media import _pyav
from keras_mmrel.media import _riff
from keras_mmrel.media import _soundfile
from keras_mmrel.media import _tensorflow_io

AUDIO: dict[str, ModuleType] = {
    "pyav": _pyav,
    "soundfile": _soundfile,
    "tensorflow_io": _tensorflow_io,
}
VIDEO: dict[str, ModuleType] = {"pyav": _pyav, "tensorflow_io": _tensorflow_io}


def audio_decoder(name: str, path: Path) -> ModuleType:
    """Return the reader of a name, `"auto"` by how the file begins."""
    with open(path, "rb") as file:
        begins = file.read(12)
        if _riff.is_wave(begins):
            _riff.check_whole(file)
    if name != "auto":
        return AUDIO[name]
    is_plain = _riff.is_wave(begins) or begins.startswith(b"fLaC")
    return _soundfile if is_plain else _pyav
