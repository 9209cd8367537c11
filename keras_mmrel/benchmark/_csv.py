"""Tables of a user, one file a modality, and a file of labels.

Files come from pandas, R and spreadsheets: with or without a header, an index
column, a byte order mark, decimal commas. What is not sure is refused, since
a row that is lost or an index among the features spoils every number.
"""

import csv
import dataclasses
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_mmrel.contract import Array

DELIMITERS = (";", "\t", "|", ",")
# Records that a delimiter is chosen by.
SAMPLE = 50
MISSING = {"", "na", "n/a", "nan", "null", "none", "#n/a", "?"}
FLAGS = {"true": 1.0, "false": 0.0}
# What pandas calls a column without a name, and writes as one.
UNNAMED = re.compile(r"(Unnamed: \d+)?")
ID_NAME = re.compile(r"(?i)(.*[ _.-])?(id|idx|index|uid|uuid|barcode|row)")
FLOAT_ID = re.compile(r"-?[0-9]+\.0+")
INTEGER = re.compile(r"[+-]?[0-9]+")
FEW = 3

Rows = Iterator[tuple[int, list[str]]]


@dataclasses.dataclass(frozen=True)
class Options:
    """How files are read: see `Dataset`."""

    header: bool | None = None
    index: str | bool | None = None

    @property
    def key(self) -> str | None:
        """Name of the column that tells which sample a row is of."""
        return self.index if isinstance(self.index, str) else None


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A file that was opened: its first line, and what follows.

    Args:
        key: What an error calls the file.
        path: Where it is.
        names: Names of the columns, `None` without a header.
        key_column: Place of the index, `None` without one.
        comma: Whether numbers have decimal commas.
        rows: Number of the row, from 0 below the header, and its cells.
    """

    key: str
    path: Path
    names: list[str] | None
    key_column: int | None
    comma: bool
    rows: Rows

    def column(self, place: int) -> str:
        return (
            f"column {place + 1}"
            if self.names is None
            else (f"column {self.names[place]!r}")
        )

    def wrong(self, expected: str, received: str) -> ValueError:
        return ValueError(
            f"`{self.key}` must {expected}. Received: {str(self.path)!r} "
            f"{received}"
        )


def read_csv(
    modalities: Mapping[str, Path],
    labels: Path,
    header: bool | None = None,
    index: str | bool | None = None,
) -> tuple[dict[str, Array], Array]:
    """Read a table a modality, and one column of labels.

    Args:
        modalities: Name -> file.
        labels: File with a column of labels.
        header: Whether the first row names the columns; `None` if that must
            be evident.
        index: Name of the column by which rows belong together, `False` if
            every column is a feature, or `None` if what looks like an index
            is to be refused.

    Raises:
        ValueError: If a file is not as it must be.
        FileNotFoundError: If there is no such file.
    """
    options = Options(header, index)
    tables = {
        name: _table(f"modalities.{name}", path, options)
        for name, path in modalities.items()
    }
    y, order = _labels(labels, options)
    if options.key is None:
        if index is None:
            _check_first_columns(tables, modalities)
        return {name: table.values for name, table in tables.items()}, y
    x = {}
    for name, table in tables.items():
        places = _places(table.ids, order, modalities[name], labels)
        x[name] = table.values[places]
    return x, y


# -- A table of numbers ------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Table:
    """Features of a modality, without the index."""

    values: Array
    ids: list[str]
    first_name: str | None


def _table(key: str, path: Path, options: Options) -> Table:
    sheet = open_sheet(key, path, options)
    ids, rows = [], []
    for number, cells in sheet.rows:
        if sheet.key_column is not None:
            ids.append(_id(cells.pop(sheet.key_column)))
        try:
            # Python's own numbers, such as 1_000, are nobody's.
            if any("_" in cell for cell in cells):
                raise ValueError
            rows.append(np.array([float(cell) for cell in cells]))
        except ValueError:
            rows.append(_numbers(sheet, options, number, cells))
    names = sheet.names
    if names is not None and sheet.key_column is not None:
        names = [n for p, n in enumerate(names) if p != sheet.key_column]
    if not rows or not len(rows[0]) or names == []:
        raise sheet.wrong("hold rows of features", "without any")
    values = np.stack(rows)
    if names is None and np.isnan(values[:, -1]).all():
        # A delimiter at the end of every line.
        values = values[:, :-1]
    if options.header is None and options.key is None:
        _check_header(sheet, names or [])
    if options.index is None or options.key is not None:
        _check_columns(sheet, names, values)
    return Table(values, ids, names[0] if names else None)


def _numbers(
    sheet: Sheet, options: Options, number: int, cells: list[str]
) -> Array:
    """The numbers of a row, NaN for what is missing."""
    found = np.empty(len(cells))
    for place, cell in enumerate(cells):
        value = cell_number(cell, sheet.comma)
        if value is None:
            beside = place
            if sheet.key_column is not None and place >= sheet.key_column:
                beside += 1
            hint = ""
            if number == 0 and options.header is False:
                hint = "; leave out `header: false` if that is a name"
            elif options.index is None and sheet.names is not None:
                name = sheet.names[beside] or "Unnamed: 0"
                hint = f"; say `index: {name}` if it tells the samples apart"
            comma = " with decimal commas" if sheet.comma else ""
            raise sheet.wrong(
                f"hold numbers{comma}, separated by a comma, a semicolon or "
                "a tab",
                f"with {cell[:40]!r} in {sheet.column(beside)}, row {number}"
                f"{hint}",
            )
        found[place] = value
    return found


def cell_number(cell: str, comma: bool = False) -> float | None:
    """A number, NaN for a missing one, or `None` for a text."""
    lower = cell.lower()
    if lower in MISSING:
        return np.nan
    if lower in FLAGS:
        return FLAGS[lower]
    if "_" in cell or (comma and "." in cell):
        return None
    try:
        return float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return None


def _check_header(sheet: Sheet, names: list[str]) -> None:
    """Refuse a first row that may be a sample."""
    filled = [name for name in names if name]
    values = [cell_number(name, sheet.comma) for name in filled]
    if filled and None not in values:
        raise sheet.wrong(
            "have names in its first row, or be described: say `header: "
            "false` if the first row is a sample, `header: true` if these "
            "are names",
            f"whose first row is {filled[:4]}",
        )


def _check_columns(
    sheet: Sheet, names: list[str] | None, values: Array
) -> None:
    """Refuse what tells samples apart and says nothing about them."""
    for place in range(values.shape[1]):
        name = None if names is None else names[place]
        column = values[:, place]
        found = None
        if name is not None and UNNAMED.fullmatch(name):
            found = "has no name, as an index that pandas wrote"
        elif counts_up(column):
            found = "only counts the rows"
        elif name is not None and ID_NAME.fullmatch(name):
            if _all_different(column):
                found = "is another whole number in every row"
        if found is None:
            continue
        shown = name or "Unnamed: 0"
        where = f"column {shown!r}" if names else f"column {place + 1}"
        raise sheet.wrong(
            "hold features only",
            f"whose {where} {found}; say `index: {shown}` to match the rows "
            "of all files by it, write the file without it, or say `index: "
            "false` if it is a feature",
        )


def counts_up(column: Array) -> bool:
    """Whether a column is row numbers: in any order, or with gaps in one."""
    if not _all_different(column):
        return False
    steps = np.diff(column)
    ordered = bool((steps > 0).all() or (steps < 0).all())
    return ordered or np.ptp(column) == len(column) - 1


def _all_different(column: Array) -> bool:
    if len(column) < FEW or not np.isfinite(column).all():
        return False
    whole = bool((column == np.floor(column)).all())
    return whole and len(np.unique(column)) == len(column)


def _check_first_columns(
    tables: Mapping[str, Table], paths: Mapping[str, Path]
) -> None:
    """Refuse a column that several files have to tell samples apart."""
    seen: dict[str, str] = {}
    for name, table in tables.items():
        first = table.first_name
        if first is None or not _all_different(table.values[:, 0]):
            continue
        other = seen.setdefault(first, name)
        if other == name:
            continue
        a, b = tables[other].values[:, 0], table.values[:, 0]
        same = len(a) == len(b) and bool((a == b).all())
        raise ValueError(
            f"`modalities.{name}` must hold features only. Received: "
            f"{str(paths[name])!r}, whose first column {first!r} is another "
            "whole number in every row, "
            f"{'the same as' if same else 'in another order than'} in "
            f"{str(paths[other])!r}; say `index: {first}` to match the rows "
            "by it, or `index: false` if it is a feature"
        )


# -- Labels and order --------------------------------------------------------


def _labels(path: Path, options: Options) -> tuple[Array, list[str]]:
    """The labels, and the samples that they are of."""
    sheet = open_sheet("labels", path, options)
    ids, texts = [], []
    for _, cells in sheet.rows:
        if sheet.key_column is not None:
            ids.append(_id(cells.pop(sheet.key_column)))
        if len(cells) != 1:
            raise sheet.wrong(
                "have one column of labels, beside the `index` if there is "
                "one (say `index: NAME`)",
                f"with {len(cells)} columns: "
                f"{[name or 'Unnamed: 0' for name in sheet.names or []][:6]}",
            )
        texts.append(cells[0])
    empty = [n for n, text in enumerate(texts) if text.lower() in MISSING]
    if not texts:
        raise sheet.wrong("hold a label for each sample", "without any")
    if empty:
        raise sheet.wrong(
            "hold a label for each sample",
            f"with {len(empty)} empty labels, the first is row {empty[0]}",
        )
    if sheet.names and options.header is None and options.key is None:
        _check_label_header(sheet, sheet.names[0], texts)
    return label_array(texts), ids


def _id(text: str) -> str:
    """A name of a sample; pandas writes numbers with a point or without."""
    return text.partition(".")[0] if FLOAT_ID.fullmatch(text) else text


def _check_label_header(sheet: Sheet, name: str, texts: list[str]) -> None:
    """Refuse a first row that may be a label."""
    numeric = all(cell_number(text) is not None for text in (name, *texts))
    if name in texts or numeric:
        raise sheet.wrong(
            "have a name in its first row, or be described: say `header: "
            "false` if the first row is a label, `header: true` if it is a "
            "name",
            f"whose first row is {name!r}",
        )


def label_array(texts: list[str]) -> Array:
    if all(INTEGER.fullmatch(text) for text in texts):
        return np.array([int(text) for text in texts])
    values = [cell_number(text) for text in texts]
    if None in values or any(t.lower() in FLAGS for t in texts):
        return np.array(texts)
    return np.array(values, float)


def _places(
    ids: list[str], order: list[str], path: Path, labels: Path
) -> list[int]:
    """Rows of a file in the order of the labels."""
    for found, file in ((ids, path), (order, labels)):
        twice = [name for name, n in Counter(found).items() if n > 1]
        if twice or "" in found:
            raise ValueError(
                "`index` must tell every sample apart. Received: "
                f"{str(file)!r} with {len(twice)} values that stand twice or "
                f"more and {found.count('')} that are empty, the first is "
                f"{(twice or [''])[0]!r}"
            )
    place = {name: number for number, name in enumerate(ids)}
    lost = [name for name in order if name not in place]
    known = set(order)
    more = [name for name in ids if name not in known]
    if lost or more:
        raise ValueError(
            "`index` must name the same samples in every file. Received: "
            f"{str(path)!r} without {len(lost)} of those in {str(labels)!r}"
            f"{f', such as {lost[0]!r},' if lost else ''} and with "
            f"{len(more)} others{f', such as {more[0]!r}' if more else ''}"
        )
    return [place[name] for name in order]


# -- Files -------------------------------------------------------------------


def open_sheet(key: str, path: Path, options: Options) -> Sheet:
    """Find out how a file is written, and read its first line."""
    text = _text(key, path)
    try:
        delimiter = _delimiter(text)
        records = _records(text, delimiter)
        names = None
        if options.header is not False:
            # Empty lines may stand above.
            names = next(filter(None, records), None)
            if names is not None and len(names) > 1 and names[-1] == "":
                # A delimiter at the end of every line.
                names = names[:-1]
    except csv.Error as error:
        raise _no_csv(key, path, error) from error
    sheet = Sheet(
        key,
        path,
        names,
        None,
        delimiter != "," and re.search(r"\d,\d", text) is not None,
        iter(()),
    )
    if options.header is not False and names is None:
        raise sheet.wrong("be a CSV file with a header", "which is empty")
    place = None
    if options.key is not None:
        place = _key_column(sheet, options.key)
    rows = _checked(sheet, records, names)
    return dataclasses.replace(sheet, key_column=place, rows=rows)


def _key_column(sheet: Sheet, key: str) -> int:
    names = sheet.names or []
    places = [p for p, name in enumerate(names) if name == key]
    if not places and key == "Unnamed: 0":
        places = [p for p, name in enumerate(names) if name == ""]
    if len(places) != 1:
        raise sheet.wrong(
            f"have one column {key!r}, the `index`",
            f"with the columns {names[:6]}"
            f"{' and more' if len(names) > 6 else ''}",
        )
    return places[0]


def _text(key: str, path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"`{key}` must be a CSV file. Received: {str(path)!r}, "
            f"{'which is a folder' if path.is_dir() else _ABSENT}"
        )
    content = path.read_bytes()
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_csv(key, path, error) from error
    if "\x00" in text:
        raise _no_csv(key, path, ValueError("it holds zero bytes"))
    return text


_ABSENT = "which does not exist"


def _no_csv(key: str, path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"`{key}` must be a CSV file in UTF-8. Received: {str(path)!r} "
        f"({error})"
    )


def _delimiter(text: str) -> str:
    """The one by which rows are of one width, and most cells numbers."""
    best, chosen = (0.0, 0), ","
    for delimiter in DELIMITERS:
        records = itertools.islice(_records(text, delimiter), SAMPLE)
        try:
            body = [record for record in list(records)[1:] if record]
        except csv.Error:
            continue
        widths = {len(record) for record in body}
        if len(widths) != 1 or widths == {1}:
            continue
        cells = [cell for record in body for cell in record]
        comma = delimiter != ","
        numbers = sum(
            cell_number(cell, comma) is not None
            or cell_number(cell) is not None
            for cell in cells
        )
        rank = (numbers / len(cells), len(body[0]))
        if rank > best:
            best, chosen = rank, delimiter
    return chosen


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    """Stripped cells of all lines; an empty one has none."""
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True
    )
    for record in lines:
        yield [cell.strip() for cell in record]


def _checked(
    sheet: Sheet, records: Iterator[list[str]], names: list[str] | None
) -> Rows:
    """Rows of one width, numbered from 1."""
    width = None if names is None else len(names)
    number, blank = 0, 0
    while True:
        try:
            record = next(records, None)
        except csv.Error as error:
            raise _no_csv(sheet.key, sheet.path, error) from error
        if record is None:
            return
        if not record or (record == [""] and width != 1):
            # At the end it is nothing, in a single column a missing cell.
            blank += 1
            continue
        width = len(record) if width is None else width
        if width == 1:
            for _ in range(blank):
                yield number, [""]
                number += 1
        blank = 0
        if len(record) == width + 1 and record[-1] == "":
            record.pop()
        if len(record) != width:
            raise sheet.wrong(
                f"have {width} cells in every row"
                + (", as its header has" if names is not None else ""),
                f"with {len(record)} in row {number}",
            )
        yield number, record
        number += 1
