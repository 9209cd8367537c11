"""Two or more views of the same samples in a MATLAB file of version 5."""

import io
import struct
import zlib
from typing import Any

import numpy as np

from keras_mmrel.datasets._published_file import LIMIT
from keras_mmrel.datasets._published_file import check_table
from keras_mmrel.optional import require

# A header, then elements, each after its type and its size in bytes.
HEADER = 128
TAG = struct.Struct("<II")
COMPRESSED = 15


def read_views(
    content: bytes,
    views: tuple[str, dict[str, int]],
    labels: tuple[str, int],
    samples: int,
    user: str,
    *,
    rows: bool = False,
    first: int = 1,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the views, one row a sample, and class numbers from 0.

    Args:
        content: The file's bytes.
        views: Name of the cell of arrays, whose columns are samples, and the
            number of features of each by the name it gets.
        labels: Name of the class numbers, or of a cell of them whose first
            entry counts, and the number of classes.
        samples: Number of samples.
        user: What needs SciPy, for its message.
        rows: Whether rows of the arrays are samples, not columns.
        first: Number of the first class.

    Raises:
        ValueError: If the content is damaged, unpacks to too much, or is not
            as described.
    """
    cell, features = views
    truth, num_classes = labels
    variables = read_variables(content, [cell, truth], user)
    arrays = _entries(variables, cell)
    if len(arrays) != len(features):
        raise ValueError(f"{len(arrays)} views, not {len(features)}")
    x = {}
    for (name, size), array in zip(features.items(), arrays, strict=True):
        shape = (samples, size) if rows else (size, samples)
        table = check_table(name, array, shape)
        # Small unsigned integers would wrap around when they are scaled.
        table = table.astype(float) if table.dtype.kind in "iu" else table
        x[name] = table if rows else table.T
    numbers = np.ravel(_entries(variables, truth)[0])
    y = check_table(truth, numbers[:, None], (samples, 1))[:, 0].astype(float)
    last = first + num_classes - 1
    bad = sorted(set(y.tolist()) - set(range(first, last + 1)))
    if bad:
        raise ValueError(f"labels {bad[:5]}, not integers in [{first}, {last}]")
    return x, y.astype("int32") - first


def read_variables(
    content: bytes, names: list[str], user: str
) -> dict[str, Any]:
    """Return some variables of a file's bytes.

    Raises:
        ValueError: If the content is damaged, unpacks to too much, or has no
            such variable.
    """
    scipy_io = require("scipy.io", user)
    _check_sizes(content)
    try:
        variables = scipy_io.loadmat(io.BytesIO(content), variable_names=names)
    # SciPy's parser raises whatever a damage leads it to.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    missing = [name for name in names if name not in variables]
    if missing:
        raise ValueError(f"no variable {missing[0]!r}")
    return variables


def _entries(variables: dict[str, Any], name: str) -> list[np.ndarray]:
    """Entries of a cell; what is no cell is the only entry."""
    value = np.asarray(variables[name])
    entries = list(value.ravel()) if value.dtype == object else [value]
    if not entries:
        raise ValueError(f"an empty {name!r}")
    return entries


def _check_sizes(content: bytes) -> None:
    """Unpack within `LIMIT`, element by element, and keep nothing."""
    position, total = HEADER, 0
    while position + TAG.size <= len(content):
        kind, size = TAG.unpack_from(content, position)
        position += TAG.size
        element = memoryview(content)[position : position + size]
        if len(element) != size:
            raise ValueError(f"{len(content):,} bytes, which end too early")
        total += _unpacked(element) if kind == COMPRESSED else size
        if total > LIMIT:
            raise ValueError(f"more than {LIMIT:,} bytes when unpacked")
        position += size
    if position == HEADER:
        raise ValueError("no MATLAB file of version 5")


def _unpacked(element: memoryview) -> int:
    try:
        return len(zlib.decompressobj().decompress(element, LIMIT + 1))
    except zlib.error as error:
        raise ValueError(f"a damaged element ({error})") from None
