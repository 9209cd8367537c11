import copy
import csv
import math
import os
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import ClassNames
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.media import _labels
from keras_mmrel.media._cache import Cache
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._reading import UnreadableFiles
from keras_mmrel.media._reading import check_found
from keras_mmrel.media._reading import find_files
from keras_mmrel.media._reading import unreadable
from keras_mmrel.media._sources import CellSource
from keras_mmrel.media._sources import FileSource
from keras_mmrel.media.file_medium import FileMedium
from keras_mmrel.media.medium import Medium
from keras_mmrel.optional import require
from keras_mmrel.seeds import known_seed
from keras_mmrel.user_warning import warn

FOLDER = Either(Instance((str, os.PathLike), "a folder"), None)


@constrained(
    label=Either(COLUMN, None),
    root=FOLDER,
    batch_size=Integer(1),
    shuffle=Flag(),
    seed=SEED,
    class_names=Either(ClassNames(), None),
    on_error=Choice("raise", "missing"),
    cache=FOLDER,
    workers=Integer(0, 1000),
    use_multiprocessing=Flag(),
    max_queue_size=Integer(1),
)
class MediaTable(keras.utils.PyDataset):
    """A table of files, texts and numbers as data for `fit`.

    Files are read batch by batch, so memory does not grow with their number;
    texts and numbers of the table itself are read once. A batch is a dict of
    the modalities and their mask, `"modality_mask"`, and labels where there
    is a column of them.

    **An empty cell, or a file that is not there, is a missing modality**: its
    mask is 0, and zeros stand in its place. `missing` counts them; a warning
    says where named files are not there. A file that is there and cannot be
    read is an error, or counted too (`on_error`).

    `fit` takes it on every backend, and with two `workers` or more decodes
    ahead: in threads, which decoders let run beside each other, or in
    processes with `use_multiprocessing` (JAX warns of those that are forked
    from it). `arrays` reads all of it into memory.

    Args:
        table: A `pandas.DataFrame`, or the path of a CSV file with a header;
            there only nothing between two commas is an empty cell.
        modalities: Dict of modality name -> `Audio`, `Image`, `Video`,
            `Text`, `Array`, `Tabular` or a medium of your own. What learns
            from rows (`Tabular`, `Text`) learns from its first table.
        label: Name of the column of labels, or `None`. Whole numbers in it
            are class numbers, from 0 on; others, 1 to 3 say, are refused
            unless `class_names` has them (`["1", "2", "3"]`).
        root: Folder that paths are relative to; by default that of the CSV
            file, or else the current one.
        batch_size: Rows of a batch; the last one may have fewer.
        shuffle: Whether rows come in another order in every epoch. `fit` has
            a `shuffle` of its own, of batches. `predict` of a model of the
            library answers in the order of the table all the same.
        seed: Seed of the orders and of all that is drawn, or `None` to draw
            one.
        class_names: Names of the classes in the order of their numbers; by
            default the sorted names in the column.
        on_error: What becomes of an unreadable file: `"raise"` an error that
            names row, column and file, or `"missing"`, which counts it in
            `unreadable`, of which a warning tells after an epoch.
        cache: Folder for decoded arrays, or `None`. It is keyed by the
            content of files and by settings; what is random is not kept.
        workers: As in `keras.utils.PyDataset`, and number of threads of
            `arrays`.
        use_multiprocessing: As in `keras.utils.PyDataset`.
        max_queue_size: As in `keras.utils.PyDataset`.

    Attributes:
        modalities: The media; give them to no other table but by `like`.
        labels: Class numbers `(rows,)` in int32, or `None`.
        class_names: Names of the classes, or `None` where labels are numbers
            already. A model keeps them in its file.
        missing: Modality name -> number of rows without it.
        seed: The seed that is used.
        epoch: How many times it has been gone through.

    Raises:
        ValueError: If a column is not there, a label is missing or unknown,
            class numbers do not begin at 0, no file of a modality exists, or
            `cache` can be no folder.

    Example:

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"age": [30, 50, None], "note": ["ill", "well", "ill"],
    ...      "state": ["bad", "good", "bad"]}
    ... )
    >>> from keras_mmrel import media
    >>> data = media.MediaTable(
    ...     table,
    ...     {"clinic": media.Tabular(["age"]),
    ...      "note": media.Text("note", tokenizer=str.encode, length=4)},
    ...     label="state",
    ... )
    >>> x, y = data.arrays()
    >>> x["modality_mask"].tolist(), y.tolist(), data.class_names
    ([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]], [0, 1, 0], ['bad', 'good'])
    """

    def __init__(
        self,
        table: Frame,
        modalities: Mapping[str, Medium],
        label: str | None = None,
        *,
        root: str | os.PathLike | None = None,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int | None = None,
        class_names: Sequence[str] | None = None,
        on_error: str = "raise",
        cache: str | os.PathLike | None = None,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
    ) -> None:
        super().__init__(workers, use_multiprocessing, max_queue_size)
        _check_modalities(modalities)
        self.table, folder = _read(table)
        self.modalities = dict(modalities)
        self.label = label
        self.root = folder if root is None else Path(root)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = known_seed(seed)
        self.on_error = on_error
        self.cache = None if cache is None else Cache(Path(cache))
        self.epoch = 0
        self._check_columns()
        self.labels, self.class_names = _labels.read_labels(
            self.table, label, class_names
        )
        self._log = UnreadableFiles()
        self._told = 0
        self._sources = {
            name: self._source(name, medium)
            for name, medium in self.modalities.items()
        }
        # Files of texts have been opened already; what is wrong with one is
        # told there.
        opened = [column for _, column, _, _ in self.unreadable]
        self.missing = {
            name: int((~source.present).sum())
            - opened.count(self.modalities[name].columns[0])
            for name, source in self._sources.items()
        }

    # -- Making --------------------------------------------------------------

    def _check_columns(self) -> None:
        wanted = [c for m in self.modalities.values() for c in m.columns]
        wanted += [self.label] if self.label is not None else []
        columns = list(self.table.columns)
        lacking = [c for c in wanted if columns.count(c) != 1]
        if lacking:
            raise ValueError(
                f"`table` must have the column {lacking[0]!r}, once. Received: "
                f"columns={columns}"
            )

    def _source(self, name: str, medium: Medium) -> CellSource | FileSource:
        """Find the files of a modality, or read its cells."""
        rows = list(self.table.index)
        if isinstance(medium, FileMedium):
            return FileSource(
                medium,
                self._files(name, medium.column),
                {c: self.table[c].tolist() for c in medium.columns},
                rows,
                self.cache,
                self._log if self.on_error == "missing" else None,
            )
        has_files = getattr(medium, "files", False)
        paths = self._files(name, medium.columns[0]) if has_files else []
        values, present, wrong = medium.read_cells(self.table, paths)
        for row, reason in wrong.items():
            column = medium.columns[0]
            if self.on_error == "raise":
                raise unreadable(rows[row], column, paths[row], reason)
            self._log.add(row, column, str(paths[row]), reason)
        return CellSource(values, present)

    def _files(self, name: str, column: str) -> list[Path | None]:
        named = find_files(self.table[column], self.root)
        found = check_found(name, named)
        lost = [n for n, f in zip(named, found, strict=True) if n != f]
        if lost:
            warn(
                f"{len(lost)} of {len(named)} files of modality '{name}' are "
                f"not there, such as '{lost[0]}': they count as missing."
            )
        return found

    def like(self, table: Frame, **changes: Any) -> "MediaTable":
        """Return a table of other rows, read as this one is.

        Vocabularies, means and classes are those of this table. Rows keep
        their order.

        Args:
            table: As in the constructor.
            **changes: Arguments of the constructor that are to differ.
        """
        arguments: dict[str, Any] = {
            "modalities": self.modalities,
            "label": self.label,
            "root": self.root,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "class_names": self.class_names,
            "on_error": self.on_error,
            "cache": self.cache and self.cache.folder,
            "workers": self.workers,
            "use_multiprocessing": self.use_multiprocessing,
            "max_queue_size": self.max_queue_size,
        }
        arguments |= changes
        label = arguments["label"]
        numbered = label is not None and arguments["class_names"] is None
        if not numbered or self.labels is None or label != self.label:
            return MediaTable(table, **arguments)
        # Of some rows, whose numbers mean what they mean here.
        made = MediaTable(table, **{**arguments, "label": None})
        made.label = label
        made._check_columns()
        made.labels, _ = _labels.read_labels(made.table, label, None, True)
        return made

    # -- What it holds -------------------------------------------------------

    @property
    def shapes(self) -> dict[str, Any]:
        """Modality name -> its shape, as models take it in `modalities`."""
        return {name: m.shape for name, m in self.modalities.items()}

    @property
    def num_classes(self) -> int:
        """Number of the classes, of their names or of the labels there."""
        if self.class_names is not None:
            return len(self.class_names)
        if self.labels is None:
            raise ValueError(
                "`label` must name a column for there to be classes. Received: "
                "label=None"
            )
        return int(self.labels.max()) + 1

    @property
    def unreadable(self) -> list[tuple[int, str, str, str]]:
        """`(row, column, file, reason)` of what could not be read so far.

        A row is a position, from 0. Files are opened batch by batch, so all
        are known after an epoch, or after `arrays`.
        """
        return self._log.read()

    # -- Reading -------------------------------------------------------------

    def in_order(self) -> "MediaTable":
        """Return these rows in the order of the table; `predict` asks for it.

        The two share what they have read.
        """
        if not self.shuffle:
            return self
        made = copy.copy(self)
        made.shuffle = False
        return made

    @property
    def num_batches(self) -> int:
        return math.ceil(len(self.table) / self.batch_size)

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> tuple:
        if not 0 <= index < self.num_batches:
            raise IndexError(f"batch {index} of {self.num_batches}")
        rows = self._order()[index * self.batch_size :][: self.batch_size]
        x = self._inputs(rows)
        return (x,) if self.labels is None else (x, self.labels[rows])

    def _order(self) -> Array:
        rows = np.arange(len(self.table))
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(rows)
        return rows

    def _inputs(self, rows: Array) -> dict[str, Any]:
        """Return the modalities of some rows, and their mask."""
        x: dict[str, Any] = {}
        mask = np.zeros((len(rows), len(self._sources)), "float32")
        for column, (name, source) in enumerate(self._sources.items()):
            seeds = [(self.seed, self.epoch, int(r), column) for r in rows]
            x[name], mask[:, column] = source.rows(rows, seeds)
        return {**x, MASK: mask}

    def arrays(self) -> tuple[dict[str, Any], Array | None]:
        """Read all rows, in the order of the table, into memory.

        Returns:
            `(x, y)` for `fit`: dict of arrays with their mask, and class
            numbers, or `None` where there is no label. Values are those of
            the batches of this epoch.
        """
        count = len(self.table)
        blocks = np.array_split(np.arange(count), self.num_batches)
        x: dict[str, Any] = {}

        def read(rows: Array) -> None:
            _fill(x, rows, self._inputs(rows), count)

        read(blocks[0])
        with ThreadPoolExecutor(max(self.workers, 1)) as pool:
            # `list` raises what a thread has raised.
            list(pool.map(read, blocks[1:]))
        self._tell_unreadable()
        return x, self.labels

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._tell_unreadable()

    def _tell_unreadable(self) -> None:
        """Warn of files that could not be read since the last warning."""
        wrong = self.unreadable
        if len(wrong) > self._told:
            self._told = len(wrong)
            row, column, file, reason = wrong[-1]
            warn(
                f"{len(wrong)} file(s) could not be read and count as missing "
                f"(`unreadable` lists them), such as '{file}' in row {row}, "
                f"column '{column}': {reason}."
            )


