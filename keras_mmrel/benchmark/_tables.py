"""Tables of a report: heads and rows of texts."""

import json
from typing import Any

import numpy as np

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._store import job

PERCENT = ("accuracy", "f1_macro", "f1_weighted", "auroc", "corrupted_auroc")


def missing_runs(config: dict, runs: list[dict]) -> list[list[str]]:
    """Seeds that have not run yet, of each method, data set and regime."""
    done = {job(run) for run in runs}
    rows = []
    for method in config["methods"]:
        for dataset in config["datasets"]:
            for regime in config["regimes"]:
                seeds = [
                    str(seed)
                    for seed in config["seeds"]
                    if (seed, dataset, regime, method) not in done
                ]
                if seeds:
                    rows.append([method, dataset, regime, ", ".join(seeds)])
    return rows


def _name(column: str) -> str:
    return column.replace("corrupted_auroc", "finding").replace("_", " ")


def _scale(column: str) -> float:
    return 100.0 if column.split(", ")[0] in PERCENT else 1.0


def _digits(column: str) -> int:
    return 1 if _scale(column) == 100 else 3


def _down(column: str) -> bool:
    return column.split(", ")[0] in _statistics.DOWN


def means_table(here: Any, methods: list[str], columns: list[str]) -> tuple:
    """Cells `mean ± deviation`; a NaN of one run is named, not left out."""
    groups = here.groupby(["method", "column"])["value"]
    found = {key: group.to_numpy() for key, group in groups}
    best = {}
    for column in columns:
        means = {
            m: found[m, column].mean() for m in methods if (m, column) in found
        }
        known = {m: v for m, v in means.items() if np.isfinite(v)}
        if len(known) > 1:
            pick = min if _down(column) else max
            best[column] = pick(known, key=known.__getitem__)
    rows = []
    for method in methods:
        cells = [
            _mean_cell(
                found.get((method, column)),
                found[method, ", ".join(["accuracy", *column.split(", ")[1:]])],
                column,
                best.get(column) == method,
            )
            for column in columns
        ]
        count = here[here["method"] == method]["seed"].nunique()
        rows.append([method, str(count), *cells])
    return ["", "runs", *map(_name, columns)], rows


def _mean_cell(values: Any, accuracy: Any, column: str, best: bool) -> str:
    undefined = values is None or np.isnan(values).all()
    # Accuracy is defined everywhere: NaN there is a broken run.
    if undefined and not np.isnan(accuracy).all():
        return "–"
    values = accuracy if undefined else values
    broken = int(np.isnan(values).sum())
    if broken:
        return f"NaN in {broken} of {len(values)}"
    scale, digits = _scale(column), _digits(column)
    cell = f"{scale * values.mean():.{digits}f}"
    if len(values) > 1:
        cell += f" ± {scale * values.std(ddof=1):.{digits}f}"
    return f"**{cell}**" if best else cell


def paired_differences(
    values: Any,
    seeds: dict[str, set[int]],
    others: list[str],
    baseline: str,
    columns: list[str],
    ratio: float,
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """On the seeds that both have run; a NaN of a run stays in."""
    found = {}
    for column in columns:
        tests = []
        for method in others:
            both = [(method, column), (baseline, column)]
            pairs = values.loc[sorted(seeds[method] & seeds[baseline]), both]
            a, b = pairs.to_numpy().T
            tests.append(
                _statistics.paired_difference(a, b, ratio)
                if len(pairs)
                else (np.nan,) * 3
            )
        adjusted = _statistics.holm([p for _, _, p in tests])
        for method, (mean, error, _), p in zip(
            others, tests, adjusted, strict=True
        ):
            found[method, column] = (mean, error, p)
    return found


def difference_table(
    differences: dict, others: list[str], columns: list[str]
) -> tuple:
    rows = []
    for method in others:
        cells = []
        for column in columns:
            mean, error, p = differences[method, column]
            scale, digits = _scale(column), _digits(column)
            cell = "–"
            if np.isfinite(mean):
                cell = f"{scale * mean:+.{digits}f}"
            if np.isfinite(error):
                cell += f" ± {scale * error:.{digits}f}"
            cells.append(cell + ("*" if p < 0.05 else ""))
        rows.append([method, *cells])
    return ["", *map(_name, columns)], rows


def ranks_table(table: Any, methods: list[str]) -> tuple:
    """Mean ranks of the clean scores and of the corrupted accuracy."""
    corrupted = table[table["column"].str.startswith("accuracy, ")]
    parts = {
        column: table[table["column"] == column]
        for column in ("accuracy", "nll", "ece", "aurc")
    }
    parts = {
        "accuracy": parts["accuracy"],
        "accuracy, corrupted": corrupted,
        **{c: parts[c] for c in ("nll", "ece", "aurc")},
    }
    ranks = {}
    for name, part in parts.items():
        values = part.groupby(["dataset", "regime", "method"])["value"]
        means = values.agg(lambda v: v.mean(skipna=False)).unstack("method")
        ranks[name] = _statistics.mean_ranks(means, _down(name))
    rows = [
        [
            method,
            *(
                f"{rank:.1f}" if np.isfinite(rank) else "–"
                for rank in (ranks[n].get(method, np.nan) for n in parts)
            ),
        ]
        for method in methods
    ]
    return ["", *parts], rows


def settings_table(runs: list[dict], methods: list[str]) -> tuple:
    """How often each candidate was chosen, and the time of a training."""
    rows = []
    blocks = dict.fromkeys((r["dataset"], r["regime"]) for r in runs)
    for method in methods:
        for dataset, regime in blocks:
            here = [
                r
                for r in runs
                if (r["method"], r["dataset"], r["regime"])
                == (method, dataset, regime)
            ]
            if not here:
                continue
            counts: dict[str, int] = {}
            for run in here:
                text = json.dumps(run["settings"]) if run["settings"] else "–"
                counts[text] = counts.get(text, 0) + 1
            chosen = "; ".join(f"{t} ({n})" for t, n in counts.items())
            seconds = np.mean([r["seconds"] for r in here])
            rows.append([method, dataset, regime, chosen, f"{seconds:.0f} s"])
    return ["", "data", "regime", "chosen (runs)", "training"], rows
