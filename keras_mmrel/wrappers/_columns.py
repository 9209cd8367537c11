"""Which columns of a table are which modality."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.contract import Array

# Name of the only modality of a table without groups.
ALL = "features"


def column_groups(
    groups: Any, count: int, names: Sequence[str] | None
) -> dict[str, list[int]]:
    """Modality name -> numbers of its columns.

    Args:
        groups: `None` for one modality of all columns; or modality name -> a
            slice, or a sequence of numbers or names of columns.
        count: Number of columns of the table.
        names: Their names, if they have some.

    Raises:
        ValueError: If `groups` is none of these, or a column is not there.
    """
    if groups is None:
        return {ALL: list(range(count))}
    if not isinstance(groups, Mapping) or not groups:
        raise ValueError(
            "`modalities` must be a dict of modality name -> columns for a "
            f"table. Received: modalities={groups!r}"
        )
    return {
        name: _numbers(name, group, count, names)
        for name, group in groups.items()
    }


def _numbers(
    modality: str, group: Any, count: int, names: Sequence[str] | None
) -> list[int]:
    if isinstance(group, slice):
        found = _slice(modality, group, count)
    elif isinstance(group, str) or not np.iterable(group):
        found = []
    else:
        found = [_number(modality, c, count, names) for c in group]
    if not found:
        raise ValueError(
            "`modalities` must give each modality a slice that is not empty, "
            "or a list of numbers or names of columns. Received: "
            f"{modality!r}: {group!r}"
        )
    return found


def _slice(modality: str, group: slice, count: int) -> list[int]:
    try:
        return list(range(count))[group]
    except TypeError as error:
        raise ValueError(
            "`modalities` must have slices of numbers. Received: "
            f"{modality!r}: {group!r}"
        ) from error


def _number(
    modality: str, column: Any, count: int, names: Sequence[str] | None
) -> int:
    if isinstance(column, str):
        if names is not None and column in names:
            return list(names).index(column)
        known = "a table with names" if names is None else f"one of {[*names]}"
        raise ValueError(
            f"`modalities` must name columns of {known}. Received: "
            f"{column!r} for '{modality}'"
        )
    whole = isinstance(column, int | np.integer)
    if not whole or isinstance(column, bool) or not -count <= column < count:
        raise ValueError(
            f"`modalities` must number the columns 0 to {count - 1}. "
            f"Received: {column!r} for '{modality}'"
        )
    return int(column) % count


def split_columns(
    table: Array, groups: Mapping[str, Sequence[int]]
) -> dict[str, Array]:
    """Modality name -> `(samples, columns)` in float32."""
    return {
        name: np.ascontiguousarray(table[:, list(columns)], "float32")
        for name, columns in groups.items()
    }
