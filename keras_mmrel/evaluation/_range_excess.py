"""How far a sample leaves the range that features have on clean data."""

from typing import NamedTuple

import numpy as np
from keras import ops

from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor

# Most that one feature counts, in widths of its range.
MOST = 10.0
# Features that are looked at together, for the sake of memory.
BLOCK = 4096


class RangeFit(NamedTuple):
    """Range of each feature, and how far each sample is outside the others'.

    Attributes:
        low: `(d,)`, smallest value.
        high: `(d,)`, largest value.
        excess: `(samples,)`, what `range_excess` is for each sample if the
            range is that of all others.
    """

    low: Array
    high: Array
    excess: Array


def range_excess(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Sum over features of how far they are out of range, `(batch,)`.

    In widths of the range, at most `MOST` a feature: also where the range has
    no width, and where the value is no number.

    Args:
        x: `(batch, d)` in float32.
        low: `(d,)`.
        high: `(d,)`.
    """
    inside = ops.logical_and(x >= low, x <= high)
    beyond = ops.maximum(ops.maximum(low - x, x - high), 0.0)
    widths = MOST * (high - low)
    # Far enough, infinite, or not a number.
    near = ops.logical_and(beyond < widths, ops.logical_not(inside))
    ratio = MOST * beyond / ops.where(widths > 0, widths, 1.0)
    far = ops.where(inside, 0.0, MOST)
    return ops.sum(ops.where(near, ratio, far), axis=1)


def fit_range(x: Array) -> RangeFit:
    """Learn the range of some samples, and how far each leaves the others'.

    A further sample can only widen the range of the others, so what is found
    here is at least what it would be with that sample among them. A limit
    that these values seldom exceed holds for a new sample too.

    Args:
        x: `(samples, d)` in float32, finite, with two samples or more.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    excess = np.zeros(len(x))
    for start in range(0, x.shape[1], BLOCK):
        part = x[:, start : start + BLOCK]
        ordered = np.partition(part, (1, len(x) - 2), axis=0)
        for outermost, own, low_of_others, high_of_others in (
            (part.argmin(axis=0), part.min(axis=0), ordered[1], ordered[-1]),
            (part.argmax(axis=0), part.max(axis=0), ordered[0], ordered[-2]),
        ):
            beyond = np.maximum(low_of_others - own, own - high_of_others)
            widths = MOST * (high_of_others - low_of_others)
            near = beyond < widths
            ratio = MOST * beyond / np.where(near, widths, 1.0)
            found = np.where(near, ratio, np.where(beyond > 0, MOST, 0.0))
            np.add.at(excess, outermost, found.astype("float64"))
    return RangeFit(low, high, excess)
