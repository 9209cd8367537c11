from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Names
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LARGEST
from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media.medium import Medium
from keras_mmrel.media.medium import zeros
from keras_mmrel.user_warning import warn

# More values of one column are a name or a date, not a category.
MOST_CATEGORIES = 1000
# From more on than these, and than half of the rows, there is a warning.
FEW_CATEGORIES = 20


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(columns=Every(COLUMN), categorical=Names())
class Tabular(Medium):
    """Numbers and categories of a table's own columns, as one vector.

    Numbers are standardised by `keras.layers.Normalization`, categories
    become one-hot by `keras.layers.CategoryEncoding`. What these need is
    learnt from the first table that it reads, **so let that be the training
    one**, and used for all others: `train.like(test_table)`. It is in
    `get_config`.

    A row without a value in any of the columns has the modality missing. A
    single number that lacks is the training mean, 0; a category that lacks is
    zeros, one that training did not have is the column's first entry.

    Args:
        columns: Names of the columns, in the order of the vector.
        categorical: Those that hold categories though they look like
            numbers. Columns of text are categories anyway.

    Example:

    >>> import pandas as pd
    >>> from keras_mmrel import media
    >>> clinic = media.Tabular(["age", "sex"])
    >>> clinic.adapt(pd.DataFrame({"age": [40, 60], "sex": ["f", "m"]}))
    >>> clinic.shape, clinic.names
    ((4,), ['age', 'sex=?', 'sex=f', 'sex=m'])
    >>> rows = pd.DataFrame({"age": [50, None], "sex": ["x", "f"]})
    >>> clinic.transform(rows)
    array([[0., 1., 0., 0.],
           [0., 0., 1., 0.]], dtype=float32)
    """

    def __init__(
        self, columns: Sequence[str], *, categorical: Sequence[str] = ()
    ) -> None:
        super().__init__(columns)
        unknown = set(categorical) - set(columns)
        if unknown or len(set(columns)) < len(columns):
            raise ValueError(
                "`columns` must name each column once, and `categorical` some "
                f"of them. Received: columns={list(columns)}, "
                f"categorical={list(categorical)}"
            )
        self.categorical = tuple(categorical)
        # Column -> its categories, or its mean and variance.
        self.learnt: dict[str, list] = {}
        self.numeric: list[str] = []

    # -- Learning ------------------------------------------------------------

    def adapt(self, table: Frame) -> None:
        """Learn means, variances and categories from training rows."""
        learnt: dict[str, list] = {}
        numeric = []
        for column in self.columns:
            cells = table[column]
            if column in self.categorical or cells.dtype.kind not in "biuf":
                learnt[column] = self._categories(column, cells)
                continue
            numeric.append(column)
            known = _numbers(column, cells)
            known = known[np.isfinite(known)]
            if not len(known):
                raise ValueError(
                    f"Column '{column}' must hold a number in some row. "
                    f"Received: {len(cells)} rows without one"
                )
            layer = keras.layers.Normalization(axis=None)
            layer.adapt(known)
            mean, variance = (
                keras.ops.convert_to_numpy(value).item()
                for value in (layer.mean, layer.variance)
            )
            # What never varied would be divided by nothing.
            learnt[column] = [mean, variance if variance > 0 else 1.0]
        self.learnt, self.numeric = learnt, numeric

    def _categories(self, column: str, cells: Any) -> list[str]:
        found = sorted({_category(c) for c in cells[_there(cells)]})
        if not 0 < len(found) <= MOST_CATEGORIES:
            raise ValueError(
                f"Column '{column}' must have 1 to {MOST_CATEGORIES:,} "
                f"categories. Received: {len(found):,}, such as {found[:3]}"
            )
        if column in self.categorical:
            return found
        numbers = [name for name in found if _is_number(name)]
        if 2 * len(numbers) > len(found):
            others = [name for name in found if name not in numbers]
            raise ValueError(
                f"Column '{column}' must be made of numbers with decimal "
                "points, or be named in `categorical` if these are categories. "
                f"Received: text, such as {(others or numbers)[:3]}"
                f"{' beside numbers' * bool(others)}"
            )
        if len(found) > max(FEW_CATEGORIES, len(cells) / 2):
            warn(
                f"Column '{column}' has {len(found)} categories in "
                f"{len(cells)} rows, such as {found[:3]}: names and dates are "
                "no categories (`categorical` says that they are)."
            )
        return found

    def _check_adapted(self) -> None:
        if not self.learnt:
            raise ValueError(
                "`Tabular` must have seen training rows: `adapt(table)`, or "
                "give it to the training table first. Received: none yet"
            )

    # -- Reading -------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Names of the entries of the vector; `?` is what is unknown."""
        self._check_adapted()
        names = []
        for column in self.columns:
            if column in self.numeric:
                names.append(column)
            else:
                known = ["?", *self.learnt[column]]
                names += [f"{column}={name}" for name in known]
        return names

    def blank(self) -> Array:
        return zeros((len(self.names),))

    def transform(self, table: Frame) -> Array:
        """Return the vectors of all rows, `(rows, entries)` in float32."""
        self._check_adapted()
        parts = []
        for column in self.columns:
            cells = table[column]
            if column in self.numeric:
                mean, variance = self.learnt[column]
                values = _numbers(column, cells)
                filled = np.where(np.isfinite(values), values, mean)
                layer: Any = keras.layers.Normalization(
                    axis=None, mean=mean, variance=variance
                )
                part = keras.ops.convert_to_numpy(layer(filled))[:, None]
            else:
                known = {n: i + 1 for i, n in enumerate(self.learnt[column])}
                there = np.asarray(_there(cells))
                numbers = [
                    known.get(_category(cell), 0) if is_there else 0
                    for cell, is_there in zip(cells, there, strict=True)
                ]
                layer = keras.layers.CategoryEncoding(
                    num_tokens=len(known) + 1, output_mode="one_hot"
                )
                part = keras.ops.convert_to_numpy(
                    layer(np.array(numbers, "int32"))
                )
                part = part * there[:, None]
            parts.append(part.astype("float32"))
        return np.concatenate(parts, axis=1)

    def read_cells(
        self, table: Frame, paths: Sequence[Path | None]
    ) -> tuple[Array, Array, dict[int, str]]:
        if not self.learnt:
            self.adapt(table)
        there = np.stack([_there(table[c]) for c in self.columns])
        present: Array = np.asarray(there.any(axis=0))
        values = self.transform(table)
        values[~present] = 0
        return values, present, {}

    # -- Saving --------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        return {
            "columns": list(self.columns),
            "categorical": list(self.categorical),
            "learnt": self.learnt,
            "numeric": self.numeric,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Tabular":
        made = cls(config["columns"], categorical=config["categorical"])
        made.learnt = dict(config["learnt"])
        made.numeric = list(config["numeric"])
        return made


def _there(cells: Any) -> Any:
    """Which cells hold anything."""
    return cells.notna() & (cells.astype(str).str.strip() != "")


def _numbers(column: str, cells: Any) -> Array:
    """Cells as float64, NaN where there is none."""
    try:
        values = cells.to_numpy(dtype="float64", na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Column '{column}' must hold numbers, as in training. Received: "
            f"{error}"
        ) from None
    wrong = np.flatnonzero(np.abs(values) > LARGEST)
    if len(wrong):
        raise ValueError(
            f"Column '{column}' must hold numbers of at most {LARGEST:g} in "
            f"size. Received: {values[wrong[0]]} in row {cells.index[wrong[0]]}"
        )
    return values


def _category(cell: Any) -> str:
    """Name of a category, the same for 1, 1.0 and "1"."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        cell = int(cell)
    return str(cell).strip()


def _is_number(text: str) -> bool:
    """Whether a text is a number, with a decimal point or comma."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True
