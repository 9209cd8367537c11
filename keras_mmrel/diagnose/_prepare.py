"""From the data as they are to data that can be trained on."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_mmrel.benchmark._csv import MISSING
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.diagnose._leaks import index_columns
from keras_mmrel.diagnose._samples import duplicates
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose._values import absent
from keras_mmrel.diagnose.finding import Finding

# Classes that labels may have, as a fraction of the samples.
MOST_CLASSES = 0.5


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Data that the engine takes.

    Args:
        x: Modality name -> finite array, and the mask if anything is missing.
        y: Class numbers.
        classes: Names of the classes.
        rows: Number in the given data of each row.
        groups: Number of the group of each row: what must not be parted.
        test: Boolean, the test part of the data's own, or `None`.
    """

    x: Mapping[str, Array]
    y: Array
    classes: list[str]
    rows: Array
    groups: Array
    test: Array | None

    @property
    def modalities(self) -> list[str]:
        return [name for name in self.x if name != MASK]

    @property
    def present(self) -> Array:
        """Boolean `(samples, modalities)`."""
        if MASK in self.x:
            return self.x[MASK] > 0
        return np.ones((len(self.y), len(self.modalities)), bool)


def class_numbers(y: Array) -> tuple[Array, list[str]]:
    """Return a class number a row, -1 where there is no label, and names.

    Raises:
        ValueError: If labels are no classes.
    """
    if y.dtype.kind == "f":
        known = np.isfinite(y)
    elif y.dtype.kind in "iub":
        known = np.ones(len(y), bool)
    else:
        texts = [str(value).strip() for value in y.tolist()]
        known = np.array([t.lower() not in MISSING for t in texts])
        y = np.array(texts)
    names, numbers = np.unique(y[known], return_inverse=True)
    whole = y.dtype.kind != "f" or bool((names == np.floor(names)).all())
    if len(names) < 2 or len(names) > MOST_CLASSES * len(y) or not whole:
        raise ValueError(
            "`labels` must be classes, two or more and each of several "
            f"samples. Received: {len(names)} different values "
            f"{names[:4].tolist()} in {len(y)} rows"
        )
    found = np.full(len(y), -1)
    found[known] = numbers
    shown = names.astype(int) if y.dtype.kind == "f" else names
    return found, [str(name) for name in shown.tolist()]


def prepare(table: Table, y: Array) -> tuple[Prepared, list[Finding]]:
    """Make data that can be trained on, and say what was left out.

    What is missing gets a mask, other values that are no numbers the median
    of their feature, and columns that count rows are left out, as are rows
    without a label and classes of one sample.

    Args:
        table: The data.
        y: Class numbers, negative where a row has none.

    Raises:
        ValueError: If too little is left.
    """
    counts = np.bincount(y[y >= 0])
    single = counts < 2
    lost = y < 0
    alone = ~lost & single[y]
    missing = np.stack([absent(table, n) for n in table.x], axis=1)
    empty = missing.all(axis=1)
    kept = ~(lost | alone | empty)
    found = [
        finding
        for finding in (
            _left_out(lost, "have no label", "no_label"),
            _left_out(alone, "are the only one of their class", "single"),
            _left_out(empty & ~lost, "have no modality at all", "no_modality"),
        )
        if finding is not None
    ]
    classes = np.unique(y[kept])
    if len(classes) < 2 or kept.sum() < 20:
        raise ValueError(
            "`source` must have 20 or more usable samples of two or more "
            f"classes. Received: {int(kept.sum())} samples of {len(classes)}"
        )
    rows = np.flatnonzero(kept)
    part, there = table.take(rows), ~missing[rows]
    x = {
        name: _filled(part, name, there[:, place], index_columns(table, name))
        for place, name in enumerate(table.x)
    }
    # A modality that has no feature or no row left tells nothing.
    names = [n for p, n in enumerate(x) if x[n].size and there[:, p].any()]
    if not names:
        raise ValueError(
            "`source` must have a modality with features. Received: none "
            "after columns that count rows and what is missing"
        )
    there = there[:, [list(x).index(n) for n in names]]
    x = {name: x[name] for name in names}
    if not there.all():
        x[MASK] = there.astype("float32")
    return (
        Prepared(
            x,
            np.searchsorted(classes, y[rows]),
            [str(c) for c in _names(table, y, classes)],
            rows,
            _groups(part),
            part.test,
        ),
        found,
    )


def _names(table: Table, y: Array, classes: Array) -> list[str]:
    first = [int(np.flatnonzero(y == c)[0]) for c in classes]
    values = table.y[first]
    if values.dtype.kind == "f":
        values = values.astype(int)
    return [str(v) for v in values.tolist()]


def _left_out(rows: Array, why: str, kind: str) -> Finding | None:
    if not rows.any():
        return None
    count = int(rows.sum())
    return Finding(
        kind,
        "warning",
        f"{count} row{'s' if count > 1 else ''} {why}, and "
        f"{'are' if count > 1 else 'is'} left out.",
        rows=np.flatnonzero(rows)[:20].tolist(),
        numbers={"rows": count},
    )


def _filled(table: Table, name: str, there: Array, index: list[int]) -> Array:
    """A modality of finite numbers, without columns that count rows."""
    values = table.x[name].copy()
    shape = values.shape
    flat = values.reshape(len(values), -1)
    bad = ~np.isfinite(flat)
    flat[bad] = np.nan
    if bad[there].any():
        with np.errstate(all="ignore"):
            middle = np.nan_to_num(_medians(flat[there]))
        flat[bad] = np.broadcast_to(middle, flat.shape)[bad]
    flat[~there] = 0
    if index:
        return np.delete(flat, index, axis=1)
    return flat.reshape(shape)


def _medians(values: Array) -> Array:
    """Medians of what is known; of nothing, 0."""
    known = np.isfinite(values).any(axis=0)
    found = np.zeros(values.shape[1], values.dtype)
    found[known] = np.nanmedian(values[:, known], axis=0)
    return found


def _groups(table: Table) -> Array:
    """Doubles belong together, and so do rows of a group."""
    doubles = duplicates(table)
    if table.groups is None:
        return np.unique(doubles, return_inverse=True)[1]
    group = np.unique(table.groups.astype(str), return_inverse=True)[1]
    # Two groups that share a double are one: join until nothing changes.
    while True:
        joined = group.copy()
        for keys in (doubles, group):
            least = np.full(keys.max() + 1, len(keys))
            np.minimum.at(least, keys, joined)
            joined = least[keys]
        if (joined == group).all():
            return np.unique(group, return_inverse=True)[1]
        group = joined
