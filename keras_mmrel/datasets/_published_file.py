"""One file of a published data set, read by its content."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.archives import MEBIBYTE
from keras_mmrel.constraints import Instance

# Where a file of a user is.
FILE = Instance((str, os.PathLike), "a path")
# None of the files takes a tenth of it, packed or not.
LIMIT = 64 * MEBIBYTE


def read_published(
    path: str | os.PathLike, name: str, what: str, read: Callable[[bytes], Any]
) -> Any:
    """Read a file by `read`, whose `ValueError` says what is wrong with it.

    Args:
        path: The file, or a folder that holds it under its published `name`.
        name: Name of the file.
        what: What it holds, for messages.
        read: Function of the file's bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not as published.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / name
    if not file.is_file():
        raise FileNotFoundError(
            f"`path` must be the file '{name}' of {what}, or a folder that "
            f"holds it. Received: path={os.fspath(path)!r}"
        )
    try:
        if file.stat().st_size > LIMIT:
            raise ValueError(
                f"{file.stat().st_size:,} bytes, not at most {LIMIT:,}"
            )
        return read(file.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"The file {file} must be that of {what} as published, and is "
            f"truncated, altered or another one. Received: {error}"
        ) from None


def check_table(name: str, values: Any, shape: tuple[int, int]) -> np.ndarray:
    """Return finite numbers of a shape, or say what they are instead."""
    values = np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{name!r} of {values.dtype}, not of numbers")
    if values.shape != shape:
        raise ValueError(f"{name!r} of shape {values.shape}, not {shape}")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(f"{bad} NaN or infinite values in {name!r}")
    return values
