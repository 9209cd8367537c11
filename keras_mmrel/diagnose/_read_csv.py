"""A table in which columns of several modalities stand side by side."""

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_mmrel.benchmark._checks import nearest
from keras_mmrel.benchmark._csv import Options
from keras_mmrel.benchmark._csv import Sheet
from keras_mmrel.benchmark._csv import cell_number
from keras_mmrel.benchmark._csv import label_array
from keras_mmrel.benchmark._csv import open_sheet
from keras_mmrel.contract import Array

# What parts the name of a modality from that of its feature.
PREFIX = re.compile(r"(.+?)[_.:\- ]+[^_.:\- ].*|(.*?[^0-9])[0-9]+")

Read = tuple[dict[str, Array], dict[str, list[str]], dict[str, Array]]


def read_table(
    path: Path,
    labels: str,
    modalities: Mapping[str, str] | None,
    named: Mapping[str, str | None],
) -> Read:
    """Read a table with a header.

    Args:
        path: A CSV file, separated by commas, semicolons or tabs.
        labels: Name of the column of labels.
        modalities: Name -> pattern of names of columns, such as `"audio_*"`;
            `None` for what stands before the first `_`, `.`, `:` or `-`.
        named: What else a column is -> its name, or `None`.

    Returns:
        Arrays and names of columns of each modality, and the other columns.
    """
    sheet = open_sheet("source", path, Options(index=False))
    names = sheet.names or []
    wanted = {"labels": labels} | {k: v for k, v in named.items() if v}
    for key, name in wanted.items():
        if names.count(name) != 1:
            raise ValueError(
                f"`{key}` must name one column of {str(path)!r}. Received: "
                f"{key}={name!r}{nearest(name, names)}"
            )
    taken = {names.index(name) for name in wanted.values()}
    places = _places(names, taken, modalities, path)
    rows = [cells for _, cells in sheet.rows]
    if not rows:
        raise sheet.wrong("hold a row a sample", "without any")
    x = {
        name: np.array(
            [[_cell(sheet, r, cells, p) for p in chosen]
             for r, cells in enumerate(rows)],
            "float64",
        )
        for name, chosen in places.items()
    }  # fmt: skip
    columns = {n: [names[p] for p in chosen] for n, chosen in places.items()}
    beside = {
        key: label_array([cells[names.index(name)] for cells in rows])
        for key, name in wanted.items()
    }
    return x, columns, beside


def _places(
    names: list[str],
    taken: set[int],
    modalities: Mapping[str, str] | None,
    path: Path,
) -> dict[str, list[int]]:
    """Modality -> places of its columns."""
    free = [p for p in range(len(names)) if p not in taken]
    if modalities is None:
        found: dict[str, list[int]] = {}
        for place in free:
            match = PREFIX.fullmatch(names[place])
            if match is not None:
                key = match[1] or match[2].rstrip("_.:- ")
                found.setdefault(key, []).append(place)
        if len(found) < 2 or 2 * len(found) > len(free):
            raise ValueError(
                "`modalities` must say which columns are whose, as in "
                "audio=a_*, where names do not begin with two or more "
                f"prefixes. Received: {str(path)!r} with the columns "
                f"{[names[p] for p in free][:6]}"
            )
        return found
    found = {
        name: [p for p in free if fnmatch.fnmatchcase(names[p], pattern)]
        for name, pattern in modalities.items()
    }
    empty = [
        f"{n}={modalities[n]}" for n, places in found.items() if not places
    ]
    every = [p for places in found.values() for p in places]
    twice = [names[p] for p in free if every.count(p) > 1]
    if empty or twice:
        raise ValueError(
            "`modalities` must give each column to one modality at most, and "
            f"to each some. Received: no column for {empty}, several "
            f"modalities for {twice[:4]}"
        )
    return found


def _cell(sheet: Sheet, row: int, cells: list[str], place: int) -> float:
    value = cell_number(cells[place], sheet.comma)
    if value is None:
        value = cell_number(cells[place])
    if value is None:
        raise sheet.wrong(
            "hold numbers in the columns of modalities",
            f"with {cells[place][:40]!r} in {sheet.column(place)}, row {row}; "
            "name the columns to take by `modalities`",
        )
    return value
