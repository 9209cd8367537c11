"""All that a diagnosis has found, as JSON takes it."""

from typing import Any

import numpy as np

from keras_mmrel.diagnose._calibration import calibration
from keras_mmrel.diagnose._experiment import FOLDS
from keras_mmrel.diagnose._experiment import Experiment
from keras_mmrel.diagnose._limits import LIMITS
from keras_mmrel.diagnose._limits import limit
from keras_mmrel.diagnose._measures import Choice
from keras_mmrel.diagnose._measures import difference
from keras_mmrel.diagnose._measures import measure
from keras_mmrel.diagnose._measures import plain
from keras_mmrel.diagnose._recommend import Recommendation
from keras_mmrel.diagnose._recommend import conditions
from keras_mmrel.diagnose._redundancy import predicted_variance
from keras_mmrel.diagnose._rows import BALANCED
from keras_mmrel.diagnose._rows import CLEAN
from keras_mmrel.diagnose._rows import CONCAT
from keras_mmrel.diagnose._rows import LATE
from keras_mmrel.diagnose._rows import alone
from keras_mmrel.diagnose._rows import without
from keras_mmrel.diagnose._sentences import sentences
from keras_mmrel.diagnose._suspects import LISTED
from keras_mmrel.diagnose._suspects import describe
from keras_mmrel.diagnose._suspects import find_suspects
from keras_mmrel.diagnose._suspects import suspicious
from keras_mmrel.diagnose._suspects import unimodal_probabilities
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose.finding import Finding

VERSION = 1


def make_record(
    table: Table,
    experiment: Experiment,
    found: Recommendation,
    candidates: list[str],
) -> tuple[dict[str, Any], list[Finding]]:
    """Return all sections, and findings that took trained models."""
    suspects, findings = _suspects(table, experiment)
    joint = CONCAT if CONCAT in candidates else LATE
    record = {
        "version": VERSION,
        "data": _data(table, experiment),
        "plan": _plan(experiment),
        "accuracy": _accuracy(experiment, candidates),
        "contributions": _contributions(experiment, found.clean.method),
        "balance": _balance(experiment) if joint == CONCAT else {},
        "redundancy": _redundancy(experiment, joint),
        "corruptions": _corruptions(experiment, candidates),
        "calibration": [
            calibration(experiment, m)
            for m in dict.fromkeys([LATE, joint, found.clean.method])
        ],
        "suspects": suspects,
        "candidates": _candidates(experiment, candidates),
        "recommendation": _recommendation(experiment, found),
        "test": _test(experiment, found),
        "limits": {n: v._asdict() for n, v in LIMITS.items()},
    }
    findings += _useless(record)
    record["summary"] = sentences(record, findings)
    return record, findings


def _data(table: Table, experiment: Experiment) -> dict[str, Any]:
    data = experiment.data
    counts = np.bincount(data.y, minlength=len(data.classes))
    return {
        "name": table.name,
        "samples": table.samples,
        "used": len(data.y),
        "classes": [
            {"name": name, "samples": int(count)}
            for name, count in zip(data.classes, counts, strict=True)
        ],
        "chance": plain(float(counts.max() / counts.sum())),
        "modalities": [
            {
                "name": name,
                "shape": list(data.x[name].shape[1:]),
                "present": plain(float(data.present[:, place].mean())),
            }
            for place, name in enumerate(data.modalities)
        ],
    }


def _plan(experiment: Experiment) -> dict[str, Any]:
    plan, splits = experiment.plan, experiment.splits
    return {
        "folds": plan.folds,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
        "development": len(splits.development),
        "test": len(splits.test),
        "test_is_published": splits.published,
        "text": plan.text,
    }


def _accuracy(experiment: Experiment, candidates: list[str]) -> dict[str, Any]:
    names = experiment.data.modalities
    rows = [alone(n) for n in names] + candidates
    return {
        row: measure(experiment.values(row), experiment.ratio).to_dict()
        for row in rows
    }


def _contributions(experiment: Experiment, method: str) -> dict[str, Any]:
    ratio = experiment.ratio
    return {
        "method": method,
        "none": measure(experiment.probed(method, "contributions/none"), ratio)
        .to_dict(),
        "modalities": {
            name: {
                key: measure(
                    experiment.probed(method, f"contributions/{key}/{name}"),
                    ratio,
                ).to_dict()
                for key in ("shapley", "leave_one_out", "alone")
            }
            for name in experiment.data.modalities
        },
    }  # fmt: skip


def _balance(experiment: Experiment) -> dict[str, Any]:
    """How good an encoder is alone, and inside a joint training."""
    ratio, found = experiment.ratio, {}
    for name in experiment.data.modalities:
        key = f"linear_probe/{name}"
        by_itself = experiment.probed(alone(name), key)
        inside = experiment.probed(CONCAT, key)
        behind = difference(by_itself, inside, ratio)
        found[name] = {
            "alone": measure(by_itself, ratio).to_dict(),
            "inside": measure(inside, ratio).to_dict(),
            "own_logits": measure(
                experiment.probed(CONCAT, f"modality_accuracy/{name}"), ratio
            ).to_dict(),
            "balanced": measure(
                experiment.probed(BALANCED, key), ratio
            ).to_dict(),
            "behind": behind.to_dict(),
            "under_trained": bool(
                behind.mean > max(behind.error, limit("under_trained"))
            ),
        }
    return found


