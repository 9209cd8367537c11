"""What is wrong with values: no numbers, no variation, other scales."""

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.diagnose._limits import limit
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose.finding import Finding

# Features that a finding names, and rows.
SHOWN = 5
ROWS = 20
# Features of a modality that are looked at one by one, evenly spaced.
LOOKED_AT = 2000


def check_values(table: Table) -> list[Finding]:
    """Return what is wrong with the values of each modality by itself."""
    found = []
    for name in table.x:
        found += _not_finite(table, name)
        found += _dead_rows(table, name)
        found += _constant(table, name)
        found += _stuck(table, name)
    return found + _scales(table)


def absent(table: Table, modality: str) -> Array:
    """Rows in which a modality is not there, whatever marks it.

    They are those that the data announce, those without any number, and those
    that hold the very same values as many others (`repeated_rows`).
    """
    found = ~np.isfinite(table.flat(modality)).any(axis=1)
    if table.mask is not None:
        found |= ~table.mask[:, list(table.x).index(modality)]
    return found | marked(table, modality)


def marked(table: Table, modality: str) -> Array:
    """Rows that hold the same values as many others do, zeros mostly."""
    values = table.flat(modality)
    none = np.zeros(len(values), bool)
    there = np.isfinite(values).all(axis=1)
    if table.mask is not None:
        there &= table.mask[:, list(table.x).index(modality)]
    if values.shape[1] < 2 or there.sum() < 4:
        return none
    rows = np.flatnonzero(there)
    keys = [values[row].tobytes() for row in rows]
    distinct, place, counts = np.unique(
        keys, return_inverse=True, return_counts=True
    )
    most = int(counts.argmax())
    least = max(5, limit("repeated_rows") * len(values))
    others = len(rows) - counts[most]
    if counts[most] < least:
        return none
    zeros = not values[rows[place == most][0]].any()
    if others and len(distinct) - 1 < (0.5 if zeros else 0.9) * others:
        # Few different values are what it has, such as categories.
        return none
    none[rows[place == most]] = True
    return none


def _not_finite(table: Table, name: str) -> list[Finding]:
    values = table.flat(name)
    bad = ~np.isfinite(values)
    if not bad.any():
        return []
    columns = np.flatnonzero(bad.any(axis=0))
    rows = np.flatnonzero(bad.any(axis=1))
    whole = int(bad.all(axis=1).sum())
    text = (
        f"{_count(int(bad.sum()), 'value')} of '{name}' "
        f"({100 * bad.mean():.2g} %), in {_count(len(rows), 'row')} and "
        f"{_count(len(columns), 'feature')}, {_are(int(bad.sum()))} NaN or "
        f"infinite. Rows without any number ({whole}) count as missing; "
        "elsewhere the median of the feature stands in."
    )
    return [
        Finding(
            "not_finite",
            "warning",
            text,
            name,
            rows[:ROWS].tolist(),
            [table.column(name, c) for c in columns[:SHOWN]],
            {"values": int(bad.sum()), "rows": len(rows), "whole_rows": whole},
        )
    ]


def _dead_rows(table: Table, name: str) -> list[Finding]:
    rows = np.flatnonzero(marked(table, name))
    if not len(rows):
        return []
    values = table.flat(name)[rows[0]]
    zeros = not values.any()
    what = "all zeros" if zeros else "the very same values"
    share = 100 * len(rows) / table.samples
    return [
        Finding(
            "dead_rows",
            "warning",
            f"'{name}' holds {what} in {len(rows)} of {table.samples} rows "
            f"({share:.2g} %): a sensor that was dead, or a mark of what is "
            "missing. They count as missing here; announce them by a mask.",
            name,
            rows[:ROWS].tolist(),
            numbers={"rows": len(rows), "percent": share, "zeros": zeros},
        )
    ]


