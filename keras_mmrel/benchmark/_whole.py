"""Files of a folder that are whole, or not there."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

# Seconds after which nobody writes to a file any more that was not finished.
FORGOTTEN = 3600.0


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one sentence that a folder takes no more, whatever stopped it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            "`folder` must be a folder that can be written to, with space "
            "left; what it holds is whole, and the same command goes on from "
            f"here. Received: folder={str(folder)!r} ({_reason(error)})"
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, and name it when it is on the disk."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written, an hour ago or more."""
    for path in [*folder.rglob("*.part"), *folder.rglob("*.old")]:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN:
                path.unlink()