def _fill(arrays: dict, rows: Array, values: Mapping, count: int) -> None:
    """Put values of some rows into arrays of all, made if they are not."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            _fill(arrays.setdefault(name, {}), rows, value, count)
            continue
        if name not in arrays:
            arrays[name] = np.empty((count, *value.shape[1:]), value.dtype)
        arrays[name][rows] = value


def _check_modalities(modalities: Any) -> None:
    if not isinstance(modalities, Mapping) or not modalities:
        raise ValueError(
            "`modalities` must be a dict of names to media, such as "
            f"{{'image': Image('file', size=64)}}. Received: "
            f"modalities={modalities!r}"
        )
    for name, medium in modalities.items():
        if not isinstance(name, str) or name == MASK:
            raise ValueError(
                f"`modalities` must have strings other than '{MASK}' as names. "
                f"Received: {name!r}"
            )
        if not isinstance(medium, Medium):
            raise ValueError(
                f"`modalities['{name}']` must be a medium, such as "
                f"`keras_mmrel.media.Image`. Received: {medium!r}"
            )


def _read(table: Any) -> tuple[Frame, Path]:
    """Return a data frame, and the folder that paths are relative to."""
    pandas = require("pandas", "MediaTable")
    if isinstance(table, pandas.DataFrame):
        read, folder = table, Path()
    elif isinstance(table, str | os.PathLike):
        path = Path(table)
        folder = path.parent
        if not path.is_file():
            raise FileNotFoundError(
                f"`table` must be a CSV file. Received: table={str(path)!r}, "
                "which does not exist"
            )
        try:
            _check_lines(path)
            read = pandas.read_csv(
                path,
                keep_default_na=False,
                na_values=[""],
                encoding="utf-8-sig",
                # Nothing but a column of its own is an index.
                index_col=False,
            )
        except (ValueError, csv.Error, pandas.errors.ParserError) as error:
            raise ValueError(
                "`table` must be a CSV file in UTF-8 with a header. Received: "
                f"table={str(path)!r} ({str(error).splitlines()[0]})"
            ) from None
    else:
        raise ValueError(
            "`table` must be a pandas.DataFrame or the path of a CSV file. "
            f"Received: {type(table).__name__}"
        )
    if not len(read):
        raise ValueError("`table` must have a row. Received: none")
    return read, folder


def _check_lines(path: Path) -> None:
    """Refuse a CSV file whose lines do not have the cells of its header.

    Cells that moved by one would be taken for those of another column.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header = next((line for line in lines if line), [])
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise ValueError(f"the column {twice[0]!r} twice")
        for cells in lines:
            if cells and len(cells) != len(header):
                raise ValueError(
                    f"{len(cells)} cells in line {lines.line_num} for "
                    f"{len(header)} columns; a cell with a comma has to stand "
                    "in quotes"
                )
