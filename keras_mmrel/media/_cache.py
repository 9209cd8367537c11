"""Decoded arrays on disk, keyed by what a file holds and by settings."""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.user_warning import warn

# Goes up when a decoder gives other arrays for the same file and settings.
VERSION = 1
DIGEST = 32


class Cache:
    """Decoded arrays in a folder, which any number of processes may share.

    An entry is the digest of its bytes and the bytes. Shape and dtype are the
    reader's, so no more is read than they need, and what was cut off or
    altered is not there. It is written under another name and renamed.

    Args:
        folder: Folder, which is made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                "`cache` must be a folder, or be made as one. Received: "
                f"cache={str(folder)!r} ({error.strerror})"
            ) from error
        # Path -> its size, its time and the digest of its content.
        self._known: dict[Path, tuple[int, int, bytes]] = {}

    def key(self, path: Path, settings: dict[str, Any]) -> str:
        """Return the name of the entry of a file under some settings."""
        text = json.dumps([VERSION, settings], sort_keys=True, default=repr)
        digest = hashlib.blake2b(self._content(path), digest_size=DIGEST)
        digest.update(text.encode())
        return digest.hexdigest()

    def _content(self, path: Path) -> bytes:
        """Digest of a file, which is read again if it has changed.

        That of a folder is made of the names and the digests of its files.
        """
        if path.is_dir():
            together = hashlib.blake2b()
            for inner in sorted(path.iterdir()):
                if inner.is_file():
                    together.update(_digest(os.fsencode(inner.name)))
                    together.update(self._content(inner))
            return together.digest()
        status = path.stat()
        size, time = status.st_size, status.st_mtime_ns
        known = self._known.get(path)
        if known is not None and known[:2] == (size, time):
            return known[2]
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "blake2b").digest()
        self._known[path] = size, time, content
        return content

    def _entry(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def get(self, key: str, shape: tuple[int, ...], dtype: str) -> Array | None:
        """Return an array, or `None` where there is no sound entry."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            with open(self._entry(key), "rb") as file:
                if os.fstat(file.fileno()).st_size != DIGEST + size:
                    return None
                digest, content = file.read(DIGEST), file.read(size)
        except OSError:
            return None
        if digest != _digest(content):
            return None
        return np.frombuffer(content, dtype).reshape(shape)

    def put(self, key: str, array: Array) -> None:
        """Keep an array; one that cannot be kept is warned of, not lost."""
        entry = self._entry(key)
        content = np.ascontiguousarray(array).tobytes()
        partial = entry.with_name(f"{key}.{uuid.uuid4().hex}.part")
        try:
            entry.parent.mkdir(exist_ok=True)
            try:
                partial.write_bytes(_digest(content) + content)
                os.replace(partial, entry)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            warn(
                f"The cache {self.folder} could not be written to, and is not "
                f"used ({error.strerror})."
            )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()
