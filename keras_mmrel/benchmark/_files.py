"""Data sets of a user, as files."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mmrel.archives import GIBIBYTE
from keras_mmrel.archives import check_sizes
from keras_mmrel.benchmark._csv import counts_up
from keras_mmrel.contract import Array

# Times that a file may unpack to its size, above a gibibyte.
PACKED = 100
ARRAYS = 10_000
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
UNREADABLE = (
    EOFError, MemoryError, NotImplementedError, OSError, RuntimeError,
    TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
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
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(
            f"`path` must be an undamaged `.npz` file of plain arrays. "
            f"Received: {str(path)!r} ({error})"
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


def read_arrays(path: Path) -> dict[str, Array]:
    """Read all arrays of a `.npz` file, whoever made it.

    Raises:
        ValueError: If it is damaged, or holds more or something else than it
            says, or would unpack to a hundred times its size and more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = path.stat().st_size
            most = max(PACKED * packed, GIBIBYTE)
            check_sizes(archive, ARRAYS, most, most)
            for info in archive.infolist():
                _check_array(archive, info)
        with (
            path.open("rb") as opened,
            np.load(opened, allow_pickle=False) as file,
        ):
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _check_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Refuse a header that asks for more memory than data follow."""
    if not info.filename.endswith(".npy"):
        raise ValueError(f"'{info.filename[:80]}' is no array")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"'{info.filename[:80]}' is no plain array")
        shape, _, dtype = HEADERS[version](file)
        expected = math.prod(shape) * dtype.itemsize
        found = info.file_size - file.tell()
    if not dtype.hasobject and expected != found:
        raise ValueError(
            f"'{info.filename[:80]}' has {found:,} bytes of an array of "
            f"{expected:,}"
        )


def counting_columns(x: Mapping[str, Array]) -> dict[str, int]:
    """Modality -> the first of its columns that only counts the rows."""
    found = {}
    for name, values in x.items():
        # What has several arrays is no table.
        if (
            isinstance(values, Mapping)
            or values.ndim != 2
            or values.dtype.kind not in "iuf"
        ):
            continue
        for column in range(values.shape[1]):
            if counts_up(values[:, column]):
                found[name] = column
                break
    return found
