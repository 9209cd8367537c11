"""Download a file once, and only as a whole."""

import hashlib
import http.client
import os
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance

# Where files of a user are.
PATH = Either(Instance((str, os.PathLike), "a path"), None)
BLOCK = 1 << 16


def cache_folder(name: str) -> Path:
    """Return the folder of a data set in Keras' cache (see `KERAS_HOME`)."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    return home / "datasets" / "keras_mmrel" / name


def fetch(
    url: str,
    target: Path,
    sha256: str | None,
    check: Callable[[Path], Any],
    limit: int,
) -> None:
    """Make sure that `target` is the whole file that `url` serves.

    A file of an earlier call is used without the network once its digest is
    confirmed. A new one is written under another name and gets the name
    `target` only when it is complete and verified, so whatever stops a
    download, no part of a file ever counts as done.

    Args:
        url: Where the file is.
        target: Where the file goes.
        sha256: Digest of the published file. Where it is `None` (not known to
            this library), the digest of the completed download is remembered
            in `<target>.sha256`, and a later change is still found.
        check: Function that raises a `ValueError` if the content is not as
            it should be; runs on a new download before it is kept.
        limit: Number of bytes that the published file has at most; no more
            are taken from whoever answers.

    Raises:
        OSError: If the download fails or ends early, or the cache cannot be
            written to.
        ValueError: If the content is not the published one.
    """
    record = target.with_name(f"{target.name}.sha256")
    for path in (target, record):
        if path.exists() and not path.is_file():
            raise ValueError(
                f"The cached file {path} must be a file: delete what is there "
                "and call again. Received: a folder"
            )
    if target.exists() and (sha256 or record.exists()):
        _confirm(target, sha256 or _remembered(record), url)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The cache {target.parent} must be a folder that can be written "
            "to; name another one by the environment variable `KERAS_HOME`, "
            "or pass a folder that holds the files as `path`. Received: "
            f"{error.strerror}"
        ) from error
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        _download(url, partial, limit)
        received = _digest(partial)
        try:
            if sha256 and received != sha256:
                raise ValueError(f"SHA-256 {received}, not {sha256}")
            check(partial)
        except ValueError as error:
            raise ValueError(
                f"The download of {url} must be the published file; nothing "
                "was kept, so try again, or pass a folder that holds the "
                f"files as `path`. Received: {error}"
            ) from None
        if not sha256:
            record.write_text(f"{received}\n")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _confirm(target: Path, sha256: str, url: str) -> None:
    received = _digest(target)
    if received != sha256:
        raise ValueError(
            f"The cached file {target} must be the one that was downloaded "
            f"from {url}, and has been truncated or altered since: delete it "
            f"and call again. Received: SHA-256 {received}, not {sha256}"
        )


def _remembered(record: Path) -> str:
    """The digest that was written down, or what stands in its place."""
    return record.read_bytes()[:64].decode("ascii", "replace").strip()


def _download(url: str, partial: Path, limit: int) -> None:
    print(f"Downloading {url}")
    try:
        with (
            urllib.request.urlopen(url, timeout=60) as response,
            open(partial, "xb") as file,
        ):
            expected = response.headers.get("Content-Length")
            known = int(expected) if expected and expected.isdecimal() else None
            if known is not None and known > limit:
                raise OSError(f"{known} bytes, not at most {limit}")
            while block := response.read(BLOCK):
                file.write(block)
                if file.tell() > limit:
                    raise OSError(f"more than {limit} bytes")
            received = file.tell()
        if known is not None and received != known:
            raise OSError(f"{received} bytes of {known}")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{url} must be served in full; nothing was kept, so check the "
            "network and try again, or pass a folder that holds the files "
            f"as `path`. Received: {error!r}"
        ) from error


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
