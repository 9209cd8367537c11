"""Samples of which a modality, or the label, contradicts the rest."""

import dataclasses
import warnings
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.diagnose._experiment import FOLDS
from keras_mmrel.diagnose._experiment import TEST
from keras_mmrel.diagnose._experiment import Experiment
from keras_mmrel.diagnose._limits import limit
from keras_mmrel.diagnose._rows import alone
from keras_mmrel.diagnose.finding import Finding
from keras_mmrel.evaluation import TemperatureScaling

# Samples that are listed.
LISTED = 20


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A sample that somebody should look at.

    Args:
        row: Number in the prepared data.
        modality: The one that contradicts the label and the others; `None`
            where these contradict the label.
        odds: By how much, the weaker of both sides.
        said: Number of the class that is said instead of the label.
    """

    row: int
    modality: str | None
    odds: float
    said: int


def unimodal_probabilities(experiment: Experiment) -> Array:
    """Return what each modality alone says of samples it has not seen.

    Each fold, and the test part, is calibrated by a temperature of the other
    folds. What is missing says nothing: all classes are as likely as in all.

    Returns:
        `(samples, modalities, classes)`.
    """
    data, splits = experiment.data, experiment.splits
    prior = np.bincount(data.y) / len(data.y)
    found = np.tile(prior, (len(data.y), len(data.modalities), 1))
    for place, name in enumerate(data.modalities):
        there = data.present[:, place]
        row = alone(name)
        logs = experiment.log_probabilities(row, FOLDS)
        for fold in range(experiment.plan.folds):
            known, held_out = splits.of_fold(fold)
            _calibrate(logs, logs, known, held_out, there, data.y, found, place)
        test = experiment.log_probabilities(row, TEST)
        _calibrate(
            logs, test, splits.development, splits.test, there, data.y, found,
            place,
        )  # fmt: skip
    return found


def _calibrate(
    source: Array,
    target: Array,
    known: Array,
    held_out: Array,
    there: Array,
    y: Array,
    found: Array,
    place: int,
) -> None:
    """Put calibrated probabilities of held-out samples where they belong."""
    known = known[there[known] & np.isfinite(source[known]).all(axis=1)]
    held_out = held_out[
        there[held_out] & np.isfinite(target[held_out]).all(axis=1)
    ]
    if not len(known) or not len(held_out):
        return
    scaling = temperature(source[known], y[known])
    found[held_out, place] = scaling.calibrate(target[held_out])


def temperature(logs: Array, y: Array) -> TemperatureScaling:
    """Fit a temperature to log-probabilities, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TemperatureScaling().fit(logs, y)


def find_suspects(
    probabilities: Array, y: Array, names: list[str]
) -> list[Suspect]:
    """Return samples that are contradicted, the worst first.

    A modality is suspect where it gives another class `suspect_odds` over the
    label while the others give the label the same odds over that class. A
    label is suspect where two modalities or more, and the mean of all, give
    one other class these odds over it.

    Args:
        probabilities: `(samples, modalities, classes)` of unimodal models
            that have not seen the samples.
        y: Class numbers.
        names: Names of the modalities.
    """
    rows = np.arange(len(y))
    log = np.log(np.maximum(probabilities, 1e-9))
    best: dict[int, Suspect] = {}

    def offer(row: int, modality: str | None, score: float, said: int) -> None:
        if row not in best or np.log(best[row].odds) < score:
            odds = float(np.exp(min(score, 14.0)))
            best[row] = Suspect(int(row), modality, odds, int(said))

    least = np.log(limit("suspect_odds"))
    modalities = len(names)
    for place, name in enumerate(names if modalities > 1 else []):
        others = np.delete(probabilities, place, axis=1).mean(axis=1)
        others = np.log(np.maximum(others, 1e-9))
        said = log[:, place].argmax(axis=1)
        against = log[rows, place, said] - log[rows, place, y]
        support = others[rows, y] - others[rows, said]
        score = np.minimum(against, support)
        for row in np.flatnonzero(score >= least):
            offer(row, name, float(score[row]), int(said[row]))
    mean = probabilities.mean(axis=1)
    said = mean.argmax(axis=1)
    against = log[rows, :, said] - log[rows, :, y]
    second = (
        np.sort(against, axis=1)[:, -2] if modalities > 1 else against[:, 0]
    )
    logs = np.log(np.maximum(mean, 1e-9))
    score = np.minimum(second, logs[rows, said] - logs[rows, y])
    for row in np.flatnonzero(score >= least):
        offer(row, None, float(score[row]), int(said[row]))
    return sorted(best.values(), key=lambda s: (-s.odds, s.row))


