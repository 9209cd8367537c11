"""What the loaders of raw data sets share: folders, annotations, tables."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TypedDict
from typing import TypeVar

from keras_mmrel.archives import MEBIBYTE
from keras_mmrel.constraints import Constraint
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import refuse_unknown
from keras_mmrel.datasets._unpacking import unpacked
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Medium
from keras_mmrel.optional import require
from keras_mmrel.user_warning import warn

PATH = Either(Instance((str, os.PathLike), "a path"))
# The largest annotation file has a few of them.
LIMIT = 64 * MEBIBYTE
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".rar", ".7z")
# How the text begins that Git has in the place of a large file.
POINTER = b"version https://git-lfs"
# What a row says: column -> cell. Cells of files are relative to the root.
Row = dict[str, Any]
Parsed = TypeVar("Parsed")


class TableOptions(TypedDict, total=False):
    """Arguments of `keras_mmrel.media.MediaTable` that loaders hand on."""

    batch_size: int
    shuffle: bool
    seed: int | None
    on_error: str
    cache: str | os.PathLike | None
    workers: int
    use_multiprocessing: bool
    max_queue_size: int


@dataclass(frozen=True)
class RawSet:
    """A published data set of files, for messages.

    Args:
        name: Its name.
        get: How to get it: "clone ...", "unpack ...".
        most: Bytes that an archive of it has at most when it is unpacked, or
            0 if it has to be unpacked by hand.
    """

    name: str
    get: str
    most: int = 0

    def folder(
        self,
        path: str | os.PathLike,
        holds: Sequence[str],
        below: Sequence[str] = (),
        argument: str = "path",
    ) -> Path:
        """Return the folder that holds some files or folders.

        Args:
            path: What the user names: it, or a folder or an archive that
                holds it.
            holds: Names that have to be in it; "a|b" is one of two.
            below: Names of the folder itself, where `path` holds it.
            argument: Name of the argument.

        Raises:
            FileNotFoundError: If it is not there.
        """
        given = Path(path).expanduser()
        if self.most and given.is_file():
            given = unpacked(given, self.most)
        # An archive of a repository has one folder with all of it.
        only = _only_folder(given)
        tops = (given, *(given / name for name in below), *only)
        for folder in tops:
            if folder.is_dir() and not self._lacking(folder, holds):
                return folder
        names = " and ".join(f"'{h}'".replace("|", "' or '") for h in holds)
        expected = f"`{argument}` must be the folder of {self.name}"
        expected += f" with {names}" if names else ""
        received = f"Received: {argument}={os.fspath(path)!r}"
        if given.is_file():
            is_archive = given.suffix.lower() in ARCHIVES
            what = "an archive: unpack it" if is_archive else "a file"
            raise FileNotFoundError(f"{expected}. {received}, {what}")
        what = "which does not exist"
        if given.is_dir():
            lacking = self._lacking(given, holds)[0]
            what = f"without '{lacking}'".replace("|", "' or '")
        raise FileNotFoundError(f"{expected}; {self.get}. {received}, {what}")

    def _lacking(self, folder: Path, holds: Sequence[str]) -> list[str]:
        return [
            names
            for names in holds
            if not any((folder / name).exists() for name in names.split("|"))
        ]


def _only_folder(folder: Path) -> list[Path]:
    """Return the one folder that stands in a folder, if nothing else does."""
    if not folder.is_dir():
        return []
    inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
    return inside if len(inside) == 1 and inside[0].is_dir() else []


# -- Annotations -------------------------------------------------------------


def read_rows(
    file: Path,
    columns: Sequence[str],
    parse: Callable[[dict[str, str]], Parsed],
    *,
    delimiter: str = ",",
    quoted: bool = False,
    wide: str | None = None,
    headers: Iterable[Sequence[str]] = (),
    encodings: Sequence[str] = ("utf-8-sig",),
) -> list[Parsed]:
    """Read an annotation file, one row a line; empty lines are passed over.

    Args:
        file: The file.
        columns: Names of its columns.
        parse: Function of a row, column -> stripped text, whose `ValueError`
            says what was expected.
        delimiter: What stands between two cells.
        quoted: Whether cells may stand in double quotes.
        wide: Name of the column whose cells may hold the delimiter without
            quotes.
        headers: First lines that are no rows, in lower case.
        encodings: What its bytes may be, tried in order.

    Raises:
        ValueError: If it cannot be read; names the file and the line.
    """
    reader = csv.reader(
        io.StringIO(read_text(file, encodings), newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    known = {tuple(header) for header in headers}
    rows: list[Parsed] = []
    is_first = True
    try:
        for cells in reader:
            lowered = tuple(cell.strip().lower() for cell in cells)
            if not any(lowered):
                continue
            was_first, is_first = is_first, False
            if was_first and lowered in known:
                continue
            rows.append(parse(_named(cells, columns, delimiter, wide)))
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"Line {reader.line_num} of {file} must hold "
            f"{delimiter.join(columns)} of one sample. Received: {error}"
        ) from None
    if not rows:
        raise ValueError(f"{file} must hold a row. Received: none")
    return rows


def _named(
    cells: list[str], columns: Sequence[str], delimiter: str, wide: str | None
) -> dict[str, str]:
    more = len(cells) - len(columns)
    if wide is not None and more > 0:
        place = list(columns).index(wide)
        whole = delimiter.join(cells[place : place + more + 1])
        cells = [*cells[:place], whole, *cells[place + more + 1 :]]
    if len(cells) != len(columns):
        text = delimiter.join(cells)[:80]
        raise ValueError(f"{len(cells)} cells, {text!r}")
    stripped = [cell.strip() for cell in cells]
    return dict(zip(columns, stripped, strict=True))


def read_text(file: Path, encodings: Sequence[str] = ("utf-8-sig",)) -> str:
    """Return the text of an annotation file, in the first encoding that fits.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is too large, or in none of the encodings.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"The annotation file {file} must be there. Received: no such file"
        )
    size = file.stat().st_size
    if size > LIMIT:
        raise ValueError(
            f"{file} must be an annotation file of at most {LIMIT:,} bytes. "
            f"Received: {size:,} bytes"
        )
    content = file.read_bytes()
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            place = error.start
    raise ValueError(
        f"{file} must be text in {' or '.join(encodings)}. Received: other "
        f"bytes in line {content[:place].count(10) + 1}"
    )


