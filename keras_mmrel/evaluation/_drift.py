"""Confidences of a stream against those of calibration."""

import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.evaluation._two_samples import holm
from keras_mmrel.evaluation._two_samples import permutation_test
from keras_mmrel.evaluation._two_samples import smallest_p_value
from keras_mmrel.evaluation.drift_report import DriftReport
from keras_mmrel.user_warning import warn


def compare_confidences(
    names: Sequence[str],
    before: tuple[Array, Array],
    now: tuple[Array, Array],
    level: float,
    permutations: int,
    seed: int,
) -> DriftReport:
    """Test each modality, and adjust for the number of them.

    Args:
        names: Names of the modalities.
        before: Confidence `(samples, modalities)` of the calibration samples,
            NaN where missing, and the place of each one's group `(samples,)`,
            0 for none.
        now: The same of the stream.
        level: Of the whole report.
        permutations: Number of permutations a test.
        seed: Of the permutations.
    """
    least = math.ceil(len(names) / level) - 1
    if permutations < least:
        raise ValueError(
            f"`permutations` must be at least {least} for {len(names)} "
            f"modalities at a level of {level:g}. Received: "
            f"permutations={permutations}"
        )
    p_values: list[float | None] = []
    least_p = []
    for column in range(len(names)):
        strata = _strata(before, now, column)
        if not strata:
            p_values.append(None)
            continue
        p_values.append(permutation_test(strata, permutations, seed))
        least_p.append(smallest_p_value(strata, permutations))
    tested = [p for p in p_values if p is not None]
    if not tested or min(least_p) * len(tested) > level:
        warn(
            f"{len(now[0])} samples of a stream are too few to find a change "
            f"at a level of {level:g}."
        )
    adjusted = iter(holm(tested))
    return DriftReport(
        modality_names=list(names),
        p_values=[None if p is None else next(adjusted) for p in p_values],
        before=_means(before[0]),
        now=_means(now[0]),
        samples=(~np.isnan(now[0])).sum(axis=0).tolist(),
        level=level,
    )


def _strata(
    before: tuple[Array, Array], now: tuple[Array, Array], column: int
) -> list[tuple[Array, Array]]:
    """Pairs of known and new confidences, a pair a group.

    A new sample without a group is compared with all known ones, in a pair of
    its own.
    """
    known, rows = before[0][:, column], before[1]
    new, new_rows = now[0][:, column], now[1]
    found = []
    for row in np.unique(new_rows):
        members = np.ones(len(rows), bool) if row == 0 else rows == row
        pair = known[members], new[new_rows == row]
        pair = pair[0][~np.isnan(pair[0])], pair[1][~np.isnan(pair[1])]
        if all(map(len, pair)):
            found.append(pair)
    return found


def _means(confidence: Array) -> list[float | None]:
    there = ~np.isnan(confidence)
    counts = there.sum(axis=0)
    sums = np.where(there, confidence, 0.0).sum(axis=0)
    return [
        float(total / count) if count else None
        for total, count in zip(sums, counts, strict=True)
    ]
