"""Which method, and which learning rate, by the folds alone."""

import dataclasses
from collections.abc import Iterable
from collections.abc import Sequence

from keras_mmrel.benchmark import Method
from keras_mmrel.diagnose._experiment import FOLDS
from keras_mmrel.diagnose._experiment import Experiment
from keras_mmrel.diagnose._measures import Choice
from keras_mmrel.diagnose._measures import choose
from keras_mmrel.diagnose._rows import CLEAN
from keras_mmrel.diagnose._rows import candidate

# Times the usual learning rate that are tried for what is recommended.
RATES = (1 / 3, 3.0)


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """What is recommended for clean and for corrupted inputs.

    Args:
        clean: The choice by accuracy on clean samples.
        corrupted: The choice by the mean accuracy over all corruptions.
        rates: Method -> the learning rate that was chosen for it.
        rate_choices: Method -> how it was chosen.
    """

    clean: Choice
    corrupted: Choice
    rates: dict[str, float]
    rate_choices: dict[str, Choice]

    @property
    def finals(self) -> list[tuple[str, str, float | None]]:
        """Row, method and learning rate of what the test part scores."""
        found = {}
        for choice in (self.clean, self.corrupted):
            row = self.rate_choices[choice.method].method
            rate = self.rates[choice.method]
            own = None if row == choice.method else rate
            found[row] = (row, choice.method, own)
        return list(found.values())


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
    return choose(candidates, clean, ratio), choose(candidates, mean, ratio)


def settings_rows(
    experiment: Experiment, methods: Iterable[str]
) -> dict[str, Method]:
    """Return rows of the same methods with other learning rates."""
    return {
        _row(name, rate): candidate(name, rate)
        for name in sorted(methods)
        for rate in _rates(experiment)
    }


def recommend(
    experiment: Experiment, clean: Choice, corrupted: Choice
) -> Recommendation:
    """Choose a learning rate: the usual one, unless another is ahead."""
    rates, choices = {}, {}
    for question, names in (
        (clean, (CLEAN,)),
        (corrupted, tuple(conditions(experiment))),
    ):
        method = question.method
        if method in rates:
            continue
        rows = {method: experiment.plan.learning_rate} | {
            _row(method, rate): rate for rate in _rates(experiment)
        }
        values = {row: experiment.values(row, conditions=names) for row in rows}
        known = [row for row in rows if experiment.runs(FOLDS, row)]
        choices[method] = choose(known, values, experiment.ratio)
        rates[method] = rows[choices[method].method]
    return Recommendation(clean, corrupted, rates, choices)


def _rates(experiment: Experiment) -> list[float]:
    usual = experiment.plan.learning_rate
    return [float(f"{usual * factor:.2g}") for factor in RATES]


def _row(method: str, rate: float) -> str:
    return f"{method}, rate {rate:g}"