def _constant(table: Table, name: str) -> list[Finding]:
    values = table.flat(name)[~absent(table, name)]
    if not len(values):
        return [
            Finding(
                "constant",
                "error",
                f"'{name}' is missing, or the same, in all rows: it tells "
                "nothing.",
                name,
                numbers={"features": table.flat(name).shape[1]},
            )
        ]
    same = (values == values[0]) | ~np.isfinite(values)
    columns = np.flatnonzero(same.all(axis=0))
    if not len(columns):
        return []
    return [
        Finding(
            "constant",
            "note",
            f"{_count(len(columns), 'feature')} of {values.shape[1]} of "
            f"'{name}' {_are(len(columns))} the same in all rows: "
            f"{_names(table, name, columns)}.",
            name,
            columns=[table.column(name, c) for c in columns[:SHOWN]],
            numbers={"features": len(columns)},
        )
    ]


def _stuck(table: Table, name: str) -> list[Finding]:
    """Features that stand still for a while and vary elsewhere."""
    values = table.flat(name)
    least = max(10, limit("stuck_run") * len(values))
    here = ~marked(table, name)
    values, rows = values[here], np.flatnonzero(here)
    if len(values) < 2 * least:
        return []
    width = values.shape[1]
    step = max(1, width // LOOKED_AT)
    found: list[tuple[int, int, int]] = []
    for column in range(0, width, step):
        start, length = _longest_run(values[:, column])
        if least <= length < len(values):
            rest = np.delete(
                values[:, column], np.arange(start, start + length)
            )
            if len(np.unique(rest)) >= 0.9 * len(rest):
                found.append((column, start, length))
    if not found:
        return []
    column, start, length = max(found, key=lambda f: f[2])
    first, last = int(rows[start]), int(rows[start + length - 1])
    columns = [c for c, _, _ in found]
    return [
        Finding(
            "stuck",
            "warning",
            f"{_count(len(found), 'feature')} of '{name}' "
            f"({_names(table, name, columns)}) {_do(len(found))} not move "
            f"for up to {length} rows, {first} to {last}, and "
            f"{_do(len(found))} elsewhere: a sensor that hung or was off.",
            name,
            [first, last],
            [table.column(name, c) for c in columns[:SHOWN]],
            {"features": len(found), "rows": length},
        )
    ]


def _longest_run(values: Array) -> tuple[int, int]:
    """Start and length of the longest stretch of one value."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def _scales(table: Table) -> list[Finding]:
    """Spreads of features and of modalities that differ greatly."""
    found, typical = [], {}
    for name in table.x:
        values = table.flat(name)[~absent(table, name)].astype("float64")
        values[~np.isfinite(values)] = np.nan
        if not len(values):
            continue
        with np.errstate(invalid="ignore"):
            spread = np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
        spread = spread[spread > 0]
        if not len(spread):
            continue
        typical[name] = float(np.median(spread))
        ratio = float(spread.max() / spread.min())
        if ratio > limit("scale_ratio"):
            found.append(
                _scale(
                    f"The features of '{name}' have spreads from "
                    f"{spread.min():.3g} to {spread.max():.3g}, which is "
                    f"{ratio:,.0f} times as much",
                    name,
                    ratio,
                )
            )
    if len(typical) < 2:
        return found
    low, high = min(typical, key=typical.get), max(typical, key=typical.get)  # type: ignore[arg-type]
    ratio = typical[high] / typical[low]
    if ratio > limit("scale_ratio"):
        found.append(
            _scale(
                f"A feature of '{high}' typically spreads over "
                f"{typical[high]:.3g}, one of '{low}' over "
                f"{typical[low]:.3g}: {ratio:,.0f} times as much",
                None,
                ratio,
            )
        )
    return found


def _scale(text: str, name: str | None, ratio: float) -> Finding:
    return Finding(
        "scales",
        "note",
        f"{text}. Here each feature is scaled to [0, 1] on training samples; "
        "do so in your own training too.",
        name,
        numbers={"ratio": ratio},
    )


def _names(table: Table, modality: str, columns: list[int] | Array) -> str:
    names = [table.column(modality, int(c)) for c in columns[:SHOWN]]
    more = len(columns) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _do(number: int) -> str:
    return "does" if number == 1 else "do"
