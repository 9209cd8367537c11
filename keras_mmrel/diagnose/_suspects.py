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
# What `strangers` tries: temperatures, and shares of other samples' files.
TEMPERATURES = np.geomspace(0.1, 5.0, 60)
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.16, 0.2)


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
            best[row] = Suspect(row, modality, odds, int(said))

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
            offer(int(row), name, float(score[row]), int(said[row]))
    mean = probabilities.mean(axis=1)
    said = mean.argmax(axis=1)
    against = log[rows, :, said] - log[rows, :, y]
    second = (
        np.sort(against, axis=1)[:, -2] if modalities > 1 else against[:, 0]
    )
    logs = np.log(np.maximum(mean, 1e-9))
    score = np.minimum(second, logs[rows, said] - logs[rows, y])
    for row in np.flatnonzero(score >= least):
        offer(int(row), None, float(score[row]), int(said[row]))
    return sorted(best.values(), key=lambda s: (-s.odds, s.row))


def suspicious(
    suspects: list[Suspect],
    probabilities: Array,
    y: Array,
    names: list[str],
    rows: Array,
) -> list[Finding]:
    """Return findings where there are more than calibration explains.

    Args:
        suspects: What `find_suspects` returned, of these probabilities.
        probabilities: See `find_suspects`, `y` and `names` likewise.
        y: See `probabilities`.
        names: See `probabilities`.
        rows: Numbers of the samples in the given data.
    """
    found = []
    for place, name in enumerate(names if len(names) > 1 else []):
        share, evidence, right = strangers(probabilities, y, place)
        if (
            evidence < limit("contradiction_evidence")
            or share < limit("contradiction_share")
            or right < limit("contradiction_accuracy")
        ):
            continue
        mine = [int(rows[s.row]) for s in suspects if s.modality == name]
        found.append(
            Finding(
                "contradiction",
                "warning",
                f"'{name}' of about {100 * share:.1f} % of the samples fits "
                "neither their label nor their other modalities, beyond the "
                f"mistakes that it makes (evidence {evidence:.0f}): look for "
                "files of other samples.",
                name,
                mine[:LISTED],
                numbers={"percent": 100 * share, "evidence": evidence},
            )
        )
    mine = [int(rows[s.row]) for s in suspects if s.modality is None]
    chance = _expected_labels(probabilities, y)
    if _too_many(len(mine), chance):
        found.append(
            Finding(
                "wrong_label",
                "warning",
                f"{len(mine)} labels are contradicted by two modalities or "
                f"more, where {chance:.1f} are expected: look for wrong "
                "labels.",
                rows=mine[:LISTED],
                numbers={"samples": len(mine), "expected": chance},
            )
        )
    return found


def strangers(
    probabilities: Array, y: Array, place: int
) -> tuple[float, float, float]:
    """Say of how many samples a modality is none of theirs.

    Two accounts of what a modality says of samples whose other modalities
    side with the label: its probabilities at the best temperature; or these
    for a part of the samples, and nothing about the class for the rest, as
    if that were other samples' files.

    Args:
        probabilities: See `find_suspects`, `y` likewise.
        y: See `probabilities`.
        place: Number of the modality.

    Returns:
        The share of such files, twice the gain in log-likelihood that they
        bring, and the accuracy of the modality on these samples.
    """
    others = np.delete(probabilities, place, axis=1).mean(axis=1)
    side = others.argmax(axis=1) == y
    if not side.any():
        return 0.0, 0.0, 0.0
    logs = np.log(np.maximum(probabilities[side, place], 1e-12))
    labels = y[side]
    rows = np.arange(len(labels))
    chance = (np.bincount(y, minlength=logs.shape[1]) / len(y))[labels]
    known, best, share = -np.inf, -np.inf, 0.0
    for sharpness in TEMPERATURES:
        z = logs / sharpness
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z[rows, labels]) / np.exp(z).sum(axis=1)
        known = max(known, float(np.log(np.maximum(p, 1e-12)).sum()))
        for part in SHARES:
            gained = float(np.log((1 - part) * p + part * chance).sum())
            if gained > best:
                best, share = gained, part
    right = float((logs.argmax(axis=1) == labels).mean())
    return share, max(0.0, 2 * (best - known)), right


def _expected_labels(probabilities: Array, y: Array) -> float:
    """Labels that two modalities contradict, as all together expect it.

    All together: as if modalities were independent within a class.
    """
    odds = limit("suspect_odds")
    rows = np.arange(len(y))
    modalities = probabilities.shape[1]
    prior = np.log(np.bincount(y, minlength=probabilities.shape[2]) / len(y))
    logs = np.log(np.maximum(probabilities, 1e-9)).sum(axis=1)
    logs -= (modalities - 1) * prior
    together = np.exp(logs - logs.max(axis=1, keepdims=True))
    together /= together.sum(axis=1, keepdims=True)
    mean = probabilities.mean(axis=1)
    said = mean.argmax(axis=1)
    sides = probabilities[rows, :, said][:, :, None] >= odds * probabilities
    against = sides.sum(axis=1) >= min(2, modalities)
    against &= mean[rows, said][:, None] >= odds * mean
    return float((together * against).sum())


def _too_many(count: int, chance: float) -> bool:
    excess = limit("wrong_label_excess") * chance + 2.0 * np.sqrt(chance)
    return count >= limit("wrong_labels") and count > excess


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
