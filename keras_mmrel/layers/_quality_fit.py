"""What clean samples of a modality look like, and what damage costs it.

Computed once on the host, in float64, from the training samples.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_mmrel.contract import Array

# Fewer samples than this have no covariance to speak of.
FEWEST = 8
BINS = 20
CLIP = 8.0
CAP = 5.0
# What of the clean samples lies between the limits of the energy.
LIMIT = 0.01
# The probe stands in for a network: with this shrinkage its accuracy falls
# under corruption as that of trained heads does.
PROBE_SHRINKAGE = 0.8
# Differences of fewer standard errors are taken for none.
ERRORS = 3.0
SLACK = 0.05


class QualityFit(NamedTuple):
    """Statistics of a modality of `d` features.

    Attributes:
        mean: `(d,)`.
        deviation: `(d,)`, with a floor.
        low: `(d,)`, smallest value in range.
        high: `(d,)`, largest value in range.
        precision: `(d, d)`, inverse of the shrunk correlation.
        scale: `(d,)`, size of a clean residual.
        limits: `(2, 2)`, lowest and highest clean energy of raw and of
            cleaned samples.
        knots: `(2, 2, BINS + 1)`, distance below and above the limits.
        reliabilities: `(2, 2, BINS + 1)`, in [0, 1], at the knots.
    """

    mean: Array
    deviation: Array
    low: Array
    high: Array
    precision: Array
    scale: Array
    limits: Array
    knots: Array
    reliabilities: Array


def fit_quality(
    x: Array, y: Array, shrinkage: float, rng: np.random.Generator
) -> QualityFit | None:
    """Learn what a modality is worth, from how it looks.

    Args:
        x: `(n, d)` in float64, clean.
        y: `(n,)`, class numbers.
        shrinkage: Of the correlations, in (0, 1].
        rng: Generator of the simulated corruptions.

    Returns:
        The statistics, or `None` where there is nothing to learn: too few
        samples, one class, or no feature that varies.
    """
    present, y = np.unique(y, return_inverse=True)
    spread = x.max(axis=0) - x.min(axis=0) if len(x) else np.zeros(1)
    if len(x) < FEWEST or len(present) < 2 or not spread.any():
        return None
    # A feature that never varied has no width; the others' stands in.
    floor = 0.02 * np.maximum(spread, np.median(spread[spread > 0]))
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), floor)
    slack = SLACK * spread
    low, high = x.min(axis=0) - slack, x.max(axis=0) + slack

    def standardised(rows: Array) -> Array:
        return np.clip((rows - mean) / deviation, -CLIP, CLIP)

    def cleaned(rows: Array) -> Array:
        return np.where((rows >= low) & (rows <= high), rows, mean)

    u = standardised(x)
    left_out = _LeftOut(u, u, shrinkage)
    scale = np.sqrt(np.mean(left_out.residuals(u) ** 2, axis=0)) + 0.05
    in_sample = np.abs(u @ left_out.precision / left_out.diagonal) / scale

    probe = _Probe(u, y)
    chance = np.bincount(y).max() / len(y)
    best = probe.right(u).mean()
    error = ERRORS * np.sqrt(best * (1.0 - best) / len(y))

    # Every corruption through both ways: as it is, and cleaned.
    energies: list[list[Array]] = [[], []]
    right: list[list[Array]] = [[], []]
    for corrupted in _corruptions(x, mean, rng):
        for way, rows in enumerate((corrupted, cleaned(corrupted))):
            residuals = left_out.residuals(standardised(rows)) / scale
            energies[way].append(energy(residuals))
            # A network's inputs are not clipped.
            right[way].append(probe.right((rows - mean) / deviation))

    limits, knots, values = np.zeros((2, 2)), [], []
    for way in (0, 1):
        clean = energies[way][0]
        limits[way] = np.quantile(clean, [LIMIT, 1.0 - LIMIT])
        # Training samples took part in the statistics: they look too good.
        lowest = np.quantile(energy(in_sample), LIMIT)
        limits[way, 0] = min(limits[way, 0], lowest)
        # Half of the samples that one meets are clean.
        weights = np.ones((len(energies[way]), len(x)))
        weights[0] = len(weights) - 1
        known = np.concatenate(energies[way])
        hits = np.concatenate(right[way]).astype("float64")
        below = limits[way, 0] - known
        above = known - limits[way, 1]
        for distance in (below, above):
            t, accuracy = _falling(distance, hits, weights.ravel(), best)
            knots.append(t)
            gain = (accuracy - chance + error) / max(
                best - chance + error, 1e-3
            )
            values.append(np.clip(gain, 0.0, 1.0))
    shape = (2, 2, BINS + 1)
    return QualityFit(
        mean,
        deviation,
        low,
        high,
        left_out.precision,
        scale,
        limits,
        np.reshape(knots, shape),
        np.reshape(values, shape),
    )


def energy(residuals: Array) -> Array:
    """Log of the mean square of scaled residuals, `(n,)`."""
    return np.log(np.mean(np.minimum(residuals, CAP) ** 2, axis=1) + 1e-9)


class _LeftOut:
    """Products with a shrunk precision that has not seen the sample itself.

    Exact, by the Sherman-Morrison formula, for a fixed mean and deviation.

    Args:
        u: `(n, d)`, the standardised training samples.
        rows: `(m, d)`, those of them that are left out, one at a time.
        shrinkage: In (0, 1].
    """

    def __init__(self, u: Array, rows: Array, shrinkage: float) -> None:
        size = u.shape[1]
        correlation = u.T @ u / len(u)
        self.precision = np.linalg.inv(
            (1.0 - shrinkage) * correlation + shrinkage * np.eye(size)
        )
        self.diagonal = np.diag(self.precision)
        self.own = rows @ self.precision
        share = (1.0 - shrinkage) / len(u)
        leverage = np.sum(self.own * rows, axis=1, keepdims=True)
        self.gain = share / (1.0 - share * leverage)

    def products(self, z: Array) -> Array:
        """Rows of `z` times the precision without the row's own sample."""
        along = np.sum(self.own * z, axis=1, keepdims=True)
        return z @ self.precision + self.gain * along * self.own

    def residuals(self, z: Array) -> Array:
        """Distance of each feature from what the others let expect."""
        diagonal = self.diagonal + self.gain * self.own**2
        return np.abs(self.products(z) / diagonal)


