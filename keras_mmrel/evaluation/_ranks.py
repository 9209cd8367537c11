"""Which of some calibration values keeps a promise for a new one."""

import math
from fractions import Fraction

import numpy as np

from keras_mmrel.contract import Array


def covering_rank(samples: int, coverage: float) -> int:
    """Rank, from 1, of the value that a new one exceeds rarely enough.

    Of `samples + 1` exchangeable values each is as likely to be the new one,
    so it is at most the one of this rank with a probability of `coverage`.
    With too few samples the rank is above `samples`.
    """
    return math.ceil((samples + 1) * Fraction(repr(coverage)))


def fewest_for_coverage(coverage: float) -> int:
    """Number of samples from which on there is such a value."""
    level = Fraction(repr(coverage))
    return math.ceil(level / (1 - level))


def rarely_exceeded(values: Array, alarm: float) -> float | None:
    """Value that a new one exceeds with a probability of at most `alarm`.

    Args:
        values: `(samples,)`, exchangeable with the new one.
        alarm: In (0, 1).

    Returns:
        One of the values, or `None` if there are too few.
    """
    above = math.floor((len(values) + 1) * Fraction(repr(alarm)))
    if above < 1:
        return None
    place = len(values) - above
    return float(np.partition(values, place)[place])


def fewest_for_alarm(alarm: float) -> int:
    """Number of samples from which on there is such a value."""
    return math.ceil(1 / Fraction(repr(alarm))) - 1
