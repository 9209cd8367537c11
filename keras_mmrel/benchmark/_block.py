"""What the tables of one data set and regime are made of."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._bootstrap import TestSampling
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._sampling import SamplingErrors
from keras_mmrel.benchmark._store import PUBLISHED
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.optional import require

CLEAN = "clean"
# Inside the range of the data or not -> the mean over all such corruptions.
MEANS = {True: "mean, inside", False: "mean, outside"}
KEYS = ("corruption", "severity", "seed", "samples", "invalid", "in_range")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A mean over units, its errors, and how many runs are broken."""

    mean: float
    error: float
    sampling: float
    units: int
    broken: int = 0


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference of means; `p` is adjusted by whoever shows it."""

    mean: float
    error: float
    sampling: float
    p: float


class Block:
    """The runs of one data set in one regime.

    Args:
        store: Folder of the comparison.
        comparison: What the folder says of it.
        runs: The runs of the block.
        errors: Errors over test samples that the folder has.
    """

    def __init__(
        self,
        store: Store,
        comparison: Comparison,
        runs: Sequence[Run],
        errors: SamplingErrors,
    ) -> None:
        self.runs = runs
        self.dataset, self.regime = runs[0].job.dataset, runs[0].job.regime
        known = {run.method for run in runs}
        self.methods = [m for m in comparison.methods if m in known]
        self.has_folds = any(run.job.fold is not None for run in runs)
        self.is_published = runs[0].split == PUBLISHED
        self.one_split = self.is_published and not self.has_folds
        self.ratio = 0.0
        if not self.one_split:
            test = np.mean([run.scores["samples"][0] for run in runs])
            training = np.mean([run.training_samples for run in runs])
            self.ratio = float(test / training)
        self.groups = {
            MEANS[inside]: [c for c, i in self.in_range.items() if i == inside]
            for inside in MEANS
        }
        self._sampling = None
        if self.one_split:
            self._sampling = TestSampling(
                store, runs, comparison.evaluation, self.groups, errors
            )
        table = condition_scores(runs, self.groups)
        self._values = {
            key: group.set_index("run")
            for key, group in table.groupby(["method", "score", "corruption"])
        }
        self.cell = functools.cache(self._cell)

    @property
    def in_range(self) -> dict[str, bool]:
        """Corruption -> whether it stays inside the range of the data."""
        found: dict[str, bool] = {}
        for run in self.runs:
            for name, inside in zip(
                run.scores["corruption"], run.scores["in_range"], strict=True
            ):
                if name != CLEAN:
                    found[name] = found.get(name, True) and bool(inside)
        return found

    def _frame(self, method: str, score: str, corruption: str) -> Frame | None:
        return self._values.get((method, score, corruption))

    def _units(self, frame: Frame) -> Array:
        """One value a unit: a fold, the mean over its seeds, or a run."""
        if not self.has_folds:
            return frame["value"].to_numpy()
        folds = frame.groupby("fold")["value"]
        return folds.agg(lambda v: v.mean(skipna=False)).to_numpy()

    def _cell(self, method: str, score: str, corruption: str = CLEAN) -> Cell:
        frame = self._frame(method, score, corruption)
        if frame is None:
            return Cell(math.nan, math.nan, math.nan, 0)
        values = self._units(frame)
        broken = int((frame["invalid"] > 0).sum())
        sampling = math.nan
        if self._sampling is not None and not broken:
            sampling = self._sampling.error(method, score, corruption)
        return Cell(
            float(values.mean()),
            _statistics.standard_error(values, self.ratio),
            sampling,
            len(frame) if broken else len(values),
            broken,
        )

    def difference(
        self, method: str, baseline: str, score: str, corruption: str = CLEAN
    ) -> Difference:
        """On the runs that both have; a NaN of a run stays in."""
        none = Difference(*(math.nan,) * 4)
        a = self._frame(method, score, corruption)
        b = self._frame(baseline, score, corruption)
        if a is None or b is None:
            return none
        both = [run for run in a.index if run in set(b.index)]
        if not both:
            return none
        left, right = self._units(a.loc[both]), self._units(b.loc[both])
        sampling = math.nan
        if self._sampling is not None and np.isfinite([*left, *right]).all():
            sampling = self._sampling.error(method, score, corruption, baseline)
        mean, error, p = _statistics.paired_difference(
            left, right, self.ratio, sampling
        )
        if self._sampling is not None and math.isnan(sampling):
            # The error over seeds alone is no test of a fixed test part.
            p = math.nan
        return Difference(mean, error, sampling, p)

    def differences(
        self, others: list[str], baseline: str, score: str, corruption: str
    ) -> dict[str, Difference]:
        """Differences of a column, p-values adjusted for their number."""
        found = {
            m: self.difference(m, baseline, score, corruption) for m in others
        }
        adjusted = _statistics.holm([d.p for d in found.values()])
        return {
            method: dataclasses.replace(difference, p=p)
            for (method, difference), p in zip(
                found.items(), adjusted, strict=True
            )
        }

    def has(self, score: str, corruption: str = CLEAN) -> bool:
        """Whether any method has a value, or is broken, there."""
        cells = [self.cell(m, score, corruption) for m in self.methods]
        return any(math.isfinite(c.mean) or c.broken for c in cells)

    def by_unit(self, runs: Sequence[Run], values: list[float]) -> Array:
        """One value a unit, of one value a run."""
        if not self.has_folds:
            return np.asarray(values)
        folds = [run.job.fold for run in runs]
        return np.array(
            [
                np.mean(
                    [v for v, f in zip(values, folds, strict=True) if f == k]
                )
                for k in dict.fromkeys(folds)
            ]
        )

    def runs_of(self, method: str) -> list[Run]:
        return [run for run in self.runs if run.method == method]


def condition_scores(
    runs: Sequence[Run], groups: dict[str, list[str]]
) -> Frame:
    """Tidy scores: a row for each run, score and corruption.

    A value is the mean over the severities and draws of a corruption. One
    NaN makes it NaN.

    Args:
        runs: The runs.
        groups: Name of a further row -> the corruptions that it is the mean
            of, each of the same weight.
    """
    pandas = require("pandas", "keras_mmrel.benchmark")
    rows = []
    for run in runs:
        scores = pandas.DataFrame(dict(run.scores))
        names = [name for name in scores.columns if name not in KEYS]
        key = {"method": run.method, "fold": run.job.fold, "run": run.unit}
        for corruption, group in scores.groupby("corruption", sort=False):
            key["corruption"] = corruption
            key["invalid"] = group["invalid"].sum()
            rows += [
                {**key, "score": name, "value": _mean(group[name])}
                for name in names
            ]
    table = pandas.DataFrame(rows)
    means = [table]
    for name, members in groups.items():
        part = table[table["corruption"].isin(members)]
        keys = ["method", "fold", "run", "score"]
        grouped = part.groupby(keys, sort=False, dropna=False)
        mean = grouped.agg(
            invalid=("invalid", "sum"),
            value=("value", lambda v: v.mean(skipna=False)),
        )
        means.append(mean.reset_index().assign(corruption=name))
    return pandas.concat(means, ignore_index=True)


def _mean(values: Frame) -> float:
    array: Array = values.astype("float64").to_numpy()
    return float(array.mean())
