"""What a decision learns from calibration samples, on the host."""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.evaluation._ranks import covering_rank
from keras_mmrel.evaluation._ranks import fewest_for_alarm
from keras_mmrel.evaluation._ranks import fewest_for_coverage
from keras_mmrel.evaluation._ranks import rarely_exceeded
from keras_mmrel.evaluation._selective import fewest_for_risk
from keras_mmrel.evaluation._selective import selective_prediction
from keras_mmrel.evaluation.conformal_sets import ConformalSets
from keras_mmrel.evaluation.selective_rule import SelectiveRule
from keras_mmrel.evaluation.temperature_scaling import TemperatureScaling

# One calibration sample of so many is for the temperature, if those are
# enough to tell it.
SHARE, ENOUGH = 5, 20


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be promised, as in `Decision.fit`."""

    risk: float
    coverage: float
    false_alarm: float
    delta: float


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a model says of calibration samples, and what they are.

    Attributes:
        names: Names of the modalities.
        labels: `(samples,)`.
        probabilities: `(samples, classes)`, calibrated.
        left: `(samples,)`, probability of all but the most likely class.
        confidence: `(samples, modalities)`.
        excess: `(samples, modalities)`, how far each is out of the range of
            the others; NaN where that is not known.
        missing: `(samples, modalities)`.
        rules_learn: `(samples,)`, which of them rules and sets learn from.
    """

    names: Sequence[str]
    labels: Array
    probabilities: Array
    left: Array
    confidence: Array
    excess: Array
    missing: Array
    rules_learn: Array


