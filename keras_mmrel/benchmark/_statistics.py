"""Means, errors, paired differences and ranks of a comparison."""

import math

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.optional import require


def standard_error(values: Array, test_to_training: float = 0.0) -> float:
    """Return the standard error of a mean over seeds, splits or folds.

    Test parts that are drawn from one pool again and again share samples, and
    so do the training parts of folds; with `test_to_training`, the ratio of
    their sizes, the variance is corrected for it (Nadeau and Bengio, 2003).

    Args:
        values: One value a unit.
        test_to_training: Ratio of the sizes; 0 where all units share one
            split.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return math.nan
    return math.sqrt(
        values.var(ddof=1) * (1.0 / len(values) + test_to_training)
    )


def paired_difference(
    values: Array,
    reference: Array,
    test_to_training: float = 0.0,
    sampling: float = math.nan,
) -> tuple[float, float, float]:
    """Return mean difference, its standard error and the p-value.

    The t-test on pairs of the same unit, with the error of `standard_error`.

    Args:
        values: One value a unit.
        reference: The baseline's, in the same order.
        test_to_training: As in `standard_error`.
        sampling: Error over seeds and test samples, if it is known: the test
            uses it where it is larger.
    """
    difference = np.asarray(values, float) - np.asarray(reference, float)
    mean = float(difference.mean())
    error = standard_error(difference, test_to_training)
    if math.isnan(error) or math.isnan(mean):
        return mean, error, math.nan
    largest = max(error, 0.0 if math.isnan(sampling) else sampling)
    if largest == 0:
        return mean, error, 1.0 if mean == 0 else 0.0
    t = require("scipy.stats", "keras_mmrel.benchmark").t
    p = 2 * t.sf(abs(mean) / largest, len(difference) - 1)
    return mean, error, float(p)


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


def mean_ranks(table: Frame, down: bool) -> Frame:
    """Mean over blocks of the ranks of the methods, 1 is best.

    Args:
        table: `DataFrame`, a row a block and a column a method. A block with
            a NaN is left out.
        down: Whether less is better.
    """
    whole = table.dropna()
    return whole.rank(axis=1, ascending=down).mean(axis=0)
