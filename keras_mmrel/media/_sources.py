"""Where the rows of one modality of a table come from."""

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.media._cache import Cache
from keras_mmrel.media._reading import UNREADABLE
from keras_mmrel.media._reading import UnreadableFiles
from keras_mmrel.media._reading import WrongCell
from keras_mmrel.media._reading import reason_of
from keras_mmrel.media._reading import unreadable
from keras_mmrel.media.file_medium import FileMedium
from keras_mmrel.media.medium import each


class CellSource:
    """Rows of a medium that reads cells: all are there.

    Args:
        values: Array `(rows, ...)` or a dict of them.
        present: Booleans `(rows,)`.
    """

    def __init__(self, values: Any, present: Array) -> None:
        self.values = values
        self.present = present

    def rows(self, rows: Array, seeds: Sequence[Any]) -> tuple[Any, Array]:
        """Return the values of some rows, and which of them are there."""
        if isinstance(self.values, Mapping):
            values: Any = {n: v[rows] for n, v in self.values.items()}
        else:
            values = self.values[rows]
        return values, self.present[rows]


class FileSource:
    """Rows of a medium that reads files: each is decoded when it is asked for.

    Args:
        medium: How a file is read.
        paths: The file of each row, `None` where there is none.
        cells: Column -> what the rows say, for the columns of the medium.
        labels: What the table calls its rows.
        cache: Where decoded arrays are kept, or `None`.
        log: Where unreadable files are told, or `None` to raise.
    """

    def __init__(
        self,
        medium: FileMedium,
        paths: Sequence[Path | None],
        cells: Mapping[str, Sequence[Any]],
        labels: Sequence[Any],
        cache: Cache | None,
        log: UnreadableFiles | None,
    ) -> None:
        self.medium = medium
        self.paths = list(paths)
        self.cells = dict(cells)
        self.labels = list(labels)
        self.cache = None if medium.is_random else cache
        self.log = log
        self.present = np.array([path is not None for path in paths], bool)

    def rows(self, rows: Array, seeds: Sequence[Any]) -> tuple[Any, Array]:
        blank = self.medium.blank()
        values = each(
            lambda one: np.zeros((len(rows), *one.shape), one.dtype), blank
        )
        there = np.zeros(len(rows), bool)
        for place, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
            value = self._row(int(row), seed)
            if value is None:
                continue
            there[place] = True
            if isinstance(value, Mapping):
                for name, part in value.items():
                    values[name][place] = part
            else:
                values[place] = value
        return values, there

    def _row(self, row: int, seed: Any) -> Any:
        path = self.paths[row]
        if path is None:
            return None
        cells = {name: column[row] for name, column in self.cells.items()}
        try:
            decoded = self._decoded(path, cells, np.random.default_rng(seed))
        except UNREADABLE as error:
            if self.log is None and isinstance(error, WrongCell):
                raise ValueError(f"Row {self.labels[row]!r}, {error}") from None
            if self.log is None:
                raise unreadable(
                    self.labels[row],
                    self.medium.column,
                    path,
                    reason_of(error),
                ) from error
            self.log.add(row, self.medium.column, str(path), reason_of(error))
            return None
        value = self.medium.transformed(decoded)
        shape = each(lambda one: one.shape, value)
        if shape != self.medium.shape:
            raise ValueError(
                "`transform` must return one shape for all arrays. Received: "
                f"{shape} for {str(path)!r}, and {self.medium.shape} for zeros"
            )
        return value

    def _decoded(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Array:
        medium = self.medium
        key = ""
        is_folder = path.is_dir() and medium.takes_folders
        if not path.is_file() and not is_folder:
            raise ValueError("no file, but a folder or a device")
        if self.cache is not None:
            kind = type(medium)
            others = {c: cells[c] for c in medium.columns[1:]}
            key = self.cache.key(
                path,
                {
                    "medium": f"{kind.__module__}.{kind.__qualname__}",
                    "cells": {name: str(cell) for name, cell in others.items()},
                    **medium.settings(),
                },
            )
            form = medium.decoded_shape, medium.decoded_dtype
            known = self.cache.get(key, *form)
            if known is not None:
                return known
        if not is_folder and not path.stat().st_size:
            raise ValueError("an empty file")
        decoded = np.asarray(
            medium.decode(path, cells, rng), medium.decoded_dtype
        )
        if decoded.shape != medium.decoded_shape:
            raise ValueError(
                f"shape {decoded.shape}, not {medium.decoded_shape}"
            )
        if decoded.dtype.kind == "f" and not np.isfinite(decoded).all():
            raise ValueError("values that are not finite")
        if self.cache is not None:
            self.cache.put(key, decoded)
        return decoded
