"""What clean features let expect of each other, learnt and applied."""

from typing import Any
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._host import HOST
from keras_mmrel.portable import inverse as inverse_of
from keras_mmrel.portable import pick
from keras_mmrel.portable import solve

FEWEST = 30
FOLDS = 5
CLIP = 20.0
# Median of the square of a standard normal variable.
MEDIAN = 0.455
# A sample is noisy as a whole from this many times the usual median on.
SLACK = 3.0
# Where the median is looked for, and how often the interval is halved.
SMALLEST, LARGEST, HALVINGS = 1e-6, 1e8, 17
# Steepness of the judgements: of a residual, and of leaving the range.
SLOPE, EDGE = 4.0, 20.0
# How far beyond its range, in widths, a feature is half believed.
MARGIN = 0.1
# Typical is a log distance up to so many deviations, by this softness.
USUAL, SOFTNESS = 3.0, 0.5
# A feature that nearly all of what is known comes from, and a far residual.
LEAST, CAP = 0.05, 5.0


class RepairFit(NamedTuple):
    """Statistics of a modality of `d` features, in float64.

    Attributes:
        mean: `(d,)`.
        deviation: `(d,)`, with a floor.
        low: `(d,)`, smallest standardised value.
        high: `(d,)`, largest one.
        factors: `(d, r)`.
        noise: `(d,)`, variance that the factors leave.
        distance: `(2,)`, mean and deviation of a sample's log distance.
        slack: `(1,)`, largest usual ratio of medians.
    """

    mean: Array
    deviation: Array
    low: Array
    high: Array
    factors: Array
    noise: Array
    distance: Array
    slack: Array


class Judgement(NamedTuple):
    """What is thought of a batch.

    Attributes:
        keep: `(batch, modalities, d)`, how much of each feature stays.
        expected: `(batch, modalities, d)`, what stands in for the rest.
        quality: `(batch, modalities)` in [0, 1].
        log_distance: `(batch, modalities)`.
        ratio: `(batch, modalities)`, median square over the usual one.
    """

    keep: Tensor
    expected: Tensor
    quality: Tensor
    log_distance: Tensor
    ratio: Tensor


