"""Columns that must be no features: they count rows, or know the label."""

import numpy as np

from keras_mmrel.benchmark._csv import counts_up
from keras_mmrel.contract import Array
from keras_mmrel.diagnose._limits import limit
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose._values import absent
from keras_mmrel.diagnose.finding import Finding
from keras_mmrel.optional import require

# Features of a modality that a tree is asked about, those whose class means
# differ most.
ASKED = 20
SAMPLES = 5000


def check_leaks(table: Table, y: Array) -> list[Finding]:
    """Return what gives the labels away.

    Args:
        table: The data.
        y: Class numbers, negative where a row has none.
    """
    found = []
    for name in table.x:
        columns = index_columns(table, name)
        if columns:
            found.append(_index(table, y, name, columns))
        found += _leaks(table, y, name, columns)
    return found + _shared(table)


def index_columns(table: Table, modality: str) -> list[int]:
    """Return columns that only count the rows, in any order."""
    values = table.flat(modality)
    if table.x[modality].ndim > 2:
        return []
    # A quick look at a few rows leaves out nearly all.
    few = values[: min(len(values), 50)]
    with np.errstate(invalid="ignore"):
        whole = (few == np.floor(few)).all(axis=0)
    return [int(c) for c in np.flatnonzero(whole) if counts_up(values[:, c])]


def _index(table: Table, y: Array, name: str, columns: list[int]) -> Finding:
    shown = ", ".join(table.column(name, c) for c in columns)
    values = table.flat(name)
    says = max(class_named(values[:, c], y) for c in columns)
    gives = says >= limit("leak")
    tail = (
        f"; alone it names the class of {100 * says:.1f} % of held-out samples"
        if gives
        else ""
    )
    return Finding(
        "index",
        "error",
        f"Column {shown} of '{name}' only counts the rows, as an index "
        f"does{tail}. It is left out of all that follows.",
        name,
        columns=[table.column(name, c) for c in columns],
        numbers={"columns": len(columns), "class_named": says},
    )


def _leaks(
    table: Table, y: Array, name: str, index: list[int]
) -> list[Finding]:
    values = table.flat(name)
    known = (y >= 0) & ~absent(table, name)
    if known.sum() < 10 or len(np.unique(y[known])) < 2:
        return []
    ranked = _separation(values[known], y[known])
    ranked[index] = -1
    order = np.argsort(-ranked, kind="stable")[:ASKED]
    said = {
        int(c): class_named(values[known, c], y[known])
        for c in order
        if ranked[c] > 0
    }
    columns = [c for c, share in said.items() if share >= limit("leak")]
    if not columns:
        return []
    shown = ", ".join(table.column(name, c) for c in columns[:5])
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    best = max(said.values())
    plural = len(columns) > 1
    return [
        Finding(
            "leak",
            "error",
            f"Feature{'s' * plural} {shown}{more} of '{name}' alone "
            f"{'name' if plural else 'names'} the class of "
            f"{100 * best:.1f} % of held-out samples (mean over the classes). "
            "Is it known before the label is? All figures below have it in.",
            name,
            columns=[table.column(name, c) for c in columns],
            numbers={"features": len(columns), "class_named": best},
        )
    ]


def _separation(values: Array, y: Array) -> Array:
    """Variance of class means over that within classes, of each feature."""
    values = np.nan_to_num(values.astype("float64"), posinf=0, neginf=0)
    total = values.var(axis=0)
    within = np.zeros(values.shape[1])
    for label in np.unique(y):
        part = values[y == label]
        within += part.var(axis=0) * len(part) / len(y)
    ratio = (total - within) / (within + 1e-9 * total + 1e-30)
    return np.where(total > 0, ratio, -1.0)


def class_named(values: Array, y: Array) -> float:
    """How often a tree on one feature names the class of held-out samples.

    Samples are parted in two by chance, each half judges a tree of the other;
    classes count the same. A class in one half only is left out.
    """
    tree = require("sklearn.tree", "keras_mmrel.diagnose")
    rows = np.flatnonzero((y >= 0) & np.isfinite(values))
    rng = np.random.default_rng(0)
    rows = rng.permutation(rows)[:SAMPLES]
    half = rng.permutation(len(rows)) < len(rows) // 2
    classes = len(np.unique(y[rows]))
    right: dict[int, list[bool]] = {}
    for part in (half, ~half):
        known, asked = rows[part], rows[~part]
        if len(known) < 2 or not len(asked):
            return 0.0
        model = tree.DecisionTreeClassifier(
            max_leaf_nodes=4 * classes, random_state=0
        )
        model.fit(values[known, None], y[known])
        said = model.predict(values[asked, None])
        for label in np.intersect1d(y[known], y[asked]):
            of = y[asked] == label
            right.setdefault(int(label), []).extend(said[of] == label)
    shares = [np.mean(hits) for hits in right.values()]
    return float(np.mean(shares)) if len(shares) > 1 else 0.0


def _shared(table: Table) -> list[Finding]:
    """Features that two modalities have in common, value for value."""
    seen: dict[bytes, tuple[str, int]] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for name in table.x:
        values = np.ascontiguousarray(table.flat(name).T)
        for place, column in enumerate(values):
            if (column == column[0]).all():
                continue
            other = seen.setdefault(column.tobytes(), (name, place))
            if other[0] != name:
                key = (other[0], name)
                shared.setdefault(key, []).append(table.column(name, place))
    return [
        Finding(
            "shared_features",
            "warning",
            f"{len(columns)} features of '{b}' stand in '{a}' too, value for "
            f"value: {', '.join(columns[:5])}.",
            b,
            columns=columns,
            numbers={"features": len(columns)},
        )
        for (a, b), columns in shared.items()
    ]