# -- What is dropped ---------------------------------------------------------


class Dropped:
    """Counts rows that are left out, and says so once.

    Args:
        name: Name of the data set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str) -> None:
        """Count a row.

        Args:
            reason: What follows "row(s)": "without a clip", say.
            example: Which row it is.
        """
        self._counts[reason] += 1
        self._examples.setdefault(reason, example)

    def warn(self) -> None:
        """Warn of what was counted, if anything was."""
        if not self._counts:
            return
        parts = [
            f"{count:,} row(s) {reason}, such as {self._examples[reason]!r}"
            for reason, count in self._counts.items()
        ]
        warn(f"{self.name} without {'; '.join(parts)}.")


def drop_repeated(
    rows: Iterable[Row], key: str, label: str, part: str, dropped: Dropped
) -> list[Row]:
    """Leave out rows that repeat an earlier one, which are counted.

    Args:
        rows: The rows of a part.
        key: Column that tells samples apart.
        label: Column of labels.
        part: What the part is called.
        dropped: Where they are counted.

    Raises:
        ValueError: If a sample has two labels.
    """
    kept: dict[Any, Row] = {}
    for row in rows:
        known = kept.setdefault(row[key], row)
        if known[label] != row[label]:
            raise ValueError(
                f"Each sample of the {part} part must have one label. "
                f"Received: {row[key]!r} with {known[label]!r} and "
                f"{row[label]!r}"
            )
        if known is not row:
            dropped.add(f"that are in the {part} part already", str(row[key]))
    return list(kept.values())


def refuse_shared(parts: Mapping[str, Sequence[Row]], key: str) -> None:
    """Refuse samples that are in two parts.

    Args:
        parts: What each part is called, and its rows.
        key: Column that tells samples apart.

    Raises:
        ValueError: If there is one.
    """
    known: dict[Any, str] = {}
    for part, rows in parts.items():
        for row in rows:
            other = known.setdefault(row[key], part)
            if other != part:
                raise ValueError(
                    f"Each sample must be in one part. Received: {row[key]!r} "
                    f"in the {other} part and in the {part} part"
                )


def refuse_pointers(rows: Iterable[Row], column: str, root: Path) -> None:
    """Refuse what Git leaves where a file of Git LFS was not fetched.

    Args:
        rows: Rows, the first file of which is looked at.
        column: Column of files.
        root: Folder that they are relative to.

    Raises:
        ValueError: If it is such a pointer.
    """
    files = (root / row[column] for row in rows if row[column])
    file = next((file for file in files if file.is_file()), None)
    if file is not None:
        with open(file, "rb") as opened:
            if opened.read(len(POINTER)) == POINTER:
                raise ValueError(
                    f"{file} must be a file of media: fetch what Git LFS holds "
                    "by `git lfs pull`. Received: a pointer of Git LFS"
                )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name that no file system takes.
        return False


def drop_absent(
    rows: Iterable[Row],
    key: str,
    files: Sequence[str],
    root: Path,
    part: str,
    dropped: Dropped,
) -> list[Row]:
    """Leave out rows none of whose files is there, which are counted.

    Where one of several is there, the others are missing modalities.

    Args:
        rows: The rows of a part.
        key: Column that tells samples apart.
        files: Columns of files.
        root: Folder that they are relative to.
        part: What the part is called.
        dropped: Where rows are counted.

    Raises:
        ValueError: If no row is left.
    """
    rows, kept = list(rows), []
    for row in rows:
        if any(row[f] and _is_there(root / row[f]) for f in files):
            kept.append(row)
        else:
            dropped.add(f"of the {part} part without any file", str(row[key]))
    if not kept:
        named = rows[0][files[0]] if rows else None
        raise ValueError(
            f"The {part} part must have a row whose files are in {root}. "
            f"Received: {len(rows):,} row(s) without any, such as {named!r}"
        )
    return kept


# -- Tables ------------------------------------------------------------------


class Preset(Constraint):
    """The name of a preprocessing, or media of one's own.

    Args:
        names: Names that there are.
    """

    def __init__(self, *names: str) -> None:
        self.names = names
        self.expected = f"one of {names} or a dict of modality name -> medium"
        self.bad = ("no such preset", None, 1.5, {}, {"audio": "wav"})

    def accepts(self, value: Any) -> bool:
        if isinstance(value, Mapping):
            media = value.values()
            return bool(value) and all(isinstance(m, Medium) for m in media)
        return isinstance(value, str) and value in self.names


def check_options(options: TableOptions) -> None:
    """Refuse options that there are none of, before anything is read."""
    refuse_unknown("The loader", options, TableOptions.__annotations__)


def make_tables(
    parts: Sequence[Sequence[Row]],
    modalities: Mapping[str, Medium],
    *,
    label: str,
    class_names: Sequence[str] | None,
    root: Path,
    options: TableOptions,
    test_modalities: Mapping[str, Medium] | None = None,
) -> tuple[MediaTable, ...]:
    """Return a table a part; the first one is for training.

    What is learned from rows, and the classes, are the first one's. It alone
    is shuffled, unless `options` say otherwise.

    Args:
        parts: Rows of each part.
        modalities: Modality name -> medium.
        label: Column of labels.
        class_names: As in `MediaTable`.
        root: Folder that files are relative to.
        options: As in `MediaTable`.
        test_modalities: Media of the other parts, where what is random in
            training is not in them; the same ones by default.
    """
    check_options(options)
    pandas = require("pandas", "keras_mmrel.datasets")
    frames = [pandas.DataFrame(list(rows)) for rows in parts]
    train = MediaTable(
        frames[0],
        modalities,
        label,
        class_names=class_names,
        root=root,
        **{"shuffle": True, **options},  # type: ignore[arg-type]
    )
    changes = {} if test_modalities is None else {"modalities": test_modalities}
    return train, *(train.like(frame, **changes) for frame in frames[1:])
