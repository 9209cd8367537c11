"""Labels of a table as class numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame


def read_labels(
    table: Frame, label: str | None, class_names: Sequence[str] | None
) -> tuple[Array | None, list[str] | None]:
    """Return class numbers of all rows, and the names of the classes.

    Args:
        table: The rows.
        label: The column, or `None`.
        class_names: Names in the order of their numbers, or `None` for the
            sorted names in the column, where it has names.

    Raises:
        ValueError: If a row has no label, or one that is no class.
    """
    names = None if class_names is None else list(class_names)
    if label is None:
        return None, names
    cells = table[label]
    lacks = cells.isna() | (cells.astype(str).str.strip() == "")
    _refuse(table, label, lacks, "a label in every row")
    values = cells.to_numpy()
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype("int64")
    if values.dtype.kind in "iu":
        most = 2**31 if names is None else len(names)
        wrong = (values < 0) | (values >= most)
        _refuse(table, label, wrong, f"class numbers in [0, {most})")
        return values.astype("int32"), names
    texts = np.array([str(value).strip() for value in values], object)
    if names is None:
        names = sorted(set(texts))
    numbers = {name: number for number, name in enumerate(names)}
    unknown = np.array([text not in numbers for text in texts])
    _refuse(table, label, unknown, f"one of the classes {_few(names)}")
    return np.array([numbers[text] for text in texts], "int32"), names


def _few(names: Sequence[str]) -> str:
    return (
        f"{names[:10]} and {len(names) - 10} more"
        if (len(names) > 10)
        else f"{names}"
    )


def _refuse(table: Frame, label: str, wrong: Any, expected: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = rows[0]
        raise ValueError(
            f"Column '{label}' must have {expected}. Received: "
            f"{table[label].iloc[row]!r} in row {table.index[row]!r}, "
            f"{len(rows)} such row(s)"
        )
