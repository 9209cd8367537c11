"""Means, paired differences and ranks of a comparison."""

import math
from typing import Any

import numpy as np

# Scores of which less is better.
DOWN = ("nll", "ece", "brier", "aurc", "excess_aurc")


def paired_difference(
    values: np.ndarray, reference: np.ndarray, test_to_training: float = 0.0
) -> tuple[float, float, float]:
    """Return mean difference, its standard error and the p-value.

    The t-test on pairs of the same seed. Test parts that are drawn from one
    pool again and again share samples; with `test_to_training`, the ratio of
    their sizes, the variance is corrected for it (Nadeau and Bengio, 2003).

    Args:
        values: One value a seed.
        reference: The baseline's, in the same order.
        test_to_training: Ratio of the sizes for resampled splits; 0 where all
            seeds share one split.
    """
    from scipy.stats import t

    difference = np.asarray(values, float) - np.asarray(reference, float)
    count = len(difference)
    mean = float(difference.mean())
    if count < 2:
        return mean, math.nan, math.nan
    variance = difference.var(ddof=1) * (1.0 / count + test_to_training)
    error = float(np.sqrt(variance))
    if error == 0:
        return mean, 0.0, 1.0 if mean == 0 else 0.0
    return mean, error, float(2 * t.sf(abs(mean) / error, count - 1))


def holm(p: list[float]) -> list[float]:
    """Adjust p-values of a family by Holm's step-down; NaN stays NaN."""
    values = np.asarray(p, float)
    adjusted = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * values[index]))
        adjusted[index] = largest
    return adjusted.tolist()


def mean_ranks(table: Any, down: bool) -> Any:
    """Mean over blocks of the ranks of the methods, 1 is best.

    Args:
        table: `DataFrame`, a row a block and a column a method. A block with
            a NaN is left out.
        down: Whether less is better.
    """
    whole = table.dropna()
    return whole.rank(axis=1, ascending=down).mean(axis=0)


def condition_scores(runs: list[dict]) -> Any:
    """Tidy scores: a row for each run and each column of the tables.

    A column is `<score>` on clean data and `<score>, <corruption>` for the
    mean over the severities and seeds of a corruption. One NaN makes it NaN.
    """
    import pandas

    rows = []
    for run in runs:
        scores = pandas.DataFrame(
            {k: v for k, v in run["scores"].items() if "/" not in k}
        )
        names = [
            name
            for name in scores.columns
            if name not in ("corruption", "severity", "seed", "samples",
                            "invalid")
        ]  # fmt: skip
        key = {k: run[k] for k in ("dataset", "regime", "method", "seed")}
        for corruption, group in scores.groupby("corruption", sort=False):
            for name in names:
                values = group[name].astype("float64").to_numpy()
                column = (
                    name if corruption == "clean" else f"{name}, {corruption}"
                )
                rows.append({**key, "column": column, "value": values.mean()})
    return pandas.DataFrame(rows)
