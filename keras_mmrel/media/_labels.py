"""Labels of a table as class numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.user_warning import warn


def read_labels(
    table: Frame,
    label: str | None,
    class_names: Sequence[str] | None,
    known: bool = False,
) -> tuple[Array | None, list[str] | None]:
    """Return class numbers of all rows, and the names of the classes.

    Args:
        table: The rows.
        label: The column, or `None`.
        class_names: Names in the order of their numbers, or `None` for the
            sorted names in the column, where it has names.
        known: Whether another table has said what numbers mean.

    Raises:
        ValueError: If a row has no label, or one that is no class, or numbers
            do not begin at 0.
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
    if values.dtype.kind in "iu" and not _are_numerals(names):
        if names is None and not known:
            _check_numbers(label, values)
        most = 2**31 if names is None else len(names)
        wrong = (values < 0) | (values >= most)
        _refuse(table, label, wrong, f"class numbers in [0, {most})")
        return values.astype("int32"), names
    if values.dtype.kind == "f" and names is None:
        part = values != np.floor(values)
        _refuse(table, label, part, "names or whole numbers of classes")
    texts = np.array([str(value).strip() for value in values], object)
    if names is None:
        names = sorted(set(texts))
    numbers = {name: number for number, name in enumerate(names)}
    unknown = np.array([text not in numbers for text in texts])
    _refuse(table, label, unknown, f"one of the classes {_few(names)}")
    return np.array([numbers[text] for text in texts], "int32"), names


def _are_numerals(names: Sequence[str] | None) -> bool:
    """Whether names are numbers themselves, as "1", "2" and "3" are."""
    return names is not None and all(
        name.removeprefix("-").isdecimal() and name == str(int(name))
        for name in names
    )


def _check_numbers(label: str, values: Array) -> None:
    """Refuse class numbers that begin elsewhere than at 0.

    They would make a class that no row has.
    """
    found = np.unique(values)
    if found[0] > 0:
        raise ValueError(
            f"Column '{label}' must have class numbers from 0 on, or be read "
            "by `like` of a table that has all classes, or with their names, "
            f"`class_names={[str(number) for number in found[:5]]}` say. "
            f"Received: {len(found)} numbers from {found[0]} to {found[-1]}"
        )
    absent = np.setdiff1d(np.arange(min(found[-1], 10**6)), found)
    if found[0] == 0 and len(absent):
        warn(
            f"Column '{label}' has class numbers up to {found[-1]}, and no row "
            f"of {len(absent)} classes below, such as {absent[0]}: "
            "`class_names` says which numbers are classes."
        )


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
        cell = table[label].iloc[row]
        # A number, not what NumPy calls one.
        cell = cell.item() if isinstance(cell, np.generic) else cell
        raise ValueError(
            f"Column '{label}' must have {expected}. Received: "
            f"{cell!r} in row {table.index[row]!r}, "
            f"{len(rows)} such row(s)"
        )
