"""Unpack an archive of many files once, and only as a whole."""

import json
import lzma
import os
import shutil
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from pathlib import PurePosixPath
from typing import IO

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.archives import MEBIBYTE

# No published data set has a tenth of it.
MEMBERS = 1_000_000
# The name of what says that a folder is whole, and of which archive.
RECORD = ".unpacked_from.json"
BROKEN = (
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
# What a member is called, how many bytes it has, and what reads them.
Member = tuple[PurePosixPath, int, IO[bytes]]


def unpacked(archive: Path, most: int, target: Path | None = None) -> Path:
    """Return the folder of what an archive holds, which is made if it lacks.

    Whatever stops it, a part of an archive never counts as all of it. Of a
    ZIP or TAR archive there are regular files only, links are passed over,
    and none is written outside of the folder.

    Args:
        archive: The archive.
        most: Number of bytes that its files have at most, together.
        target: The folder, named after the content of the archive; by default
            `<archive>.unpacked`.

    Raises:
        ValueError: If it is no whole archive, or larger than that.
        OSError: If the folder cannot be written.
    """
    status = archive.stat()
    record: dict = {"bytes": status.st_size, "time": status.st_mtime_ns}
    if target is None:
        target = archive.with_name(f"{archive.name}.unpacked")
    else:
        record = {"content": target.name}
    if target.exists():
        if _read_record(target) != record:
            raise ValueError(
                f"{target} must be what was unpacked from {archive}, which "
                "has changed since: delete it and call again. Received: a "
                "folder of another archive"
            )
        return target
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    print(f"Unpacking {archive} into {target}")
    try:
        partial.mkdir(parents=True)
        _unpack(archive, partial, most)
        (partial / RECORD).write_text(json.dumps(record))
        _keep(partial, target, record)
    except (*BROKEN, ValueError) as error:
        raise ValueError(
            f"{archive} must be a whole ZIP or TAR archive of files, "
            f"{_size(most)} of them at most; nothing was kept. "
            f"Received: {_reason(error)}"
        ) from None
    except OSError as error:
        raise OSError(
            f"{target.parent} must be a folder with room for what is in "
            f"{archive}; nothing was kept, so unpack it elsewhere and pass "
            f"that folder. Received: {error.strerror}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _reason(error: Exception) -> str:
    """The first line of what is wrong; of TAR there is one a compression."""
    first = (str(error).splitlines() or [""])[0].rstrip(": ")
    return first[:200] or type(error).__name__


def _keep(partial: Path, target: Path, record: dict) -> None:
    try:
        os.replace(partial, target)
    except OSError:
        # Another process may have been faster with the same archive.
        if _read_record(target) != record:
            raise


def _size(number: int) -> str:
    if number >= GIBIBYTE:
        return f"{number / GIBIBYTE:,.0f} GiB"
    return f"{number / MEBIBYTE:,.0f} MiB"


def _read_record(folder: Path) -> object:
    try:
        return json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None


def _unpack(archive: Path, folder: Path, most: int) -> None:
    members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    left = most
    for count, (name, size, source) in enumerate(members(archive)):
        left -= size
        if count >= MEMBERS:
            raise ValueError(f"more than {MEMBERS:,} files")
        if left < 0:
            raise ValueError(f"more than {most:,} bytes when unpacked")
        file = folder / name
        if ".." in name.parts or not file.resolve().is_relative_to(
            folder.resolve()
        ):
            raise ValueError(f"the name '{str(name)[:80]}', which leaves it")
        if file.exists():
            raise ValueError(f"'{str(name)[:80]}' twice")
        file.parent.mkdir(parents=True, exist_ok=True)
        with source, open(file, "xb") as opened:
            shutil.copyfileobj(source, opened, 1 << 20)
        if file.stat().st_size != size:
            raise ValueError(f"'{str(name)[:80]}' without its end")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            # The kind of a file that Unix has, 0 where nothing is known.
            kind = info.external_attr >> 28
            if not info.is_dir() and kind in (0, 8):
                name = PurePosixPath(info.filename)
                yield name, info.file_size, opened.open(info)


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as opened:
        for info in opened:
            source = opened.extractfile(info) if info.isreg() else None
            if source is not None:
                yield PurePosixPath(info.name), info.size, source
