"""The trainings of a diagnosis, by the engine, in a folder that resumes."""

import functools
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import Dataset
from keras_mmrel.benchmark import Method
from keras_mmrel.benchmark import Training
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._samples import Part
from keras_mmrel.benchmark._store import Store
from keras_mmrel.contract import Array
from keras_mmrel.diagnose._plan import Plan
from keras_mmrel.diagnose._prepare import Prepared
from keras_mmrel.diagnose._rows import CLEAN
from keras_mmrel.diagnose._rows import make_evaluation
from keras_mmrel.diagnose._splits import Splits

FOLDS, TEST = "folds", "test"


class Experiment:
    """Runs on the folds, and on the test part, in one folder.

    Args:
        data: The data.
        splits: Their parts.
        plan: How much is trained.
        folder: Folder of the runs.
        verbose: 0 for no progress bar.
    """

    def __init__(
        self,
        data: Prepared,
        splits: Splits,
        plan: Plan,
        folder: Path,
        verbose: int,
    ) -> None:
        self.data = data
        self.splits = splits
        self.plan = plan
        self.store = Store(folder)
        self.verbose = verbose
        self.datasets = {
            FOLDS: Dataset(self._fold, folds=list(range(plan.folds))),
            TEST: Dataset(self._test, split="published"),
        }

    def train(
        self,
        dataset: str,
        methods: Mapping[str, Method],
        seeds: Sequence[int] = (0,),
    ) -> None:
        """Train and score rows that the folder does not hold yet."""
        plan = self.plan
        comparison = Comparison(
            {dataset: self.datasets[dataset]},
            methods,
            seeds=list(seeds),
            training=Training(
                epochs=plan.epochs,
                batch_size=plan.batch_size,
                learning_rate=plan.learning_rate,
            ),
            evaluation=make_evaluation(self.data.x),
            title="Diagnosis",
        )
        with warnings.catch_warnings():
            # What the data lack is a finding, and said there.
            warnings.simplefilter("ignore", UserWarning)
            comparison.run(self.store.folder, verbose=self.verbose)
        self.__dict__.pop("_known", None)

    @functools.cached_property
    def _known(self) -> dict[tuple[str, str], list[Run]]:
        known: dict[tuple[str, str], list[Run]] = {}
        for run in self.store.runs():
            known.setdefault((run.job.dataset, run.method), []).append(run)
        for runs in known.values():
            runs.sort(key=lambda run: (run.job.fold or 0, run.job.seed))
        return known

    def runs(self, dataset: str, method: str) -> list[Run]:
        """Return the runs of a row, in the order of folds and seeds."""
        return self._known.get((dataset, method), [])

    def values(
        self,
        method: str,
        score: str = "accuracy",
        conditions: Sequence[str] = (CLEAN,),
    ) -> Array:
        """Return a score on each fold, the mean over some conditions."""
        return np.array(
            [
                _mean(run.scores, score, conditions)
                for run in self.runs(FOLDS, method)
            ]
        )

    def probed(self, method: str, key: str) -> Array:
        """Return what a probe found on each fold."""
        found = [run.probes.get(key) for run in self.runs(FOLDS, method)]
        return np.array([np.nan if v is None else v for v in found], float)

    @property
    def ratio(self) -> float:
        """Samples of a fold's test part over those of its training part."""
        return 1.0 / (self.plan.folds - 1)

    def block(self, methods: Sequence[str]) -> Block:
        """Return the engine's own statistics of the test part."""
        comparison = self.store.comparison()
        assert comparison is not None
        runs = [run for m in methods for run in self.runs(TEST, m)]
        return Block(self.store, comparison, runs, self.store.sampling_errors())

    def log_probabilities(self, method: str, dataset: str = "") -> Array:
        """Return what a row said of each sample that it was not trained on.

        Args:
            method: Name of the row.
            dataset: `"folds"` or `"test"`, or both.

        Returns:
            `(samples, classes)`, NaN where nothing is known.
        """
        shape = (len(self.data.y), len(self.data.classes))
        found = np.full(shape, np.nan)
        for name in (FOLDS, TEST):
            if dataset in ("", name):
                # One seed of each: the first.
                for run in reversed(self.runs(name, method)):
                    kept = self.store.kept(run.job)
                    if kept is not None:
                        rows = self._rows(run)[1]
                        logs = kept.arrays["log_probabilities"][0]
                        found[rows] = logs
        return found

    def _rows(self, run: Run) -> tuple[Array, Array]:
        if run.job.dataset == TEST:
            return self.splits.development, self.splits.test
        return self.splits.of_fold(run.job.fold)

    def _fold(self, fold: Any) -> tuple[Part, Part]:
        training, test = self.splits.of_fold(fold)
        return self._part(training), self._part(test)

    def _test(self) -> tuple[Part, Part]:
        return (
            self._part(self.splits.development),
            self._part(self.splits.test),
        )

    def _part(self, rows: Array) -> Part:
        x = {name: values[rows] for name, values in self.data.x.items()}
        return x, self.data.y[rows]


def _mean(
    scores: Mapping[str, list], score: str, conditions: Sequence[str]
) -> float:
    wanted = set(conditions)
    found = [
        np.nan if value is None else value
        for name, value in zip(scores["corruption"], scores[score], strict=True)
        if name in wanted
    ]
    return float(np.mean(found)) if found else float("nan")
