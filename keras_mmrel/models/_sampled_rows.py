"""Rows of a pipeline that stand for all of them, before the first step."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Model
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import to_numpy
from keras_mmrel.user_warning import warn

# Rows for a layer that does not say how many, and how many times as many are
# read where classes are missing among them.
ROWS = 2048
PATIENCE = 16


def counted(
    y: Array, sample_weight: Any = None, class_weight: dict | None = None
) -> Array:
    """Say which samples of class numbers `y` have a weight above 0."""
    weights = class_weight or {}
    kept = np.array([weights.get(c, 1.0) > 0 for c in y.tolist()], bool)
    if sample_weight is not None:
        kept = kept & (to_numpy(sample_weight).reshape(-1) > 0)
    return kept


class SampledRows:
    """Rows of a pipeline, drawn while it is read.

    The batches of a `PyDataset` are taken from all over it. Of another
    pipeline the first ones are read, and more where these lack a class, or a
    modality that varies: in data sorted by class the first rows say nothing
    of the last.

    Attributes:
        varies: `(modalities,)`, which of them differ between two rows.
        inputs: Name -> rows that have a weight above 0, in their order.
        y: Their class numbers.

    Args:
        model: The model, for its modalities and classes.
        data: Checked pipeline that can be read more than once.
        count: Number of rows that are enough.
        names: Modalities whose rows are kept.
        class_weight: As in `fit`.
    """

    def __init__(
        self,
        model: Model,
        data: DataSource,
        count: int,
        names: list[str],
        class_weight: dict | None,
    ) -> None:
        self.model = model
        self.count = count
        self.names = names
        self.class_weight = class_weight
        self.varies = np.zeros(len(model.modality_names), bool)
        self.first: dict[str, Any] = {}
        self.rng = np.random.default_rng(0)
        self.parts: list[tuple] = []
        self.seen: set[int] = set()
        self.masked = False
        wanted = {
            c
            for c in range(model.num_classes)
            if (class_weight or {}).get(c, 1.0) > 0
        }
        read, on = 0, False
        for index, batch in _batches(data):
            read += self._take(
                index, *keras.utils.unpack_x_y_sample_weight(batch)
            )
            held = sum(len(part[1]) for part in self.parts)
            if held >= 2 * count:
                self._thin()
            if held >= count and not on:
                # What comes late would have few rows if it ended the reading.
                on = not (wanted <= self.seen and self.varies.all())
                if not on:
                    break
            if read >= PATIENCE * count:
                break
        else:
            wanted = self.seen
        if wanted - self.seen:
            warn(
                f"`quality` knows no sample of the classes "
                f"{sorted(wanted - self.seen)}, which the first {read} of the "
                "pipeline lack: shuffle it, or `model.quality.adapt(inputs, "
                "y)` before `fit`."
            )
        self.parts.sort(key=lambda part: part[0])
        self._join()

    def _take(self, index: int, x: dict, y: Any, weight: Any) -> int:
        """Keep a batch's rows and return how many it has."""
        y = check_labels(to_numpy(y), self.model.num_classes, soft=True)
        rows = np.flatnonzero(counted(y, weight, self.class_weight))
        names = self.model.modality_names
        mask = np.ones((len(y), len(names)), "float32")
        if x.get(MASK) is not None:
            self.masked = True
            mask = to_numpy(x[MASK])
        mask = mask[rows]
        for column, name in enumerate(names):
            if not self.varies[column]:
                there = rows[mask[:, column] > 0]
                self.varies[column] = self._differs(name, x[name], there)
        kept = {n: _rows_of(x[n], rows) for n in self.names}
        columns = [names.index(name) for name in self.names]
        kept[MASK] = mask[:, columns]
        self.seen |= set(y[rows].tolist())
        if len(rows):
            keys = self.rng.random(len(rows))
            self.parts.append((index, keys, kept, y[rows]))
        return len(y)

    def _differs(self, name: str, x: Any, rows: Array) -> bool:
        """Whether any of the rows is another than the first one seen."""
        if not len(rows):
            return False
        leaves = keras.tree.flatten(_rows_of(x, rows))
        first = self.first.setdefault(name, [leaf[0] for leaf in leaves])
        return any(
            bool((leaf != one).any())
            for leaf, one in zip(leaves, first, strict=True)
        )

    def _thin(self) -> None:
        """Keep `count` rows: those of the smallest random keys."""
        keys = np.concatenate([part[1] for part in self.parts])
        limit = np.partition(keys, self.count)[self.count]
        thinned = []
        for index, key, inputs, y in self.parts:
            few = np.flatnonzero(key < limit)
            if len(few):
                inputs = _rows_of(inputs, few)
                thinned.append((index, key[few], inputs, y[few]))
        self.parts = thinned

    def _join(self) -> None:
        def joined(*parts: Any) -> Any:
            return np.concatenate(parts)

        self.inputs: dict[str, Any] = {}
        self.y = np.zeros((0,), "int64")
        if self.parts:
            inputs = [part[2] for part in self.parts]
            self.inputs = keras.tree.map_structure(joined, *inputs)
            self.y = joined(*(part[3] for part in self.parts))
            if not self.masked:
                self.inputs.pop(MASK)


def _rows_of(x: Any, rows: Array) -> Any:
    return keras.tree.map_structure(lambda v: to_numpy(v)[rows], x)


def _batches(data: DataSource) -> Iterator:
    """Yield the place of a batch, and the batch."""
    if not isinstance(data, keras.utils.PyDataset):
        return enumerate(data)
    # It has a length, or none, and no end of its own.
    count = data.num_batches
    order: Any = itertools.count()
    if count is not None:
        # Any first ones of this order are spread evenly over all.
        stride = max(1, round(0.618 * count))
        while math.gcd(stride, count) > 1:
            stride += 1
        order = [i * stride % count for i in range(count)]
    return ((index, data[index]) for index in order)
