"""Ranks over data sets, and which of them can be told apart."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import MEANS
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._tables import Table
from keras_mmrel.contract import Array
from keras_mmrel.evaluation import Score
from keras_mmrel.optional import require

LEVEL = 0.05
# A test over fewer data sets could not find anything.
FEWEST = 3
ABOUT = (
    "Mean over the data sets of the rank of each mean, 1 is best. The "
    "p-value is Friedman's, in the form of Iman and Davenport, for no "
    "difference between any of the methods; two methods are told apart where "
    "their mean ranks differ by more than the critical difference (Nemenyi, "
    "5 %), which grows with the number of methods and falls with that of data "
    "sets. Methods without all data sets, or with a NaN, are left out."
)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over data sets.

    Args:
        methods: Names of the methods.
        columns: Group of columns -> a mean rank a method.
        p: Group -> p-value of Friedman's test.
        critical: Nemenyi's critical difference of two mean ranks.
    """

    methods: list[str]
    columns: dict[str, Array]
    p: dict[str, float]
    critical: float

    @property
    def order(self) -> list[int]:
        """Places of the methods, by the mean over the groups."""
        means = np.mean(list(self.columns.values()), axis=0)
        return [int(i) for i in np.argsort(means, kind="stable")]

    def table(self) -> Table:
        """A row a method, the best first, and one of p-values."""
        rows = [
            [
                self.methods[i],
                *(f"{ranks[i]:.1f}" for ranks in self.columns.values()),
            ]
            for i in self.order
        ]
        chances = [f"{self.p[group]:.2g}" for group in self.columns]
        return ["", *self.columns], [*rows, ["p (Friedman)", *chances]]


def ranks_over(
    blocks: Sequence[Block], methods: Sequence[str], score: Score
) -> Ranks | None:
    """Mean ranks over the data sets of one regime, and their test.

    Args:
        blocks: All data sets of one regime.
        methods: Names of the methods.
        score: What is ranked; it says which direction is better.

    Returns:
        The ranks, or `None` with fewer than three data sets or methods.
    """
    groups = [CLEAN]
    for inside, name in MEANS.items():
        if all(inside in block.in_range.values() for block in blocks):
            groups.append(name)
    values = {
        method: [
            [_known(block, method, score, group) for group in groups]
            for block in blocks
        ]
        for method in methods
    }
    whole = [m for m in methods if np.isfinite(values[m]).all()]
    if len(blocks) < FEWEST or len(whole) < 3:
        return None
    # (groups, data sets, methods)
    means = np.array([values[m] for m in whole]).transpose(2, 1, 0)
    rankdata = require("scipy.stats", "keras_mmrel.benchmark").rankdata
    ranks = rankdata(-means if score.higher_is_better else means, axis=-1)
    return Ranks(
        whole,
        {g: r.mean(axis=0) for g, r in zip(groups, ranks, strict=True)},
        {g: friedman(r) for g, r in zip(groups, ranks, strict=True)},
        critical_difference(len(whole), len(blocks)),
    )


def friedman(ranks: Array) -> float:
    """Return the p-value of no difference, from ranks `(blocks, methods)`.

    With Iman and Davenport's F, less careful than Friedman's statistic, which
    finds too little in few blocks (Demšar, 2006).
    """
    blocks, methods = ranks.shape
    stats = require("scipy.stats", "keras_mmrel.benchmark")
    spread = ranks.mean(axis=0) - (methods + 1) / 2
    # Of ranks without ties it is `methods (methods + 1) / 12`.
    variance = np.square(ranks - (methods + 1) / 2).sum(axis=1).mean()
    if variance == 0:
        return 1.0
    # Between 0, and 1 where all blocks agree.
    agreement = min(float(np.square(spread).sum() / variance), 1.0)
    if agreement == 1.0:
        return 0.0
    f = (blocks - 1) * agreement / (1.0 - agreement)
    df = methods - 1
    return float(stats.f.sf(f, df, df * (blocks - 1)))


def critical_difference(methods: int, blocks: int) -> float:
    """Return Nemenyi's critical difference of mean ranks at 5 %."""
    studentized = require("scipy.stats", "keras_mmrel.benchmark")
    q = studentized.studentized_range.ppf(1.0 - LEVEL, methods, math.inf)
    return float(q / math.sqrt(2.0)) * math.sqrt(
        methods * (methods + 1) / (6.0 * blocks)
    )


def _known(block: Block, method: str, score: Score, group: str) -> float:
    cell = block.cell(method, score.name, group)
    return math.nan if cell.broken else cell.mean
