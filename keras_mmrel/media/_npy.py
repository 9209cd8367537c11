"""Arrays from `.npy` files, whose shape is looked at before anything else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mmrel.contract import Array


def read_npy(path: Path, shape: Sequence[int | None], dtype: str) -> Array:
    """Return the array of a file.

    Args:
        path: The file.
        shape: What it must have; `None` for an axis of any size.
        dtype: What it is converted to, without losing a fraction.

    Raises:
        ValueError: If it holds another array, or none.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"an array file of version {version}")
        read = getattr(
            np.lib.format, f"read_array_header_{version[0]}_{version[1]}"
        )
        found, _, kind = read(file)
        if len(found) != len(shape) or any(
            known not in (None, size)
            for known, size in zip(shape, found, strict=True)
        ):
            expected = str(tuple(shape)).replace("None", "any")
            raise ValueError(f"shape {found}, not {expected}")
        if not np.can_cast(kind, dtype, "same_kind"):
            raise ValueError(f"{kind}, which is no {dtype}")
        file.seek(0)
        values = np.load(file, allow_pickle=False)
    return values.astype(dtype)