def _redundancy(experiment: Experiment, joint: str) -> dict[str, Any]:
    names, ratio = experiment.data.modalities, experiment.ratio
    every = experiment.values(joint)
    left = {}
    for name in names:
        row = without(name)
        if len(names) == 2:
            row = alone(next(n for n in names if n != name))
        values = experiment.values(row)
        if len(values):
            lost = difference(every, values, ratio)
            left[name] = {
                "row": row,
                "accuracy": measure(values, ratio).to_dict(),
                "lost": lost.to_dict(),
                "redundant": bool(lost.mean <= limit("ahead") * lost.error),
            }
    explained = predicted_variance(experiment.data, experiment.splits)
    return {
        "joint": joint,
        "without": left,
        "predicted_variance": {
            pair: plain(share) for pair, share in explained.items()
        },
    }


def _corruptions(
    experiment: Experiment, candidates: list[str]
) -> dict[str, Any]:
    ratio = experiment.ratio
    return {
        condition: {
            row: measure(
                experiment.values(row, conditions=[condition]), ratio
            ).to_dict()
            for row in candidates
        }
        for condition in [CLEAN, *conditions(experiment)]
    }


def _candidates(
    experiment: Experiment, candidates: list[str]
) -> dict[str, Any]:
    """Accuracy clean and corrupted, and the difference to late fusion."""
    ratio, every = experiment.ratio, conditions(experiment)
    clean = {m: experiment.values(m) for m in candidates}
    mean = {m: experiment.values(m, conditions=every) for m in candidates}
    found = {}
    for name in candidates:
        runs = experiment.runs(FOLDS, name)
        found[name] = {
            "clean": measure(clean[name], ratio).to_dict(),
            "corrupted": measure(mean[name], ratio).to_dict(),
            "clean_ahead": difference(
                clean[name], clean[LATE], ratio
            ).to_dict(),
            "corrupted_ahead": difference(
                mean[name], mean[LATE], ratio
            ).to_dict(),
            "parameters": runs[0].parameters if runs else None,
        }
    return found


def _recommendation(
    experiment: Experiment, found: Recommendation
) -> dict[str, Any]:
    ratio = experiment.ratio

    def of(choice: Choice, names: list[str]) -> dict[str, Any]:
        own = experiment.values(choice.method, conditions=names)
        late = experiment.values(LATE, conditions=names)
        return {
            "method": choice.method,
            "best": choice.best,
            "best_ahead": choice.behind.to_dict(),
            "accuracy": measure(own, ratio).to_dict(),
            "ahead_of_late_fusion": difference(own, late, ratio).to_dict(),
            "learning_rate": experiment.plan.learning_rate,
            "row": choice.method,
        }

    return {
        "clean": {
            **of(found.clean, [CLEAN]),
            "learning_rate": found.rate,
            "row": found.rate_choice.method,
        },
        "corrupted": of(found.corrupted, conditions(experiment)),
    }


def _test(experiment: Experiment, found: Recommendation) -> dict[str, Any]:
    """What is recommended on the test part, which has chosen nothing."""
    rows = list(dict.fromkeys([LATE, *found.finals]))
    block = experiment.block(rows)
    shown = {}
    for row in rows:
        cell = block.cell(row, "accuracy")
        entry = {
            "accuracy": plain(cell.mean),
            "error_over_seeds": plain(cell.error),
            "error": plain(cell.sampling),
            "seeds": cell.units,
        }
        if row != LATE:
            ahead = block.difference(row, LATE, "accuracy")
            entry["ahead_of_late_fusion"] = plain(ahead.mean)
            entry["ahead_error"] = plain(
                float(np.nanmax([ahead.error, ahead.sampling]))
            )
        shown[row] = entry
    return {"samples": len(experiment.splits.test), "methods": shown}


def _suspects(
    table: Table, experiment: Experiment
) -> tuple[list[dict[str, Any]], list[Finding]]:
    data = experiment.data
    names = data.modalities
    probabilities = unimodal_probabilities(experiment)
    suspects = find_suspects(probabilities, data.y, names)
    listed = []
    for suspect in suspects[:LISTED]:
        row = int(data.rows[suspect.row])
        label = int(data.y[suspect.row])
        about = describe(suspect, probabilities, label, names, data.classes)
        listed.append({"row": row, "id": table.row(row), **about})
    return listed, suspicious(suspects, probabilities, data.y, names, data.rows)


def _useless(record: dict[str, Any]) -> list[Finding]:
    """Modalities that alone are no better than the most frequent class."""
    chance, found = record["data"]["chance"], []
    for modality in record["data"]["modalities"]:
        name = modality["name"]
        cell = record["accuracy"][alone(name)]
        mean, error = cell["mean"], cell["error"]
        if mean is None or mean - (error or 0.0) > chance:
            continue
        found.append(
            Finding(
                "useless",
                "warning",
                f"'{name}' alone is right in {100 * mean:.1f} ± "
                f"{100 * (error or 0):.1f} % of the samples, and always to "
                f"name the most frequent class in {100 * chance:.1f} %: it "
                "tells nothing of the classes, or its rows are in another "
                "order.",
                name,
                numbers={"accuracy": mean, "chance": chance},
            )
        )
    return found
