"""Data sets of a user, as files."""

import zipfile
import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mmrel.benchmark._csv import counts_up
from keras_mmrel.contract import Array

Read = tuple[dict[str, Array], Array]


def read_npz(
    path: Path,
    labels: str = "y",
    modalities: Sequence[str] | None = None,
    index: bool | None = None,
) -> Read:
    """Read named arrays of a `.npz` file.

    Args:
        path: The file.
        labels: Name of the labels.
        modalities: Names of the modalities; by default all others.
        index: `False` if a column that only counts the rows is a feature.
    """
    if not path.is_file():
        absent = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"`path` must be a `.npz` file. Received: {str(path)!r}, "
            f"which {absent}"
        )
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no whole zip file")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (
        ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise ValueError(
            f"`path` must be an undamaged `.npz` file of plain "
            f"arrays. Received: {str(path)!r} ({error})"
        ) from error
    names = modalities or [n for n in arrays if n != labels]
    lost = [n for n in [*names, labels] if n not in arrays]
    if lost or not names:
        raise ValueError(
            f"`modalities` must name arrays of the file, {list(arrays)}. "
            f"Received: {lost or names}"
        )
    if labels in names:
        raise ValueError(
            f"`modalities` must not hold the labels. Received: {names}"
        )
    x = {name: arrays[name] for name in names}
    counting = counting_columns(x) if index is None else {}
    for name, column in counting.items():
        raise ValueError(
            f"`modalities` must hold features only. Received: '{name}', whose "
            f"column {column} only counts the rows; leave it out, or say "
            "`index: false` if it is a feature"
        )
    return x, arrays[labels]


def counting_columns(x: Mapping[str, Array]) -> dict[str, int]:
    """Modality -> the first of its columns that only counts the rows."""
    found = {}
    for name, values in x.items():
        if values.ndim != 2 or values.dtype.kind not in "iuf":
            continue
        for column in range(values.shape[1]):
            if counts_up(values[:, column]):
                found[name] = column
                break
    return found
