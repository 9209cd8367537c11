"""Which method, and which learning rate, by the folds alone."""

import dataclasses
from collections.abc import Sequence

from keras_mmrel.benchmark import Method
from keras_mmrel.diagnose._experiment import FOLDS
from keras_mmrel.diagnose._experiment import Experiment
from keras_mmrel.diagnose._measures import Choice
from keras_mmrel.diagnose._measures import choose
from keras_mmrel.diagnose._rows import CLEAN
from keras_mmrel.diagnose._rows import DEFAULT
from keras_mmrel.diagnose._rows import LATE
from keras_mmrel.diagnose._rows import candidate

# Times the usual learning rate that are tried for what is recommended.
RATES = (1 / 3, 3.0)


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What is recommended for clean and for corrupted inputs.

    Args:
        clean: The choice by accuracy on clean samples.
        corrupted: The choice by the mean accuracy over all corruptions.
        rate_choice: How the learning rate of `clean` was chosen.
        rate: That learning rate.
    """

    clean: Choice
    corrupted: Choice
    rate_choice: Choice
    rate: float

    @property
    def finals(self) -> dict[str, tuple[str, float | None]]:
        """Row -> method and own learning rate, of what the test part scores."""
        row, method = self.rate_choice.method, self.clean.method
        found: dict[str, tuple[str, float | None]] = {
            row: (method, None if row == method else self.rate)
        }
        found.setdefault(self.corrupted.method, (self.corrupted.method, None))
        return found


def conditions(experiment: Experiment) -> list[str]:
    """Return the names of all corruptions."""
    for runs in experiment.store.runs():
        names = runs.scores["corruption"]
        return [n for n in dict.fromkeys(names) if n != CLEAN]
    return []


def winners(
    experiment: Experiment, candidates: Sequence[str]
) -> tuple[Choice, Choice]:
    """Return the choices for clean and for corrupted inputs."""
    corrupted = conditions(experiment)
    clean = {m: experiment.values(m) for m in candidates}
    mean = {m: experiment.values(m, conditions=corrupted) for m in candidates}
    ratio = experiment.ratio
    simple = choose(candidates, clean, ratio)
    chosen = choose(candidates, clean, ratio, DEFAULT)
    # Where none beats late fusion, late fusion is enough.
    return (
        simple if simple.method == LATE else chosen,
        choose(candidates, mean, ratio, DEFAULT),
    )


def settings_rows(experiment: Experiment, method: str) -> dict[str, Method]:
    """Return rows of the same method with other learning rates."""
    return {
        _row(method, rate): candidate(method, rate)
        for rate in _rates(experiment)
    }


def recommend(
    experiment: Experiment, clean: Choice, corrupted: Choice
) -> Recommendation:
    """Choose a learning rate: the usual one, unless another is ahead."""
    usual = experiment.plan.learning_rate
    rows = {clean.method: usual} | {
        _row(clean.method, rate): rate for rate in _rates(experiment)
    }
    values = {row: experiment.values(row) for row in rows}
    known = [row for row in rows if experiment.runs(FOLDS, row)]
    rate = choose(known, values, experiment.ratio)
    return Recommendation(clean, corrupted, rate, rows[rate.method])


def _rates(experiment: Experiment) -> list[float]:
    usual = experiment.plan.learning_rate
    return [float(f"{usual * factor:.2g}") for factor in RATES]


def _row(method: str, rate: float) -> str:
    return f"{method}, rate {rate:g}"
