"""What clean samples of a modality look like, and what damage costs it.

Computed once on the host, in float64, from the training samples.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_mmrel.contract import Array

# Fewer samples than this have no covariance to speak of.
FEWEST = 30
BINS = 20
# A sample is used as it is, or with what is out of range taken out.
RAW, CLEANED = 0, 1
CURVES = 5
# Wild values harm a network more than the probe: in doubt they go.
PREFERENCE = 0.7
LOST = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
# Further than this, in deviations, nothing was simulated.
FAR = 50.0
CLIP = 8.0
CAP = 5.0
# What of the clean samples lies between the limits of the energy.
LIMIT = 0.05
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
        importance: `(d,)`, weight of a feature's residual; they sum to 1.
        limits: `(CURVES,)`, lowest and highest clean energy of raw samples
            and of cleaned ones, and 0 for the fraction of features that is
            replaced.
        knots: `(CURVES, BINS + 1)`, distances beyond these limits.
        reliabilities: `(CURVES, BINS + 1)`, in [0, 1], at the knots.
    """

    mean: Array
    deviation: Array
    low: Array
    high: Array
    precision: Array
    scale: Array
    importance: Array
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
    varies = spread > 1e-6 * np.abs(x).max(axis=0)
    floor = 0.02 * np.where(varies, spread, np.median(spread[spread > 0]))
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), floor)
    slack = SLACK * spread
    low, high = x.min(axis=0) - slack, x.max(axis=0) + slack

    def standardised(rows: Array) -> Array:
        return np.clip((rows - mean) / deviation, -CLIP, CLIP)

    u = standardised(x)
    left_out = _LeftOut(u, u, shrinkage)
    scale = np.sqrt(np.mean(left_out.residuals(u) ** 2, axis=0)) + 0.05
    in_sample = np.abs(u @ left_out.precision / left_out.diagonal) / scale

    probe = _Probe(u, y)
    importance = 0.5 / x.shape[1] + 0.5 * probe.importance()
    # A class counts as much as any other, however rare it is.
    counts = np.bincount(y)
    balance = len(y) / (len(counts) * counts[y])
    chance = 1.0 / len(counts)
    best = np.average(probe.right(u), weights=balance)
    effective = len(y) ** 2 / np.sum(balance**2)
    error = ERRORS * np.sqrt(best * (1.0 - best) / effective)

    # Every corruption through both ways: as it is, and cleaned.
    energies: list[list[Array]] = [[], []]
    right: list[list[Array]] = [[], []]
    for corrupted in _corruptions(x, mean, rng):
        inside = (corrupted >= low) & (corrupted <= high)
        cleaned = np.where(inside, corrupted, mean)
        for way, rows in enumerate((corrupted, cleaned)):
            residuals = left_out.residuals(standardised(rows)) / scale
            kept = inside if way == CLEANED else np.ones_like(inside)
            energies[way].append(energy(residuals, importance, kept))
            # A network's inputs are not clipped.
            right[way].append(probe.right((rows - mean) / deviation))

    # Half of the samples that one meets are clean.
    weights = np.ones(np.shape(energies[RAW]))
    weights[0] = len(weights) - 1
    weights = weights * balance
    # Training samples took part in the statistics: they look too good.
    lowest = np.quantile(energy(in_sample, importance), LIMIT)
    limits, knots, values = [], [], []

    def learn(
        beyond: Array, correct: Array, limit: float, weights: Array
    ) -> None:
        t, accuracy = _falling(beyond, correct, weights.ravel(), best)
        # Where nothing was known, nothing can be lost.
        gain = 1.0 - (best - accuracy) / max(best - chance + error, 1e-3)
        limits.append(limit)
        knots.append(t)
        values.append(np.clip(gain, 0.0, 1.0))

    for way in (RAW, CLEANED):
        known = np.concatenate(energies[way])
        under, above = np.quantile(energies[way][0], [LIMIT, 1.0 - LIMIT])
        under = min(under, lowest)
        correct = np.concatenate(right[way])
        learn(under - known, correct, under, weights)
        learn(known - above, correct, above, weights)
    # However well the rest fits: what is replaced is lost.
    replaced = [rng.random(x.shape) < fraction for fraction in LOST]
    fractions = np.concatenate([lost.mean(axis=1) for lost in replaced])
    correct = np.concatenate(
        [probe.right(np.where(lost, 0.0, u)) for lost in replaced]
    )
    learn(fractions, correct, 0.0, np.tile(balance, len(LOST)))
    return QualityFit(
        mean,
        deviation,
        low,
        high,
        left_out.precision,
        scale,
        importance,
        np.array(limits),
        np.array(knots),
        np.array(values),
    )


def energy(
    residuals: Array, importance: Array, kept: Array | None = None
) -> Array:
    """Log of the weighted mean square of scaled residuals, `(n,)`.

    Of the `kept` features alone: means that stand in for others fit each
    other well, and the more of them there are, the better.
    """
    squares = np.minimum(residuals, CAP) ** 2
    if kept is None:
        return np.log(squares @ importance + 1e-9)
    total = np.maximum(kept @ importance, 1e-9)
    return np.log((squares * kept) @ importance / total + 1e-9)


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
        fraction = (1.0 - shrinkage) / len(u)
        leverage = np.sum(self.own * rows, axis=1, keepdims=True)
        self.gain = fraction / (1.0 - fraction * leverage)

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

    def importance(self) -> Array:
        """Squared weights of the features, which sum to 1, `(d,)`."""
        weights = self.left_out.precision @ self.class_means
        squares = np.sum(weights**2, axis=1)
        total = squares.sum()
        return (
            squares / total
            if total
            else np.full(len(weights), 1.0 / len(weights))
        )

    def right(self, z: Array) -> Array:
        """Whether a version of each training sample gets its class, `(n,)`.

        Above the prior as a fraction of it: else the largest class would win
        wherever little is known.
        """
        products = self.left_out.products(z)
        own = np.sum(products * self.u, axis=1, keepdims=True)
        scores = products @ self.class_means - own * self.labels / len(self.u)
        return np.argmax(scores / self.prior, axis=1) == self.y


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