class _Probe:
    """A ridge classifier that has not seen the sample that it judges.

    Args:
        u: `(n, d)`, the standardised training samples.
        y: `(n,)`, class numbers.
    """

    def __init__(self, u: Array, y: Array) -> None:
        self.u, self.y = u, y
        prior = np.bincount(y) / len(y)
        self.prior = prior
        self.labels = np.eye(len(prior))[y] - prior
        self.class_means = u.T @ self.labels / len(u)
        self.left_out = _LeftOut(u, u, PROBE_SHRINKAGE)

    def right(self, z: Array) -> Array:
        """Whether a version of each training sample gets its class, `(n,)`."""
        products = self.left_out.products(z)
        own = np.sum(products * self.u, axis=1, keepdims=True)
        scores = products @ self.class_means - own * self.labels / len(self.u)
        return np.argmax(scores + self.prior, axis=1) == self.y


def _corruptions(
    x: Array, mean: Array, rng: np.random.Generator
) -> Iterator[Array]:
    """Yield the samples as they are, and damaged in many ways and degrees."""
    n, d = x.shape
    deviation = x.std(axis=0)

    def noise(size: float | Array) -> Array:
        return x + size * deviation * rng.normal(size=(n, d))

    def mixed(other: Array | float, fraction: float) -> Array:
        return np.where(rng.random((n, d)) < fraction, other, x)

    yield x
    for fraction in (0.1, 0.3, 0.6, 1.0):
        donors = x[rng.integers(n, size=(n, d)), np.arange(d)]
        yield mixed(donors, fraction)
    for size in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        yield noise(size)
    for fraction in (0.1, 0.3, 0.6):
        yield mixed(noise(2.0 ** rng.uniform(0, 4, size=(n, 1))), fraction)
    for constant in (0.0, mean):
        for fraction in (0.3, 0.6, 1.0):
            yield mixed(constant, fraction)


def _falling(
    distance: Array, right: Array, weights: Array, best: float
) -> tuple[Array, Array]:
    """Accuracy over the distance beyond a limit, never rising.

    Args:
        distance: `(n,)`; what is not above 0 lies within the limit.
        right: `(n,)`, 0 or 1.
        weights: `(n,)`.
        best: Accuracy within the limit.

    Returns:
        Knots `(BINS + 1,)`, the first 0 and each above the one before, and
        the accuracy at each.
    """
    beyond = np.flatnonzero(distance > 0)
    order = beyond[np.argsort(distance[beyond], kind="stable")]
    knots, accuracy = [0.0], [best]
    for part in np.array_split(order, BINS):
        if len(part):
            knots.append(distance[part].mean())
            mean = np.average(right[part], weights=weights[part])
            accuracy.append(min(accuracy[-1], mean))
        else:
            knots.append(knots[-1])
            accuracy.append(accuracy[-1])
    apart = 1e-4 * np.arange(BINS + 1)
    return np.maximum.accumulate(knots) + apart, np.array(accuracy)
