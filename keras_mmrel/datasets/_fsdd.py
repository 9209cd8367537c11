"""Read the clips of the Free Spoken Digit Dataset (FSDD).

A clip is the WAV file `recordings/{digit}_{speaker}_{index}.wav` of the
archive that GitHub serves for the repository, or of a folder.
"""

import io
import os
import re
import wave
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from pathlib import PurePosixPath

import numpy as np

from keras_mmrel.archives import MEBIBYTE
from keras_mmrel.archives import check_sizes
from keras_mmrel.datasets._download import cache_folder
from keras_mmrel.datasets._download import fetch

ARCHIVE = "free-spoken-digit-dataset-master.zip"
URL = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/"
    "heads/master.zip"
)
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
PUBLISHED = Counter(dict.fromkeys(product(SPEAKERS, range(10)), 50))
FORMAT = (8000, 1, 2)
# What is published has 16 MB, and clips of 40 KB at most.
ARCHIVE_SIZE = 64 * MEBIBYTE
CLIP_SIZE = MEBIBYTE
TOTAL_SIZE = 512 * MEBIBYTE
CLIPS = 100_000
NAME = re.compile(r"([0-9])_([^_]+)_([0-9]+)\.wav")
UNREADABLE = (
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    wave.Error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Clip:
    """One spoken digit.

    Args:
        digit: The digit that is spoken.
        speaker: Name of the speaker.
        samples: `(samples,)` in float32, not scaled.
    """

    digit: int
    speaker: str
    samples: np.ndarray


def load_clips(path: str | os.PathLike | None, url: str = URL) -> list[Clip]:
    """Return all clips, sorted by file name as text."""
    if path is None:
        source = cache_folder("fsdd") / ARCHIVE
        fetch(url, source, None, _check_published, ARCHIVE_SIZE)
    else:
        source = _find(path)
    try:
        clips = _read(source)
        _check_balance(clips)
    except ValueError as error:
        raise ValueError(
            f"{source} must hold FSDD's clips as published, three or more "
            "speakers and as many clips of each digit of each speaker: "
            f"replace it by {URL}. Received: {error}"
        ) from None
    return clips


def _find(path: str | os.PathLike) -> Path:
    """Return the archive, or the folder whose files are the clips."""
    given = Path(path).expanduser()
    if given.is_file():
        return given
    if any(given.glob("*.wav")):
        return given
    if (given / "recordings").is_dir():
        return given / "recordings"
    if (given / ARCHIVE).is_file():
        return given / ARCHIVE
    raise FileNotFoundError(
        f"`path` must be FSDD's archive '{ARCHIVE}', a folder that holds it, "
        "or the folder `recordings` with the WAV files; get the archive from "
        f"{URL}, or leave `path` out to download it. Received: "
        f"path={os.fspath(path)!r}"
    )


def _read(source: Path) -> list[Clip]:
    if source.is_dir():
        files = [file for file in source.iterdir() if file.is_file()]
        for file in files:
            if file.stat().st_size > CLIP_SIZE:
                raise ValueError(
                    f"'{file.name}': {file.stat().st_size:,} bytes, not at "
                    f"most {CLIP_SIZE:,}"
                )
        return _read_all({file.name: file.read_bytes for file in files})
    try:
        with zipfile.ZipFile(source) as archive:
            check_sizes(archive, CLIPS, CLIP_SIZE, TOTAL_SIZE)
            return _read_all(_members(archive))
    except zipfile.BadZipFile as error:
        raise ValueError(f"no ZIP archive ({error})") from None


def _members(archive: zipfile.ZipFile) -> dict[str, Callable[[], bytes]]:
    """Return the reader of each file in the folder `recordings`."""
    readers: dict[str, Callable[[], bytes]] = {}
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        if path.parent.name != "recordings" or member.is_dir():
            continue
        if path.name in readers:
            raise ValueError(f"'{path.name}' twice")
        readers[path.name] = partial(archive.read, member)
    return readers


def _read_all(readers: dict[str, Callable[[], bytes]]) -> list[Clip]:
    """Return the clips of `file name -> function that reads it`.

    Hidden files, which file managers leave behind, are passed over.
    """
    names = sorted(name for name in readers if not name.startswith("."))
    clips = []
    for name in names:
        try:
            clips.append(_parse(name, readers[name]()))
        except UNREADABLE as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"'{name}': {reason}") from None
    if not clips:
        raise ValueError("no file in a folder `recordings`")
    return clips


def _parse(name: str, content: bytes) -> Clip:
    fields = NAME.fullmatch(name)
    if not fields:
        raise ValueError("a name other than {digit}_{speaker}_{index}.wav")
    with wave.open(io.BytesIO(content)) as file:
        found = file.getframerate(), file.getnchannels(), file.getsampwidth()
        count = file.getnframes()
        frames = file.readframes(count)
    if found != FORMAT:
        raise ValueError(
            f"{found[0]} Hz, {found[1]} channel(s), {8 * found[2]} bits, not "
            f"{FORMAT[0]} Hz, {FORMAT[1]} channel, {8 * FORMAT[2]} bits"
        )
    if len(frames) != count * FORMAT[2]:
        raise ValueError(f"{len(frames)} of {count * FORMAT[2]} bytes of sound")
    samples = np.frombuffer(frames, "<i2").astype("float32")
    if not samples.any():
        raise ValueError("no sound")
    return Clip(int(fields[1]), fields[2], samples)


def _count(clips: list[Clip]) -> Counter[tuple[str, int]]:
    return Counter((clip.speaker, clip.digit) for clip in clips)


def _check_balance(clips: list[Clip]) -> None:
    """Refuse clips unless each speaker says each digit equally often."""
    counts = _count(clips)
    speakers = sorted({clip.speaker for clip in clips})
    expected = max(counts.values())
    for speaker, digit in product(speakers, range(10)):
        found = counts[speaker, digit]
        if found != expected:
            raise ValueError(
                f"{found} clip(s) of digit {digit} by '{speaker}', and "
                f"{expected} of another digit or speaker"
            )
    if len(speakers) < 3:
        raise ValueError(f"{len(speakers)} speaker(s): {speakers}")


def _check_published(archive: Path) -> None:
    """Refuse a download with other speakers or other numbers of clips."""
    found = _count(_read(archive))
    if found != PUBLISHED:
        raise ValueError(
            f"{_describe(found)}, not {_describe(PUBLISHED)}, the same number "
            "of each digit"
        )


def _describe(counts: Counter[tuple[str, int]]) -> str:
    speakers = sorted({speaker for speaker, _ in counts})
    return f"{counts.total()} clips by {speakers}"
