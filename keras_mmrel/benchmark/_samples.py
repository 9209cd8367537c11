"""All samples of a data set, and their splits."""

import dataclasses
import zlib
from typing import Any

import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import parts_of
from keras_mmrel.contract import rows_of
from keras_mmrel.optional import require

Part = tuple[dict[str, Any], Array]
# Of a modality of several arrays: which of its steps are there.
PADDING = "padding_mask"


@dataclasses.dataclass(frozen=True)
class Samples:
    """A data set in memory; the first `published` are for training.

    `published` is `None` where splits are drawn anew with every seed. A
    modality is an array, or a dict of arrays such as a padded sequence.
    """

    name: str
    x: dict[str, Any]
    y: Array
    published: int | None
    test_fraction: float
    scale: str

    @property
    def num_classes(self) -> int:
        return int(self.y.max()) + 1

    @property
    def fingerprint(self) -> str:
        """Changes with any value of the data."""
        crc = 0
        for name, values in [*self.x.items(), ("y", self.y)]:
            crc = zlib.crc32(name.encode(), crc)
            for part, array in parts_of(values).items():
                crc = zlib.crc32(part.encode(), crc)
                crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
        return f"{crc:08x}"

    def rows(self, seed: int) -> tuple[Array, Array]:
        """Rows of the training and of the test part."""
        if self.published is not None:
            rows = np.arange(len(self.y))
            return rows[: self.published], rows[self.published :]
        where = f"datasets.{self.name}.test_fraction"
        return stratified(self.y, self.test_fraction, seed, where)

    def parts(self, seed: int) -> tuple[Part, Part]:
        """Training and test part, the same for every method of a seed."""
        first, second = self.rows(seed)
        return self._part(first, first), self._part(first, second)

    def _part(self, training: Array, rows: Array) -> Part:
        x = rows_of(self.x, rows)
        if self.scale == "minmax":
            known = rows_of(self.x, training)
            for name in modality_arrays(x):
                present = self._present(name, training)
                scale = scaled_parts if isinstance(x[name], dict) else scaled
                x[name] = scale(known[name], x[name], present)
        return x, self.y[rows]

    def _present(self, name: str, rows: Array) -> Array | None:
        """Which samples have a modality, `None` for all."""
        if MASK not in self.x:
            return None
        column = [n for n in self.x if n != MASK].index(name)
        return self.x[MASK][rows][:, column] > 0


def stratified(
    y: Array, fraction: float, seed: int, where: str = "fraction"
) -> tuple[Array, Array]:
    """Rows of two parts with the same fractions of the classes.

    Raises:
        ValueError: If the first part would lack a class, or the second is
            too small; it calls the fraction `where`.
    """
    split = require("sklearn.model_selection", "benchmark").train_test_split

    try:
        parts = split(
            np.arange(len(y)), test_size=fraction, stratify=y, random_state=seed
        )
    except ValueError:
        parts = ()
    if not parts or len(set(y[parts[0]])) < len(set(y)):
        counts = np.unique(y, return_counts=True)[1].tolist()
        key = where.rsplit(".", 1)[-1]
        raise ValueError(
            f"`{where}` must leave samples of every class to train on, and as "
            f"many samples as classes to score. Received: {key}="
            f"{fraction:g} of {counts} samples a class"
        )
    return parts[0], parts[1]


def scaled(
    training: Array, values: Array, present: Array | None = None
) -> Array:
    """Scale to [0, 1] on the training part: vectors feature by feature.

    Args:
        training: Training samples.
        values: What is scaled.
        present: Boolean `(training samples,)`: which of them the modality
            has; what the others hold does not matter. `None` for all.
    """
    if present is not None and present.any():
        training = training[present]
    return _scaled(training, values, axis=0 if training.ndim == 2 else None)


def scaled_parts(
    training: dict[str, Array],
    values: dict[str, Array],
    present: Array | None = None,
) -> dict[str, Array]:
    """Scale the floating-point arrays of a modality that has several.

    Tokens and masks are what they are. What `"padding_mask"` calls padding
    says nothing about a range, and stays 0; of the steps that are there, each
    feature is scaled.
    """
    if present is not None and present.any():
        training = {name: array[present] for name, array in training.items()}
    made = {}
    for name, array in values.items():
        made[name] = array
        if array.dtype.kind != "f":
            continue
        there = training.get(PADDING)
        if there is None or there.shape != training[name].shape[:2]:
            made[name] = scaled(training[name], array)
            continue
        steps = training[name][there > 0]
        padding = values[PADDING].reshape(
            array.shape[:2] + (1,) * (array.ndim - 2)
        )
        made[name] = _scaled(steps, array, axis=0) * (padding > 0)
    return made


def _scaled(training: Array, values: Array, axis: int | None) -> Array:
    low, high = training.min(axis=axis), training.max(axis=axis)
    span = high - low
    # What is constant in training may not be so elsewhere.
    span = np.where(span > 1e-6, span, 1.0)
    return ((values - low) / span).astype("float32")
