"""One table over all data sets of a regime."""

import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import MEANS
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._block import Cell
from keras_mmrel.benchmark._tables import Table
from keras_mmrel.benchmark._tables import mean_cell
from keras_mmrel.evaluation import Score
from keras_mmrel.optional import require

ABOUT = (
    "Means over the data sets, of clean data and of the corruptions inside and "
    "outside the range of the data; errors of the data sets are independent, "
    "those of one data set are as above. 'Mean rank' is over all columns, that "
    "is clean data and every corruption of every data set, and 'behind' counts "
    "the columns in which the best method's paired difference to this one is "
    "above its error. Methods without all data sets, or with a NaN, are left "
    "out."
)


def overall_table(
    blocks: Sequence[Block], methods: Sequence[str], score: Score
) -> Table | None:
    """Means over data sets, mean rank, and how often a method is behind.

    Args:
        blocks: All data sets of one regime.
        methods: In the order of the rows.
        score: What is compared; it says which direction is better.

    Returns:
        The table, or `None` where there are not two data sets and two methods
        to compare.
    """
    columns = [(b, c) for b in blocks for c in (CLEAN, *b.in_range)]
    whole = [
        method
        for method in methods
        if all(_is_known(b.cell(method, score.name, c)) for b, c in columns)
    ]
    if len(blocks) < 2 or len(whole) < 2:
        return None
    groups = [CLEAN]
    for inside, name in MEANS.items():
        if all(inside in block.in_range.values() for block in blocks):
            groups.append(name)
    cells = {
        (method, group): _mean_over(blocks, method, score, group)
        for method in whole
        for group in groups
    }
    sign = 1.0 if score.higher_is_better else -1.0
    best = {}
    for group in groups:
        means = {m: sign * cells[m, group].mean for m in whole}
        best[group] = max(means, key=means.__getitem__)
    ranks = _ranks(columns, whole, score)
    behind = dict.fromkeys(whole, 0)
    for block, corruption in columns:
        for method in _behind(block, whole, score, corruption):
            behind[method] += 1
    rows = [
        [
            method,
            *(
                mean_cell(cells[method, g], score, method == best[g])
                for g in groups
            ),
            f"{ranks[method]:.1f}",
            f"{behind[method]} of {len(columns)}",
        ]
        for method in whole
    ]
    return ["", *groups, "mean rank", "behind"], rows


def _is_known(cell: Cell) -> bool:
    return math.isfinite(cell.mean) and not cell.broken


def _mean_over(
    blocks: Sequence[Block], method: str, score: Score, group: str
) -> Cell:
    cells = [block.cell(method, score.name, group) for block in blocks]
    # The larger one where a published split has an error over its samples.
    errors = [np.fmax(cell.error, cell.sampling) for cell in cells]
    return Cell(
        float(np.mean([cell.mean for cell in cells])),
        math.sqrt(np.sum(np.square(errors))) / len(cells),
        math.nan,
        len(cells),
    )


def _ranks(
    columns: Sequence[tuple[Block, str]], methods: list[str], score: Score
) -> dict[str, float]:
    pandas = require("pandas", "keras_mmrel.benchmark")
    table = pandas.DataFrame(
        [
            {m: block.cell(m, score.name, c).mean for m in methods}
            for block, c in columns
        ]
    )
    found = _statistics.mean_ranks(table, down=not score.higher_is_better)
    return found.to_dict()


def _behind(
    block: Block, methods: list[str], score: Score, corruption: str
) -> list[str]:
    """Methods more than one error behind the best one of a column."""
    sign = 1.0 if score.higher_is_better else -1.0
    best = max(
        methods,
        key=lambda m: sign * block.cell(m, score.name, corruption).mean,
    )
    found = []
    for method in methods:
        if method == best:
            continue
        gap = block.difference(best, method, score.name, corruption)
        if sign * gap.mean > np.nan_to_num(np.fmax(gap.error, gap.sampling)):
            found.append(method)
    return found