def judge(
    u: Tensor,
    state: dict[str, Tensor],
    real: Array,
    radius: float,
    xp: Any = ops,
) -> Judgement:
    """Judge standardised features.

    Args:
        u: `(batch, modalities, d)`, zero in padding.
        state: Statistics of `RepairFit` by name, stacked over modalities.
        real: `(modalities, d)`, 0 for padding.
        radius: Deviations beyond which a feature is not believed.
        xp: `keras.ops`, or `HOST` for NumPy.
    """
    noise = xp.where(state["noise"] > 0, state["noise"], 1.0)
    factors, slack = state["factors"], state["slack"]
    modalities, width = real.shape
    # A number, too, where PyTorch traces shapes as tensors.
    rank = int(factors.shape[2])
    sizes = np.maximum(real.sum(axis=1), 1.0).astype("float32")
    half = xp.convert_to_tensor((sizes - 1) // 2)
    identity = xp.convert_to_tensor(np.eye(rank, dtype="float32"))
    real, sizes = xp.convert_to_tensor(real), xp.convert_to_tensor(sizes)
    # Products of two factors, each pair once: the others are the same.
    first, second, whole, upper, times = _pairs(rank)
    twice = xp.convert_to_tensor(times)
    outer = pick(factors, first, xp) * pick(factors, second, xp)

    def median(x: Tensor) -> Tensor:
        """By halving an interval: to sort takes many times as long."""
        x = xp.where(real > 0, xp.log(x + SMALLEST), np.inf)
        low = xp.zeros_like(x[..., :1]) + np.log(SMALLEST)
        step = float(np.log(LARGEST / SMALLEST))
        for _ in range(HALVINGS):
            step = 0.5 * step
            middle = low + step
            # Runtimes of exported models do not sum booleans.
            below = xp.cast(x <= middle, "float32")
            enough = xp.sum(below, axis=-1, keepdims=True) > half[:, None]
            low = xp.where(enough, low, middle)
        found = xp.where(x <= low + step, x, -np.inf)
        return xp.exp(xp.max(found, axis=-1, keepdims=True))

    def system(q: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, and `A h = b` of the expected factors `h`."""
        weight = q / (noise + tau)
        a = xp.einsum("bmd,mdr->bmr", weight, outer)
        a = xp.reshape(pick(a, whole, xp), (-1, modalities, rank, rank))
        b = xp.einsum("bmd,mdr->bmr", weight * u, factors)
        return weight, a + identity, b

    width_of_range = xp.maximum(state["high"] - state["low"], 1e-3)
    beyond = xp.maximum(state["low"] - u, u - state["high"]) / width_of_range
    q = xp.sigmoid(EDGE * (MARGIN - beyond)) * real
    # Where most features are out of range, all may carry noise.
    most = 2.0 * xp.sum(q, axis=-1, keepdims=True) < sizes[:, None]
    size = xp.sum(xp.square(u), axis=-1, keepdims=True) / sizes[:, None]
    tau = xp.where(most, xp.maximum(size - 1.0, 0.0), 0.0)
    q = xp.where(most, 1.0, q) * real

    def left_out(q: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Squared residual of each feature by all others, its variance."""
        weight, a, b = system(q, tau)
        inverse = inverse_of(a, xp)
        h = xp.einsum("bmrs,bms->bmr", inverse, b)
        residual = u - xp.einsum("bmr,mdr->bmd", h, factors)
        inverse = xp.reshape(inverse, (-1, modalities, rank * rank))
        inverse = twice * pick(inverse, upper, xp)
        unsure = xp.einsum("bmr,mdr->bmd", inverse, outer)
        left = xp.maximum(1.0 - weight * unsure, LEAST)
        return xp.square(residual / left), noise + unsure / left

    def believed(squares: Tensor, variance: Tensor) -> Tensor:
        scaled = xp.sqrt(squares / variance + 1e-12)
        return xp.sigmoid(SLOPE * (radius - scaled)) * real

    squares, variance = left_out(q, tau)
    q = believed(squares, variance + tau)
    # Again, without those that did not fit.
    squares, variance = left_out(q, tau)
    distances = squares / variance
    ratio = median(distances) / MEDIAN
    average = xp.sum(variance * real, axis=-1, keepdims=True) / sizes[:, None]
    tau = xp.maximum(ratio - slack, 0.0) * average
    q = believed(squares, variance + tau)

    # What is expected by those that fit.
    _, a, b = system(q, tau)
    h = solve(a, b, xp)
    expected = xp.einsum("bmr,mdr->bmd", h, factors)
    total = xp.sum(q, axis=-1)
    distance = xp.sum(q * xp.minimum(distances, CAP**2), axis=-1)
    log = xp.log(distance / xp.maximum(total, 1e-6) + 1e-6)
    centre, spread = state["distance"][:, 0], state["distance"][:, 1]
    unusual = xp.abs(log - centre) / xp.maximum(spread, 1e-3)
    typical = xp.sigmoid((USUAL - unusual) / SOFTNESS)
    return Judgement(
        q * noise / (noise + tau),
        expected,
        typical * total / sizes,
        log,
        ratio[:, :, 0],
    )


def _pairs(rank: int) -> tuple[Array, Array, Array, Array, Array]:
    """Numbers of pairs of factors, `rank` (`rank` + 1) / 2 of them.

    Returns:
        The first and the second of each pair; of each place of a matrix the
        pair; of each pair its place, and how often it stands there.
    """
    first, second = np.triu_indices(rank)
    pairs = np.zeros((rank, rank), "int32")
    pairs[first, second] = pairs[second, first] = np.arange(len(first))
    upper = (rank * first + second).astype("int32")
    times = np.where(first < second, 2.0, 1.0).astype("float32")
    return first, second, pairs.reshape(-1), upper, times


def fit_repair(
    x: Array, rank: int, radius: float, rng: np.random.Generator
) -> RepairFit | None:
    """Learn what clean features let expect of each other.

    How far off a clean sample is comes from samples that the factors have
    not seen: those that they have look better than new ones do.

    Args:
        x: `(n, d)` in float64.
        rank: Most factors.
        radius: See `judge`.
        rng: Generator of the folds.

    Returns:
        The statistics, or `None` where there are too few samples or no
        feature varies.
    """
    spread = x.max(axis=0) - x.min(axis=0) if len(x) else np.zeros(1)
    if len(x) < FEWEST or not spread.any():
        return None
    # A feature that never varied has no width; the others' stands in.
    varies = spread > 1e-6 * np.abs(x).max(axis=0)
    if not varies.any():
        return None
    floor = 0.02 * np.where(varies, spread, np.median(spread[varies]))
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), floor)
    u = (x - mean) / deviation
    size = x.shape[1]
    fold = rng.permutation(len(u)) % FOLDS

    low, high = u.min(axis=0), u.max(axis=0)

    def fitted(rows: Array, distance: Array, slack: Array) -> RepairFit:
        factors, noise = _factors(rows, rank)
        return RepairFit(
            mean, deviation, low, high, factors, noise, distance, slack
        )

    distance, slack = np.array([0.0, 1.0]), np.array([SLACK])
    seen = []
    for k in range(FOLDS):
        fit = fitted(u[fold != k], distance, slack)
        state = {name: value[None] for name, value in fit._asdict().items()}
        rows = np.clip(u[fold == k], -CLIP, CLIP)[:, None]
        seen.append(judge(rows, state, np.ones((1, size)), radius, HOST))
    logs = np.concatenate([s.log_distance for s in seen])
    ratio = np.quantile(np.concatenate([s.ratio for s in seen]), 0.99)
    distance = np.array([logs.mean(), max(logs.std(), 0.1)])
    return fitted(u, distance, np.maximum(slack, ratio))


def _factors(u: Array, rank: int) -> tuple[Array, Array]:
    """Factors `(d, r)` and the variance that they leave, `(d,)`."""
    n, size = u.shape
    r = max(1, min(rank, size // 2, n // 8))
    _, singular, right = np.linalg.svd(u, full_matrices=False)
    factors = right[:r].T * singular[:r] / np.sqrt(n)
    left = np.mean(u**2, axis=0) - np.sum(factors**2, axis=1)
    # What was fitted to few samples leaves more in others.
    return factors, np.maximum(left, 0.0) * n / (n - r) + 0.05
