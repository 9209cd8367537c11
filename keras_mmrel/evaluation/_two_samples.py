"""Whether two samples come from one distribution: an exact test."""

import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.contract import Array

# Numbers that are permuted at a time, for the sake of memory.
BLOCK = 2**22
# Sums that differ by rounding alone are the same.
ROUNDING = 1e-9


def permutation_test(
    strata: Sequence[tuple[Array, Array]], permutations: int, seed: int
) -> float:
    """Return a p-value that is valid for any number of samples.

    The statistic is the largest distance between the two distribution
    functions (Kolmogorov and Smirnov), averaged over strata by the number of
    new samples. Which samples are the new ones is drawn anew, inside each
    stratum; ties need no care.

    Args:
        strata: Pairs of `(reference, new)` values, each `(n,)` and none empty.
        permutations: Number of draws.
        seed: Of the draws.

    Returns:
        `(1 + draws that are as large) / (1 + permutations)`.
    """
    rng = np.random.default_rng(seed)
    total = sum(len(new) for _, new in strata)
    distances = np.zeros(permutations + 1)
    for reference, new in strata:
        weight = len(new) / total
        distances += weight * _distances(reference, new, permutations, rng)
    as_large = (distances[1:] >= distances[0] - ROUNDING).sum()
    return float((1 + as_large) / (1 + permutations))


def smallest_p_value(
    strata: Sequence[tuple[Array, Array]], permutations: int
) -> float:
    """The least that `permutation_test` can be expected to return."""
    ways = math.prod(math.comb(len(r) + len(n), len(n)) for r, n in strata)
    return max(1 / (1 + permutations), 1 / ways)


def _distances(
    reference: Array, new: Array, permutations: int, rng: np.random.Generator
) -> Array:
    """Statistic of the samples as they are, then of each permutation."""
    pooled = np.concatenate([reference, new])
    order = np.argsort(pooled, kind="stable")
    is_new = (order >= len(reference)).astype("int64")
    ordered = pooled[order]
    # Between equal values there is no step.
    last = np.append(ordered[1:] != ordered[:-1], True)
    found = [_distance(is_new[None], last)]
    block = max(BLOCK // len(pooled), 1)
    for start in range(0, permutations, block):
        rows = min(block, permutations - start)
        drawn = rng.permuted(np.tile(is_new, (rows, 1)), axis=1)
        found.append(_distance(drawn, last))
    return np.concatenate(found)


def _distance(is_new: Array, last: Array) -> Array:
    """Largest distance of two distribution functions, `(rows,)`.

    Args:
        is_new: `(rows, samples)`, 1 for a new one, in the order of values.
        last: `(samples,)`, the last of several with the same value.
    """
    count = is_new.shape[1]
    new = int(is_new[0].sum())
    seen = np.arange(1, count + 1)[last]
    # Whole numbers until the division: equal distances are equal.
    steps = np.cumsum(is_new, axis=1)[:, last] * count - seen * new
    return np.abs(steps).max(axis=1) / (new * (count - new))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that any false alarm among them is rare.

    Those that are at most `level` mark what has changed; with a probability
    of `1 - level` all marks are right, whatever depends on what.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for place, index in enumerate(order):
        factor = len(p_values) - place
        largest = max(largest, min(1.0, factor * p_values[index]))
        adjusted[index] = largest
    return adjusted.tolist()
