"""What chance there is in a fixed test part, from the kept predictions."""

import functools
from collections.abc import Callable
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from keras_mmrel.benchmark._kept import Kept
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark.evaluation import Evaluation
from keras_mmrel.contract import Array
from keras_mmrel.evaluation import Predictions
from keras_mmrel.evaluation import Score

DRAWS = 1000
# Of scores that are no means over samples, each draw is computed anew.
FEW_DRAWS = 100
TINY = 1e-12


def _right(p: Array, y: Array) -> Array:
    return (p.argmax(axis=-1) == y).astype(float)


def _surprise(p: Array, y: Array) -> Array:
    return -np.log(np.maximum(_of_label(p, y), TINY))


def _brier(p: Array, y: Array) -> Array:
    return np.square(p).sum(axis=-1) - 2 * _of_label(p, y) + 1


def _of_label(p: Array, y: Array) -> Array:
    return np.take_along_axis(p, np.broadcast_to(y, p.shape[:-1])[..., None],
                              axis=-1)[..., 0]  # fmt: skip


# Scores that are means over samples, and what they are means of.
MEANS: dict[str, Callable[[Array, Array], Array]] = {
    "accuracy": _right,
    "nll": _surprise,
    "brier": _brier,
}


class TestSampling:
    """Two-way bootstrap: over seeds and over samples of one test part.

    Args:
        store: Folder of the comparison.
        runs: Runs on one data set with a published split, in one regime.
        evaluation: What they were scored on.
        groups: Name of a mean over corruptions -> their names.
    """

    # Not one of the tests, whatever it is called.
    __test__ = False

    def __init__(
        self,
        store: Store,
        runs: Sequence[Run],
        evaluation: Evaluation,
        groups: dict[str, list[str]],
    ) -> None:
        self.store = store
        self.scores = {score.name: score for score in evaluation.scores}
        self.bins = evaluation.bins
        self.groups = groups
        self.seeds: dict[str, list[int]] = {}
        self._runs: dict[tuple[str, int], Run] = {}
        for run in runs:
            if store.predictions(run.job).exists():
                seed = int(run.job.seed)
                self.seeds.setdefault(run.method, []).append(seed)
                self._runs[run.method, seed] = run
        self._load = functools.cache(self._read)
        self._per_sample = functools.cache(self._means_of)

    def error(
        self, method: str, score: str, corruption: str, other: str | None = None
    ) -> float:
        """Return the standard error of a mean, or of a paired difference.

        Args:
            method: Name of the method.
            score: Name of the score.
            corruption: Name of the corruption, the mean over its severities,
                or of a group of them.
            other: Name of the method whose values are subtracted.

        Returns:
            The error, NaN where it cannot be computed.
        """
        seeds = set(self.seeds.get(method, ()))
        if other is not None:
            seeds &= set(self.seeds.get(other, ()))
        if not seeds:
            return np.nan
        if score in MEANS:
            return self._error_of_means(
                method, score, corruption, other, sorted(seeds)
            )
        known = self.scores.get(score)
        if corruption == "clean" and other is None and _is_general(known):
            return self._error_of_clean(method, known, sorted(seeds))
        return np.nan

    def _error_of_means(
        self,
        method: str,
        score: str,
        corruption: str,
        other: str | None,
        seeds: list[int],
    ) -> float:
        values = np.stack(
            [self._per_sample(method, s, score, corruption) for s in seeds]
        )
        if other is not None:
            values = values - np.stack(
                [self._per_sample(other, s, score, corruption) for s in seeds]
            )
        rng = np.random.default_rng(0)
        count, samples = values.shape
        rows = np.stack([_seed_weights(rng, count) for _ in range(DRAWS)])
        columns = rng.multinomial(
            samples, np.full(samples, 1 / samples), DRAWS
        ) / samples  # fmt: skip
        means = ((rows @ values) * columns).sum(axis=1)
        return float(means.std(ddof=1))

    def _error_of_clean(
        self, method: str, score: Score, seeds: list[int]
    ) -> float:
        rng = np.random.default_rng(0)
        found = []
        samples = len(self._clean(method, seeds[0]).labels)
        for _ in range(FEW_DRAWS):
            rows = rng.integers(samples, size=samples)
            mean = 0.0
            for seed, weight in zip(
                seeds, _seed_weights(rng, len(seeds)), strict=True
            ):
                drawn = self._clean(method, seed).take(rows)
                if not all(map(drawn.has, score.needs)):
                    return np.nan
                mean += weight * float(score.function(drawn))
            found.append(mean)
        return float(np.std(found, ddof=1))

    def _read(self, method: str, seed: int) -> Kept:
        kept = self.store.kept(self._runs[method, seed].job)
        # It was there when the seeds were counted.
        assert kept is not None
        return kept

    def _clean(self, method: str, seed: int) -> Predictions:
        return self._load(method, seed).predictions(0, self.bins)

    def _means_of(
        self, method: str, seed: int, score: str, corruption: str
    ) -> Array:
        """Mean over severities and draws of what a score is the mean of."""
        if corruption in self.groups:
            members = self.groups[corruption]
            return np.mean(
                [self._means_of(method, seed, score, c) for c in members],
                axis=0,
            )
        kept = self._load(method, seed)
        where = np.array(kept.corruption) == corruption
        p = kept.arrays["probabilities"][where].astype("float64")
        return MEANS[score](p, kept.labels).mean(axis=0)


def _seed_weights(rng: np.random.Generator, count: int) -> Array:
    """Weights of drawn seeds, wide enough that few seeds do not look sure."""
    drawn = rng.multinomial(count, np.full(count, 1 / count)) / count
    if count == 1:
        return drawn
    return 1 / count + (drawn - 1 / count) * np.sqrt(count / (count - 1))


def _is_general(score: Score | None) -> TypeGuard[Score]:
    """Whether a score needs nothing but probabilities and labels."""
    return (
        score is not None
        and not isinstance(score.function, Recorded)
        and set(score.needs) <= {"probabilities", "binary"}
    )
