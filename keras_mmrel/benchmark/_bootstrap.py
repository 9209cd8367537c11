"""What chance there is in a fixed test part, from the kept predictions."""

import functools
from collections.abc import Sequence

import numpy as np

from keras_mmrel.benchmark._kept import Kept
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._sampling import Pair
from keras_mmrel.benchmark._sampling import SamplingErrors
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark.evaluation import Evaluation
from keras_mmrel.contract import Array
from keras_mmrel.evaluation import Score

# Draws of a mean over samples, and of a score that each draw computes anew,
# of which 100 know an error to 7 % of it.
DRAWS = 1000
FEW_DRAWS = 100


class TestSampling:
    """Two-way bootstrap: over seeds and over samples of one test part.

    A score that is a mean over samples has its numbers of each sample drawn
    again, any other one is computed again of drawn predictions. The draws are
    the same for all methods, so that differences are paired.

    Args:
        store: Folder of the comparison.
        runs: Runs on one data set with a published split, in one regime.
        evaluation: What they were scored on.
        groups: Name of a mean over corruptions -> their names.
        known: Errors that were computed before, of the same runs: they are
            taken, and stand in for predictions that are not there. It gets
            the new ones.
    """

    # Not one of the tests, whatever it is called.
    __test__ = False

    def __init__(
        self,
        store: Store,
        runs: Sequence[Run],
        evaluation: Evaluation,
        groups: dict[str, list[str]],
        known: SamplingErrors,
    ) -> None:
        self.store = store
        self.scores = {score.name: score for score in evaluation.scores}
        self.bins = evaluation.bins
        self.groups = groups
        self.known = known
        self._runs = {(r.method, int(r.job.seed)): r for r in runs}
        self._kept = {
            key
            for key, run in self._runs.items()
            if store.predictions(run.job).exists()
        }
        self._load = functools.cache(self._read)
        self._per_sample = functools.cache(self._means_of)
        self._per_draw = functools.cache(self._drawn)

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
            The error, NaN where it cannot be computed and was not before.
        """
        names = [method] if other is None else [method, other]
        seeds = self._seeds([*self._runs], names)
        kept = self._seeds([*self._kept], names)
        if not seeds:
            return np.nan
        runs = [self._runs[name, seed] for name in names for seed in seeds]
        pair = Pair.of(runs, method, other)
        known = self.known.get(pair, score, corruption)
        if known is not None:
            return known
        error = self._error(names, self.scores.get(score), corruption, kept)
        if kept == seeds:
            self.known.add(pair, score, corruption, error)
        return error

    def _seeds(
        self, runs: list[tuple[str, int]], names: list[str]
    ) -> list[int]:
        seeds = [{s for m, s in runs if m == name} for name in names]
        return sorted(set.intersection(*seeds))

    def _error(
        self,
        names: list[str],
        score: Score | None,
        corruption: str,
        seeds: list[int],
    ) -> float:
        if (
            not seeds
            or score is None
            or score.per_modality
            or isinstance(score.function, Recorded)
        ):
            return np.nan
        source = self._per_sample if score.per_sample else self._per_draw
        values, *others = (
            np.stack([source(m, s, score.name, corruption) for s in seeds])
            for m in names
        )
        for reference in others:
            values = values - reference
        rng = np.random.default_rng(0)
        count = len(seeds)
        if not score.per_sample:
            rows = np.stack(
                [_seed_weights(rng, count) for _ in range(FEW_DRAWS)]
            )
            return float((rows * values.T).sum(axis=1).std(ddof=1))
        samples = values.shape[1]
        rows = np.stack([_seed_weights(rng, count) for _ in range(DRAWS)])
        columns = rng.multinomial(
            samples, np.full(samples, 1 / samples), DRAWS
        ) / samples  # fmt: skip
        means = ((rows @ values) * columns).sum(axis=1)
        return float(means.std(ddof=1))

    def _read(self, method: str, seed: int) -> Kept:
        kept = self.store.kept(self._runs[method, seed].job)
        # It was there when the seeds were counted.
        assert kept is not None
        return kept

    def _conditions(self, method: str, seed: int, corruption: str) -> list[int]:
        names = self._load(method, seed).corruption
        return [i for i, name in enumerate(names) if name == corruption]

    def _means_of(
        self, method: str, seed: int, score: str, corruption: str
    ) -> Array:
        """Mean over severities of what a score is the mean of."""
        members = self.groups.get(corruption)
        if members is not None:
            return np.mean(
                [self._per_sample(method, seed, score, c) for c in members],
                axis=0,
            )
        kept, chosen = self._load(method, seed), self.scores[score]
        values = []
        for condition in self._conditions(method, seed, corruption):
            predictions = kept.predictions(condition, self.bins)
            if not all(map(predictions.has, chosen.needs)):
                return np.full(len(kept.labels), np.nan)
            values.append(chosen.of_samples(predictions))
        return np.mean(values, axis=0)

    def _drawn(
        self, method: str, seed: int, score: str, corruption: str
    ) -> Array:
        """Mean over severities of a score, for each draw of samples."""
        members = self.groups.get(corruption)
        if members is not None:
            return np.mean(
                [self._per_draw(method, seed, score, c) for c in members],
                axis=0,
            )
        kept, chosen = self._load(method, seed), self.scores[score]
        samples = len(kept.labels)
        rows = np.random.default_rng(1).integers(
            samples, size=(FEW_DRAWS, samples)
        )
        values = []
        for condition in self._conditions(method, seed, corruption):
            predictions = kept.predictions(condition, self.bins)
            columns = [chosen.columns(predictions.take(r)) for r in rows]
            values.append([c.get(score, np.nan) for c in columns])
        return np.mean(values, axis=0)


def _seed_weights(rng: np.random.Generator, count: int) -> Array:
    """Weights of drawn seeds, wide enough that few seeds do not look sure."""
    drawn = rng.multinomial(count, np.full(count, 1 / count)) / count
    if count == 1:
        return drawn
    return 1 / count + (drawn - 1 / count) * np.sqrt(count / (count - 1))