@dataclasses.dataclass
class Limits:
    """All that decides for the samples of one group.

    Attributes:
        rule: Which predictions to accept, by minus the probability that is
            left to other classes.
        sets: Which classes are in a set.
        confidence: Modality name -> confidence below which it is suspect, or
            `None`.
        excess: Modality name -> excess above which it is out of range, or
            `None`.
        doubts: What cannot be promised, in words.
    """

    rule: SelectiveRule
    sets: ConformalSets
    confidence: dict[str, float | None]
    excess: dict[str, float | None]
    doubts: list[str]

    @property
    def left(self) -> float:
        """Below it, what is left to other classes is little enough."""
        # Beyond any probability instead of infinite: some formats have none.
        return min(max(-self.rule.threshold, -1.0), 2.0)

    @property
    def share(self) -> float:
        """From it on, the probability of a class brings it into a set."""
        assert self.sets.thresholds is not None
        return float(-self.sets.thresholds[0])

    @property
    def probability(self) -> float | None:
        """Above it, a prediction is accepted; `None` if none is."""
        return None if self.left < 0 else max(1.0 - self.left, 0.0)

    def describe(self) -> dict[str, Any]:
        """Return what `Decision.describe` says of a group."""
        rule = self.rule
        return {
            "samples": rule.samples,
            "risk": rule.risk,
            "delta": rule.delta,
            "bound": None if math.isnan(rule.bound) else rule.bound,
            "accepted": rule.coverage,
            "coverage": self.sets.coverage,
            "probability": self.probability,
            "confidence": dict(self.confidence),
            "excess": dict(self.excess),
            "doubts": list(self.doubts),
        }

    def get_config(self) -> dict[str, Any]:
        return {
            "rule": keras.saving.serialize_keras_object(self.rule),
            "sets": keras.saving.serialize_keras_object(self.sets),
            "confidence": dict(self.confidence),
            "excess": dict(self.excess),
            "doubts": list(self.doubts),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Limits":
        found = {
            key: keras.saving.deserialize_keras_object(config[key])
            for key in ("rule", "sets")
        }
        return cls(**{**config, **found})


def fit_temperature(
    logits: Array, y: Array, answered: Array, seed: int
) -> tuple[float, Array, list[str]]:
    """Fit the temperature on a part of the samples, drawn at random.

    Args:
        logits: `(samples, classes)`.
        y: `(samples,)`.
        answered: `(samples,)`, whether any modality is there.
        seed: Of the draw.

    Returns:
        The temperature; which samples are left for the rules, `(samples,)`;
        and what was told meanwhile.
    """
    rows = np.random.default_rng(seed).permutation(len(y))[: len(y) // SHARE]
    used = np.zeros(len(y), bool)
    used[rows] = True
    if (used & answered).sum() < ENOUGH:
        few = f"a temperature is fitted from {SHARE * ENOUGH} samples on"
        return 1.0, np.ones(len(y), bool), [f"{few}, so it stays 1"]
    chosen = used & answered
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scaling = TemperatureScaling().fit(logits[chosen], y[chosen])
    if caught:
        # At an end of the search probabilities would be all 0 or 1, or equal.
        return 1.0, ~used, [f"{_clause(caught[0].message)}, so it stays 1"]
    return scaling.temperature, ~used, []


def fit_limits(evidence: Evidence, members: Array, wanted: Wanted) -> Limits:
    """Learn the limits for one group, from its own samples.

    Args:
        evidence: All calibration samples.
        members: `(samples,)`, which of them are of the group.
        wanted: What to promise.
    """
    answered = ~evidence.missing.all(axis=1)
    learn = np.flatnonzero(members & answered & evidence.rules_learn)
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rule = _fit_rule(evidence, learn, wanted, doubts)
        sets = _fit_sets(evidence, learn, wanted, doubts)
    doubts += [_clause(w.message) for w in caught]
    confidence: dict[str, float | None] = {}
    excess: dict[str, float | None] = {}
    unlimited = []
    for index, name in enumerate(evidence.names):
        there = members & ~evidence.missing[:, index]
        # Low confidence is what is unusual.
        limit = rarely_exceeded(
            -evidence.confidence[there, index], wanted.false_alarm
        )
        confidence[name] = None if limit is None else -limit
        found = evidence.excess[there, index]
        excess[name] = None
        if not np.isnan(found).any():
            excess[name] = rarely_exceeded(found, wanted.false_alarm)
        if limit is None:
            unlimited.append(f"'{name}' ({there.sum()})")
    if unlimited:
        doubts.append(
            f"a false-alarm rate of {wanted.false_alarm:g} takes "
            f"{fewest_for_alarm(wanted.false_alarm)} samples of a modality, so "
            f"{', '.join(unlimited)} is never suspect or out of range"
        )
    return Limits(rule, sets, confidence, excess, doubts)


def _fit_rule(
    evidence: Evidence, rows: Array, wanted: Wanted, doubts: list[str]
) -> SelectiveRule:
    fewest = fewest_for_risk(wanted.risk, wanted.delta)
    if len(rows) >= fewest:
        return selective_prediction(
            evidence.probabilities[rows],
            evidence.labels[rows],
            wanted.risk,
            wanted.delta,
            -evidence.left[rows].astype("float64"),
        )
    doubts.append(
        f"a risk of {wanted.risk:g} takes {fewest} samples, so with "
        f"{len(rows)} nothing is accepted"
    )
    return SelectiveRule(
        threshold=math.inf,
        coverage=0.0,
        empirical_risk=math.nan,
        bound=math.nan,
        risk=wanted.risk,
        delta=wanted.delta,
        samples=max(len(rows), 1),
        own_confidence=True,
    )


def _fit_sets(
    evidence: Evidence, rows: Array, wanted: Wanted, doubts: list[str]
) -> ConformalSets:
    sets = ConformalSets(wanted.coverage, "threshold")
    if covering_rank(len(rows), wanted.coverage) <= len(rows):
        return sets.fit(evidence.probabilities[rows], evidence.labels[rows])
    doubts.append(
        f"a coverage of {wanted.coverage:g} takes "
        f"{fewest_for_coverage(wanted.coverage)} samples, so with {len(rows)} "
        "a set holds every class"
    )
    classes = evidence.probabilities.shape[1]
    # Beyond the score of any class.
    return ConformalSets(
        wanted.coverage, "threshold", thresholds=[classes + 1.0] * classes
    )


def _clause(message: Warning | str) -> str:
    """A warning's sentence as a part of a longer one."""
    text = str(message).rstrip(".")
    return text[:1].lower() + text[1:]
