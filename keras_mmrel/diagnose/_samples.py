"""What is wrong with samples: doubles, their order, classes too small."""

import zlib

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.diagnose._limits import limit
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose._values import ROWS
from keras_mmrel.diagnose._values import absent
from keras_mmrel.diagnose.finding import Finding

# Features are projected to so many numbers before all pairs are looked at,
# in pieces of so many rows, and of at most so many samples.
PROJECTED = 64
PIECE = 1000
MOST = 20_000
# With fewer features pairs are near by chance.
FEATURES = 10


def check_samples(table: Table, y: Array) -> list[Finding]:
    """Return what is wrong with rows and labels.

    Args:
        table: The data.
        y: Class numbers, negative where a row has none.
    """
    doubles = duplicates(table)
    return [
        *_duplicates(table, y, doubles),
        *_same_files(table, doubles),
        *_near(table, y, doubles),
        *_classes(table, y),
        *_order(y),
    ]


def duplicates(table: Table) -> Array:
    """Number of the first row that is the very same as a row, `(samples,)`.

    A row that is missing altogether is no double of another such row.
    """
    keys = np.zeros(table.samples, "uint64")
    empty = np.ones(table.samples, bool)
    for name in table.x:
        values = np.nan_to_num(table.flat(name))
        crc = [zlib.crc32(row.tobytes()) for row in values]
        keys = keys * np.uint64(1_000_003) + np.array(crc, "uint64")
        empty &= absent(table, name)
    first = np.arange(table.samples)
    _, index, place = np.unique(keys, return_index=True, return_inverse=True)
    found = index[place]
    return np.where(empty, first, found)


def _duplicates(table: Table, y: Array, doubles: Array) -> list[Finding]:
    again = np.flatnonzero(doubles != np.arange(len(doubles)))
    if not len(again):
        return []
    other = y[again] != y[doubles[again]]
    crossed = _crossed(table, again, doubles[again])
    parts = [
        f"{len(again)} rows repeat another row, value for value, such as row "
        f"{again[0]} row {doubles[again[0]]}"
    ]
    if other.any():
        parts.append(f"{int(other.sum())} of them with another label")
    if crossed is not None:
        parts.append(f"{crossed} with one in the test part")
    text = "; ".join(parts)
    bad = bool(other.any() or crossed)
    return [
        Finding(
            "duplicates",
            "error" if bad else "warning",
            f"{text}. Here doubles stay in one part, training or test, where "
            "the split is not the data's own.",
            rows=again[:ROWS].tolist(),
            numbers={
                "rows": len(again),
                "other_label": int(other.sum()),
                "across_split": crossed or 0,
            },
        )
    ]


def _crossed(table: Table, rows: Array, others: Array) -> int | None:
    """Pairs of which one is for training and one for test."""
    if table.test is None:
        return None
    return int((table.test[rows] != table.test[others]).sum())


def _same_files(table: Table, doubles: Array) -> list[Finding]:
    """Rows that share a modality, and differ in the others."""
    if len(table.x) < 2:
        return []
    found = []
    own = doubles == np.arange(len(doubles))
    for name in table.x:
        rows = np.flatnonzero(own & ~absent(table, name))
        values = table.flat(name)
        if values.shape[1] < 2 or len(rows) < 4:
            continue
        keys = [values[row].tobytes() for row in rows]
        distinct, first, place = np.unique(
            keys, return_index=True, return_inverse=True
        )
        again = np.flatnonzero(first[place] != np.arange(len(rows)))
        if not len(again) or len(distinct) < 0.9 * len(rows):
            continue
        one = rows[again[0]]
        other = rows[first[place][again[0]]]
        found.append(
            Finding(
                "same_file",
                "warning",
                f"'{name}' of {len(again)} rows is that of another row whose "
                f"other modalities differ, such as row {one} and row {other}: "
                "one file may have been taken for two samples.",
                name,
                rows[again][:ROWS].tolist(),
                numbers={"rows": len(again)},
            )
        )
    return found


