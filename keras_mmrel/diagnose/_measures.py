"""Means with corrected errors, and what is recommended by them."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.benchmark._statistics import paired_difference
from keras_mmrel.benchmark._statistics import standard_error
from keras_mmrel.contract import Array
from keras_mmrel.diagnose._limits import limit


@dataclasses.dataclass(frozen=True)
class Measure:
    """A mean over folds and its corrected error; NaN where not known."""

    mean: float
    error: float

    def to_dict(self) -> dict[str, float | None]:
        return {"mean": plain(self.mean), "error": plain(self.error)}


def plain(value: float) -> float | None:
    """A number as JSON takes it, five digits."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def measure(values: Array, ratio: float) -> Measure:
    """Return mean and error (Nadeau and Bengio) of one value a fold."""
    if not len(values):
        return Measure(math.nan, math.nan)
    return Measure(float(np.mean(values)), standard_error(values, ratio))


def difference(values: Array, reference: Array, ratio: float) -> Measure:
    """Return the paired difference of two rows."""
    if not len(values) or len(values) != len(reference):
        return Measure(math.nan, math.nan)
    mean, error, _ = paired_difference(values, reference, ratio)
    return Measure(mean, error)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a question is answered with.

    Args:
        method: The simplest one that nobody is clearly ahead of, or the one
            that is taken without evidence against it.
        best: The one of the best mean.
        behind: Difference of the best to it.
    """

    method: str
    best: str
    behind: Measure


def choose(
    methods: Sequence[str],
    values: dict[str, Array],
    ratio: float,
    default: str | None = None,
) -> Choice:
    """Take the first method that the best one is not clearly ahead of.

    Args:
        methods: Names, the simplest first.
        values: One value a fold of each, more is better.
        ratio: As in `measure`.
        default: Method that is taken unless the best one is ahead of it by
            twice as much, or `None`. Few folds say little, and it has been
            among the best on other data.
    """
    known = [m for m in methods if np.isfinite(values[m]).all()]
    if not known:
        return Choice(methods[0], methods[0], Measure(math.nan, math.nan))
    best = max(known, key=lambda m: float(values[m].mean()))
    if default in known:
        behind = difference(values[best], values[default], ratio)
        if behind.mean <= limit("default") * behind.error or default == best:
            return Choice(str(default), best, behind)
    for method in known:
        behind = difference(values[best], values[method], ratio)
        if behind.mean <= limit("ahead") * behind.error or method == best:
            return Choice(method, best, behind)
    raise AssertionError("the best one is among them")
