"""Tables of a report: heads and rows of texts."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._block import Cell
from keras_mmrel.benchmark._block import Column
from keras_mmrel.benchmark._block import Difference
from keras_mmrel.benchmark._job import Job
from keras_mmrel.optional import require

Table = tuple[list[str], list[list[str]]]
# A score and a corruption.
Place = tuple[Column, str]
SIGNIFICANT = 0.05


def missing_runs(config: dict, runs: list[dict]) -> list[list[str]]:
    """Seeds that have not run yet, of each method, data set and regime."""
    done = {Job.of(run) for run in runs}
    rows = []
    for method in config["methods"]:
        for dataset, entry in config["datasets"].items():
            for regime in config["regimes"]:
                seeds = [
                    str(seed) if fold is None else f"{seed} (fold {fold})"
                    for seed in config["seeds"]
                    for fold in entry.get("folds") or (None,)
                    if Job(seed, dataset, fold, regime, method) not in done
                ]
                if seeds:
                    rows.append([method, dataset, regime, ", ".join(seeds)])
    return rows


def means_table(
    block: Block, places: Sequence[Place], heads: Sequence[str], costs: bool
) -> Table:
    """Cells `mean ± error`; a NaN of one run is named, not left out.

    Args:
        block: Where the runs are.
        places: What stands in the columns.
        heads: Their titles.
        costs: Whether the size and the time of a training stand beside.
    """
    best = [_best(block, *place) for place in places]
    rows = []
    for method in block.methods:
        count = sum(run["method"] == method for run in block.runs)
        cells = [
            mean_cell(
                block.cell(method, column.name, corruption),
                column,
                method == winner,
            )
            for (column, corruption), winner in zip(places, best, strict=True)
        ]
        beside = []
        if costs:
            beside = [
                f"{block.mean_of(method, 'parameters'):,.0f}",
                f"{block.mean_of(method, 'seconds'):.1f} s",
            ]
        rows.append([method, str(count), *cells, *beside])
    beside = ["parameters", "training"] if costs else []
    return ["", "runs", *heads, *beside], rows


def _best(block: Block, column: Column, corruption: str) -> str | None:
    """The method with the best mean, if there is a better one at all."""
    if column.higher_is_better is None:
        return None
    means = {
        m: block.cell(m, column.name, corruption).mean for m in block.methods
    }
    known = {m: v for m, v in means.items() if math.isfinite(v)}
    if len(known) < 2:
        return None
    pick = max if column.higher_is_better else min
    return pick(known, key=known.__getitem__)


def mean_cell(cell: Cell, column: Column, best: bool) -> str:
    if cell.broken:
        return f"NaN in {cell.broken} of {cell.units}"
    if not math.isfinite(cell.mean):
        return "–"
    text = f"{column.scale * cell.mean:.{column.digits}f}"
    text += _errors(cell, column)
    return f"**{text}**" if best else text


def _errors(cell: Cell | Difference, column: Column) -> str:
    text = ""
    if math.isfinite(cell.error):
        text += f" ± {column.scale * cell.error:.{column.digits}f}"
    if math.isfinite(cell.sampling):
        text += f" (± {column.scale * cell.sampling:.{column.digits}f})"
    return text


def difference_table(
    block: Block,
    others: list[str],
    baseline: str,
    places: Sequence[Place],
    heads: Sequence[str],
) -> Table:
    """Paired differences to the baseline, an asterisk where p < 0.05."""
    columns = [
        block.differences(others, baseline, column.name, corruption)
        for column, corruption in places
    ]
    rows = []
    for method in others:
        cells = []
        for (column, _), differences in zip(places, columns, strict=True):
            difference = differences[method]
            cell = "–"
            if math.isfinite(difference.mean):
                mean = column.scale * difference.mean
                cell = f"{mean:+.{column.digits}f}{_errors(difference, column)}"
            star = "*" if difference.p < SIGNIFICANT else ""
            cells.append(cell + star)
        rows.append([method, *cells])
    return ["", *heads], rows


def ranks_table(
    blocks: Sequence[Block],
    methods: list[str],
    columns: Sequence[Column],
    primary: Column,
) -> Table:
    """Mean ranks of the clean scores, and of the first when corrupted."""
    pandas = require("pandas", "keras_mmrel.benchmark")
    parts: dict[str, tuple[Column, bool | None]] = {
        column.title: (column, None)
        for column in columns
        if column.higher_is_better is not None
    }
    for where, inside_range in (("inside", True), ("outside", False)):
        if any(inside_range in b.in_range.values() for b in blocks):
            parts[f"{primary.title}, {where}"] = (primary, inside_range)
    ranks = {}
    for name, (column, inside) in parts.items():
        table = pandas.DataFrame(
            [
                {m: _mean_over(b, m, column, inside) for m in methods}
                for b in blocks
            ],
            columns=methods,
        )
        down = not column.higher_is_better
        ranks[name] = _statistics.mean_ranks(table, down)
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


def _mean_over(
    block: Block, method: str, column: Column, inside: bool | None
) -> float:
    """Clean, or the mean over the corruptions of a group."""
    places = [CLEAN]
    if inside is not None:
        places = [name for name, i in block.in_range.items() if i == inside]
    values = [block.cell(method, column.name, place).mean for place in places]
    return float(np.mean(values)) if values else math.nan


def probes_table(block: Block) -> Table | None:
    """Means of what probes found, with their standard errors."""
    keys = list(
        dict.fromkeys(key for run in block.runs for key in run["probes"])
    )
    if not keys:
        return None
    rows = []
    for method in block.methods:
        runs = [run for run in block.runs if run["method"] == method]
        cells = []
        for key in keys:
            asked = [run for run in runs if key in run["probes"]]
            if not asked:
                cells.append("–")
                continue
            found = [run["probes"][key] for run in asked]
            values = [math.nan if v is None else v for v in found]
            units = block.by_unit(asked, values)
            error = _statistics.standard_error(units, block.ratio)
            text = f"{np.mean(values):.3f}"
            text += f" ± {error:.3f}" if math.isfinite(error) else ""
            cells.append(text)
        rows.append([method, *cells])
    return ["", *(key.replace("_", " ") for key in keys)], rows


def settings_table(
    runs: list[dict], methods: list[str], config: dict[str, Any]
) -> Table:
    """How often each candidate was chosen, and whether a grid ended there."""
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
            counts: dict[str, int] = {}
            for run in here:
                text = json.dumps(run["settings"]) if run["settings"] else "–"
                if ends_of_grid(run["settings"], config, method):
                    text += " †"
                counts[text] = counts.get(text, 0) + 1
            chosen = "; ".join(f"{t} ({n})" for t, n in counts.items())
            if here:
                rows.append([method, dataset, regime, chosen])
    return ["", "data", "regime", "chosen (runs)"], rows


def ends_of_grid(
    settings: dict[str, Any], config: dict[str, Any], method: str
) -> list[str]:
    """Numbers that were chosen at an end of what was tried."""
    own = config["methods"][method].get("tuning")
    grid = (own or config["tuning"])["grid"]
    flat = {**grid, **grid.get("options", {})}
    chosen = {**settings, **settings.get("options", {})}
    return [
        key
        for key, value in chosen.items()
        if type(value) in (int, float)
        and len(flat[key]) > 1
        and all(type(tried) in (int, float) for tried in flat[key])
        and value in (min(flat[key]), max(flat[key]))
    ]


def columns_of(config: dict[str, Any]) -> list[Column]:
    """Scores that tables show, in their order."""
    columns = [Column.of(s) for s in config["evaluation"]["scores"]]
    return [c for c in columns if c.shown and not c.per_modality]