def expected(probabilities: Array, place: int) -> float:
    """Contradictions of a modality that calibrated predictions let expect.

    Of a sample whose other modalities agree on a class, a modality that is
    calibrated says another one, with these odds, as often as its own
    probability of that class adds up to.
    """
    least = limit("suspect_odds")
    own = probabilities[:, place]
    others = np.delete(probabilities, place, axis=1).mean(axis=1)
    said = own.argmax(axis=1)
    rows = np.arange(len(own))
    against = own[rows, said][:, None] >= least * own
    support = others >= least * others[rows, said][:, None]
    return float((own * (against & support)).sum())


def expected_labels(probabilities: Array) -> float:
    """Labels that two modalities contradict, as calibration lets expect."""
    least = limit("suspect_odds")
    rows = np.arange(len(probabilities))
    mean = probabilities.mean(axis=1)
    said = mean.argmax(axis=1)
    against = (
        probabilities[rows, :, said][:, :, None] >= least * probabilities
    ).sum(axis=1) >= min(2, probabilities.shape[1])
    against &= mean[rows, said][:, None] >= least * mean
    return float((mean * against).sum())


def suspicious(
    suspects: list[Suspect], probabilities: Array, names: list[str], rows: Array
) -> list[Finding]:
    """Return findings where there are more than calibration explains."""
    found = []
    for place, name in enumerate(names):
        mine = [s for s in suspects if s.modality == name]
        chance = expected(probabilities, place) if len(names) > 1 else 0.0
        if _too_many(len(mine), chance):
            found.append(
                Finding(
                    "contradiction",
                    "warning",
                    f"'{name}' of {len(mine)} samples contradicts their label "
                    f"and their other modalities, where {chance:.1f} are "
                    "expected: look for files of other samples.",
                    name,
                    [int(rows[s.row]) for s in mine[:LISTED]],
                    numbers={"samples": len(mine), "expected": chance},
                )
            )
    mine = [s for s in suspects if s.modality is None]
    chance = expected_labels(probabilities)
    if _too_many(len(mine), chance):
        found.append(
            Finding(
                "wrong_label",
                "warning",
                f"{len(mine)} labels are contradicted by two modalities or "
                f"more, where {chance:.1f} are expected: look for wrong "
                "labels.",
                rows=[int(rows[s.row]) for s in mine[:LISTED]],
                numbers={"samples": len(mine), "expected": chance},
            )
        )
    return found


def _too_many(count: int, chance: float) -> bool:
    excess = limit("suspect_excess")
    return count >= max(3.0, excess * chance + 3.0 * np.sqrt(chance))


def describe(
    suspect: Suspect,
    probabilities: Array,
    label: int,
    names: list[str],
    classes: list[str],
) -> dict[str, Any]:
    """Return a sentence and its numbers, without the row's name."""
    here = probabilities[suspect.row]
    said, given = classes[suspect.said], classes[label]
    odds = min(suspect.odds, 1e4)
    if suspect.modality is None:
        voices = [
            n
            for place, n in enumerate(names)
            if here[place, suspect.said] > here[place, label]
        ]
        reason = (
            f"{_and(voices)} say class {said}, the label is {given} "
            f"(odds {odds:,.0f} to 1): a wrong label?"
        )
    else:
        others = [n for n in names if n != suspect.modality]
        reason = (
            f"'{suspect.modality}' says class {said}, the label {given} and "
            f"{_and(others)} agree on {given} (odds {odds:,.0f} to 1): a file "
            "of another sample?"
        )
    return {
        "modality": suspect.modality,
        "odds": float(f"{odds:.4g}"),
        "label": given,
        "said": said,
        "reason": reason,
    }


def _and(names: list[str]) -> str:
    quoted = [f"'{n}'" for n in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return ", ".join(quoted[:-1]) + f" and {quoted[-1]}"
