"""What chance there is in a fixed test part, from the kept predictions."""

import functools
from collections.abc import Callable

import numpy as np

from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._store import Store
from keras_mmrel.contract import Array
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import Predictions

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
        runs: Records of one data set with a published split, in one regime.
        groups: Name of a mean over corruptions -> their names.
    """

    # Not one of the tests, whatever it is called.
    __test__ = False

    def __init__(
        self, store: Store, runs: list[dict], groups: dict[str, list[str]]
    ) -> None:
        self.store = store
        self.groups = groups
        self.seeds: dict[str, list[int]] = {}
        self._runs: dict[tuple[str, int], dict] = {}
        for run in runs:
            if store.predictions(Job.of(run)).exists():
                self.seeds.setdefault(run["method"], []).append(run["seed"])
                self._runs[run["method"], run["seed"]] = run
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
        if corruption == "clean" and other is None and _is_general(score):
            return self._error_of_clean(method, score, sorted(seeds))
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
        self, method: str, score: str, seeds: list[int]
    ) -> float:
        rng = np.random.default_rng(0)
        function = SCORES[score].function
        found = []
        samples = len(self._clean(method, seeds[0]).labels)
        for _ in range(FEW_DRAWS):
            rows = rng.integers(samples, size=samples)
            mean = 0.0
            for seed, weight in zip(
                seeds, _seed_weights(rng, len(seeds)), strict=True
            ):
                drawn = self._clean(method, seed).take(rows)
                if not all(map(drawn.has, SCORES[score].needs)):
                    return np.nan
                mean += weight * float(function(drawn))
            found.append(mean)
        return float(np.std(found, ddof=1))

    def _read(self, method: str, seed: int) -> dict[str, Array]:
        path = self.store.predictions(Job.of(self._runs[method, seed]))
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _clean(self, method: str, seed: int) -> Predictions:
        arrays = self._load(method, seed)
        config = self.store.config() or {}
        bins = config.get("evaluation", {}).get("bins", 15)
        return Predictions(
            arrays["probabilities"][0].astype("float64"),
            arrays["labels"],
            bins=bins,
        )

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
        arrays = self._load(method, seed)
        p = arrays["probabilities"][arrays["corruption"] == corruption]
        return MEANS[score](p.astype("float64"), arrays["labels"]).mean(axis=0)


def _seed_weights(rng: np.random.Generator, count: int) -> Array:
    """Weights of drawn seeds, wide enough that few seeds do not look sure."""
    drawn = rng.multinomial(count, np.full(count, 1 / count)) / count
    if count == 1:
        return drawn
    return 1 / count + (drawn - 1 / count) * np.sqrt(count / (count - 1))


def _is_general(score: str) -> bool:
    """Whether a score needs nothing but probabilities and labels."""
    known = SCORES.get(score)
    return known is not None and set(known.needs) <= {"probabilities", "binary"}