def _near(table: Table, y: Array, doubles: Array) -> list[Finding]:
    rows = np.flatnonzero(doubles == np.arange(len(doubles)))
    width = sum(table.flat(name).shape[1] for name in table.x)
    if width < FEATURES or not 10 <= len(rows) <= MOST:
        return []
    points = _points(table)[rows]
    seen = points
    if points.shape[1] > PROJECTED:
        rng = np.random.default_rng(0)
        directions = rng.normal(size=(points.shape[1], PROJECTED))
        seen = (points @ directions / np.sqrt(PROJECTED)).astype("float32")
    nearest = _nearest(seen)
    distance = np.linalg.norm(points - points[nearest], axis=1)
    close = np.flatnonzero(
        distance < limit("near_duplicate") * np.median(distance)
    )
    pairs = {tuple(sorted((int(i), int(nearest[i])))) for i in close}
    if not pairs:
        return []
    a, b = (rows[list(side)] for side in zip(*sorted(pairs), strict=True))
    other = int((y[a] != y[b]).sum())
    crossed = _crossed(table, a, b)
    text = (
        f"{len(pairs)} pairs of rows are nearly the same, such as rows {a[0]} "
        f"and {b[0]}"
    )
    text += f"; {other} with different labels" if other else ""
    text += f"; {crossed} across training and test part" if crossed else ""
    return [
        Finding(
            "near_duplicates",
            "warning" if other or crossed else "note",
            f"{text}: repeated measurements, or copies. Keep them in one part "
            "by `groups`.",
            rows=b[:ROWS].tolist(),
            numbers={
                "pairs": len(pairs),
                "other_label": other,
                "across_split": crossed or 0,
            },
        )
    ]


def _points(table: Table) -> Array:
    """Standardized features, all modalities of the same weight."""
    parts = []
    for name in table.x:
        values = table.flat(name).astype("float32", copy=True)
        values[~np.isfinite(values)] = np.nan
        with np.errstate(all="ignore"):
            mean = np.nan_to_num(np.nanmean(values, axis=0))
            deviation = np.nan_to_num(np.nanstd(values, axis=0))
        deviation[deviation == 0] = 1
        scaled = np.nan_to_num((values - mean) / deviation)
        parts.append(scaled / np.sqrt(values.shape[1]))
    return np.concatenate(parts, axis=1)


def _nearest(points: Array) -> Array:
    """Number of the nearest other point of each."""
    squares = (points**2).sum(axis=1)
    found = np.empty(len(points), int)
    for start in range(0, len(points), PIECE):
        piece = points[start : start + PIECE]
        distance = squares[None] - 2 * piece @ points.T
        distance[np.arange(len(piece)), start + np.arange(len(piece))] = np.inf
        found[start : start + PIECE] = distance.argmin(axis=1)
    return found


def _classes(table: Table, y: Array) -> list[Finding]:
    labels, counts = np.unique(table.y[y >= 0], return_counts=True)
    found = []
    small = counts < limit("small_class")
    if small.any():
        names = ", ".join(
            f"{label} ({count})"
            for label, count in zip(labels[small], counts[small], strict=True)
        )
        found.append(
            Finding(
                "small_class",
                "warning",
                f"{int(small.sum())} of {len(labels)} classes have fewer than "
                f"{limit('small_class'):.0f} samples: {names}. What is said "
                "of them is chance; collect more, or join them with others.",
                columns=[str(label) for label in labels[small]],
                numbers={
                    "classes": int(small.sum()),
                    "smallest": int(counts.min()),
                },
            )
        )
    ratio = counts.max() / counts.min()
    if ratio > limit("imbalance"):
        most = labels[counts.argmax()]
        share = 100 * counts.max() / counts.sum()
        found.append(
            Finding(
                "imbalance",
                "note",
                f"The largest class, {most}, has {ratio:.1f} times the samples "
                f"of the smallest one: always to name it is right in "
                f"{share:.1f} % of the rows.",
                numbers={"ratio": float(ratio), "percent": float(share)},
            )
        )
    return found


def _order(y: Array) -> list[Finding]:
    known = y[y >= 0]
    counts = np.bincount(known)
    expected = (len(known) - 1) * (1 - ((counts / len(known)) ** 2).sum())
    changes = int((known[1:] != known[:-1]).sum())
    if expected < 10 or changes > limit("sorted_labels") * expected:
        return []
    return [
        Finding(
            "sorted_labels",
            "note",
            f"Rows are sorted by their labels: the class changes {changes} "
            f"times from row to row, by chance {expected:.0f} times. Anything "
            "that counts or drifts along the rows gives labels away; split "
            "with shuffling, as is done here.",
            numbers={"changes": changes, "by_chance": float(expected)},
        )
    ]
