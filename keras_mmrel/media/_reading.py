"""Files that a table names: where they are, and why one cannot be read."""

import json
import os
import struct
import tempfile
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# What decoders raise for bytes that they do not understand.
UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
)


class WrongCell(ValueError):
    """A cell beside that of the file, without which it cannot be read."""


def reason_of(error: BaseException) -> str:
    """Return in a few words why a file could not be read."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:200] or type(error).__name__


def find_files(cells: Any, root: Path) -> list[Path | None]:
    """Return the path in each cell, `None` where it is empty."""
    paths: list[Path | None] = []
    for cell, is_there in zip(cells, cells.notna(), strict=True):
        text = str(cell) if is_there else ""
        paths.append(root / text if text.strip() else None)
    return paths


def _exists(path: Path | None) -> bool:
    try:
        return path is not None and path.exists()
    except OSError:
        # It may be there; who opens it will know why it cannot be read.
        return True


def unreadable(row: Any, column: str, file: Any, reason: str) -> ValueError:
    """Return the error of a file that cannot be read.

    Args:
        row: What the table calls the row.
        column: The column that names the file.
        file: The file.
        reason: Why it cannot be read.
    """
    return ValueError(
        f"Row {row!r}, column '{column}' must name a file that can be read; "
        '`on_error="missing"` counts others as missing. Received: '
        f"'{file}': {reason}"
    )


class UnreadableFiles:
    """What could not be read, told by every thread and process that reads.

    It is a list in a file of its own, since processes share nothing else.
    """

    def __init__(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix="keras_mmrel_", suffix=".l")
        os.close(handle)
        weakref.finalize(self, _remove, self.path, os.getpid())

    def __getstate__(self) -> dict:
        # A copy in another process writes there, and removes nothing.
        return {"path": self.path}

    def add(self, row: int, column: str, file: str, reason: str) -> None:
        line = json.dumps([row, column, file, reason]) + "\n"
        # One write of a few bytes at the end of a file is never torn.
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def read(self) -> list[tuple[int, str, str, str]]:
        """Return `(row, column, file, reason)`, each row and column once."""
        found: dict[tuple, tuple] = {}
        for line in Path(self.path).read_text().splitlines():
            row, column, file, reason = json.loads(line)
            found[row, column] = (row, column, file, reason)
        return [found[key] for key in sorted(found)]


def _remove(path: str, process: int) -> None:
    """Remove the list, unless this is a process that was forked off."""
    if os.getpid() == process:
        Path(path).unlink(missing_ok=True)


def check_found(name: str, paths: Sequence[Path | None]) -> list[Path | None]:
    """Return paths with `None` where no file is; refuse a table of none.

    Args:
        name: Name of the modality.
        paths: What `find_files` made of the table.
    """
    found = [path if _exists(path) else None for path in paths]
    lost = [
        i for i, (p, f) in enumerate(zip(paths, found, strict=True)) if p != f
    ]
    if lost and not any(found):
        raise ValueError(
            f"Modality '{name}' must have a file that exists; `root` names the "
            "folder that paths are relative to. Received: "
            f"{str(paths[lost[0]])!r} and {len(lost) - 1} more"
        )
    return found
