"""Tables of a report: heads and rows of texts."""

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._block import Cell
from keras_mmrel.benchmark._block import Difference
from keras_mmrel.benchmark._candidate import Candidate
from keras_mmrel.benchmark._page import Best
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.benchmark.tuning import Tuning
from keras_mmrel.evaluation import Score
from keras_mmrel.optional import require

Table = tuple[list[str], list[list[str]]]
# A score and a corruption.
Place = tuple[Score, str]
SIGNIFICANT = 0.05


def title(score: Score) -> str:
    return f"{score.name.replace('_', ' ')} {score.arrow}".strip()


def digits(score: Score) -> int:
    return 1 if score.percent else 3


def missing_runs(
    comparison: Comparison, runs: Sequence[Run]
) -> list[list[str]]:
    """Seeds that have not run yet, of each method, data set and regime."""
    done = {run.job for run in runs}
    missing: dict[tuple[str, str, str], list[str]] = {}
    for job in comparison.jobs():
        if job not in done:
            fold = "" if job.fold is None else f" (fold {job.fold})"
            key = (job.method, job.dataset, job.regime)
            missing.setdefault(key, []).append(f"{job.seed}{fold}")
    order = itertools.product(
        comparison.methods, comparison.datasets, comparison.regimes
    )
    return [[*key, ", ".join(missing[key])] for key in order if key in missing]


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
        runs = block.runs_of(method)
        cells = [
            mean_cell(
                block.cell(method, score.name, corruption),
                score,
                method == winner,
            )
            for (score, corruption), winner in zip(places, best, strict=True)
        ]
        beside = []
        if costs:
            beside = [
                f"{np.mean([run.parameters for run in runs]):,.0f}",
                f"{np.mean([run.seconds for run in runs]):.1f} s",
            ]
        rows.append([method, str(len(runs)), *cells, *beside])
    beside = ["parameters", "training"] if costs else []
    return ["", "runs", *heads, *beside], rows


def _best(block: Block, score: Score, corruption: str) -> str | None:
    """The method with the best mean, if there is a better one at all."""
    if score.higher_is_better is None:
        return None
    means = {
        m: block.cell(m, score.name, corruption).mean for m in block.methods
    }
    known = {m: v for m, v in means.items() if math.isfinite(v)}
    if len(known) < 2:
        return None
    pick = max if score.higher_is_better else min
    return pick(known, key=known.__getitem__)


def mean_cell(cell: Cell, score: Score, best: bool) -> str:
    if cell.broken:
        return f"NaN in {cell.broken} of {cell.units}"
    if not math.isfinite(cell.mean):
        return "–"
    text = f"{score.scale * cell.mean:.{digits(score)}f}"
    text += _errors(cell, score)
    return Best(text) if best else text


def _errors(cell: Cell | Difference, score: Score) -> str:
    text = ""
    if math.isfinite(cell.error):
        text += f" ± {score.scale * cell.error:.{digits(score)}f}"
    if math.isfinite(cell.sampling):
        text += f" (± {score.scale * cell.sampling:.{digits(score)}f})"
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
        block.differences(others, baseline, score.name, corruption)
        for score, corruption in places
    ]
    rows = []
    for method in others:
        cells = []
        for (score, _), differences in zip(places, columns, strict=True):
            difference = differences[method]
            cell = "–"
            if math.isfinite(difference.mean):
                mean = score.scale * difference.mean
                cell = f"{mean:+.{digits(score)}f}{_errors(difference, score)}"
            star = "*" if difference.p < SIGNIFICANT else ""
            cells.append(cell + star)
        rows.append([method, *cells])
    return ["", *heads], rows


def ranks_table(
    blocks: Sequence[Block],
    methods: list[str],
    scores: Sequence[Score],
    primary: Score,
) -> Table:
    """Mean ranks of the clean scores, and of the first when corrupted."""
    pandas = require("pandas", "keras_mmrel.benchmark")
    parts: list[tuple[str, Score, bool | None]] = [
        (title(score), score, None)
        for score in scores
        if score.higher_is_better is not None
    ]
    for where, inside in (("inside", True), ("outside", False)):
        if any(inside in b.in_range.values() for b in blocks):
            parts.append((f"{title(primary)}, {where}", primary, inside))
    ranks = [
        _statistics.mean_ranks(
            pandas.DataFrame(
                [
                    {m: _mean_over(b, m, score, inside) for m in methods}
                    for b in blocks
                ],
                columns=methods,
            ),
            down=not score.higher_is_better,
        )
        for _, score, inside in parts
    ]
    rows = [
        [
            method,
            *(
                f"{rank:.1f}" if np.isfinite(rank) else "–"
                for rank in (r.get(method, np.nan) for r in ranks)
            ),
        ]
        for method in methods
    ]
    return ["", *(name for name, *_ in parts)], rows


def _mean_over(
    block: Block, method: str, score: Score, inside: bool | None
) -> float:
    """Clean, or the mean over the corruptions of a group."""
    places = [CLEAN]
    if inside is not None:
        places = [name for name, i in block.in_range.items() if i == inside]
    values = [block.cell(method, score.name, place).mean for place in places]
    return float(np.mean(values)) if values else math.nan


def probes_table(block: Block) -> Table | None:
    """Means of what probes found, with their standard errors."""
    keys = [*dict.fromkeys(key for run in block.runs for key in run.probes)]
    if not keys:
        return None
    rows = []
    for method in block.methods:
        runs = block.runs_of(method)
        cells = []
        for key in keys:
            asked = [run for run in runs if key in run.probes]
            if not asked:
                cells.append("–")
                continue
            found = [run.probes[key] for run in asked]
            values = [math.nan if v is None else v for v in found]
            units = block.by_unit(asked, values)
            error = _statistics.standard_error(units, block.ratio)
            text = f"{np.mean(values):.3f}"
            text += f" ± {error:.3f}" if math.isfinite(error) else ""
            cells.append(text)
        rows.append([method, *cells])
    return ["", *(key.replace("_", " ") for key in keys)], rows


def settings_table(blocks: Sequence[Block], comparison: Comparison) -> Table:
    """How often each candidate was chosen, and whether a grid ended there."""
    rows = []
    for name, method in comparison.methods.items():
        tuning = comparison.tuning_of(method)
        for block in blocks:
            counts: dict[str, int] = {}
            for run in block.runs_of(name):
                chosen = run.settings.to_dict()
                text = json.dumps(chosen) if chosen else "–"
                if ends_of_grid(run.settings, tuning):
                    text += " †"
                counts[text] = counts.get(text, 0) + 1
            if counts:
                found = "; ".join(f"{t} ({n})" for t, n in counts.items())
                rows.append([name, block.dataset, block.regime, found])
    return ["", "data", "regime", "chosen (runs)"], rows


def ends_of_grid(settings: Candidate, tuning: Tuning) -> list[str]:
    """Numbers that were chosen at an end of what was tried."""
    grid = {**tuning.grid, **tuning.options}
    chosen = {**settings.training, **settings.options}
    return [
        key
        for key, value in chosen.items()
        if type(value) in (int, float)
        and len(grid.get(key, ())) > 1
        and all(type(tried) in (int, float) for tried in grid[key])
        and value in (min(grid[key]), max(grid[key]))
    ]


def shown_scores(comparison: Comparison) -> list[Score]:
    """Scores that tables show, in their order."""
    scores = comparison.evaluation.scores
    return [s for s in scores if s.shown and not s.per_modality]
