"""Whether probabilities may be believed, before and after a temperature."""

from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.diagnose._experiment import FOLDS
from keras_mmrel.diagnose._experiment import TEST
from keras_mmrel.diagnose._experiment import Experiment
from keras_mmrel.diagnose._measures import measure
from keras_mmrel.diagnose._measures import plain
from keras_mmrel.diagnose._suspects import temperature
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import Predictions

BINS = 10


def calibration(experiment: Experiment, method: str) -> dict[str, Any]:
    """Return calibration errors, and the curve of the raw probabilities.

    Each fold is scaled by a temperature of the others, the test part by one
    of all folds.

    Args:
        experiment: The runs.
        method: Name of a row.
    """
    y, splits = experiment.data.y, experiment.splits
    logs = experiment.log_probabilities(method, FOLDS)
    before, after, temperatures = [], [], []
    scaled = np.full_like(logs, np.nan)
    for fold in range(experiment.plan.folds):
        known, held_out = splits.of_fold(fold)
        scaling = temperature(logs[known], y[known])
        scaled[held_out] = scaling.calibrate(logs[held_out])
        temperatures.append(scaling.temperature)
        before.append(_ece(np.exp(logs[held_out]), y[held_out]))
        after.append(_ece(scaled[held_out], y[held_out]))
    rows = splits.development
    ratio = experiment.ratio
    found = {
        "method": method,
        "ece": measure(np.array(before), ratio).to_dict(),
        "ece_scaled": measure(np.array(after), ratio).to_dict(),
        "temperature": plain(float(np.mean(temperatures))),
        "curve": _curve(np.exp(logs[rows]), y[rows]),
        "curve_scaled": _curve(scaled[rows], y[rows]),
    }
    test = experiment.log_probabilities(method, TEST)[splits.test]
    if np.isfinite(test).all() and len(test):
        scaling = temperature(logs[rows], y[rows])
        found["test"] = {
            "ece": plain(_ece(np.exp(test), y[splits.test])),
            "ece_scaled": plain(_ece(scaling.calibrate(test), y[splits.test])),
        }
    return found


def _predictions(probabilities: Array, y: Array) -> Predictions:
    total = probabilities.sum(axis=1, keepdims=True)
    return Predictions(probabilities / total, y, bins=BINS)


def _ece(probabilities: Array, y: Array) -> float:
    return float(SCORES["ece"].function(_predictions(probabilities, y)))


def _curve(probabilities: Array, y: Array) -> list[dict[str, float]]:
    """Mean confidence and accuracy of each bin, and its share of samples."""
    predictions = _predictions(probabilities, y)
    top = predictions.probabilities.max(axis=1)
    place = np.minimum((top * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": round(float(top[place == b].mean()), 4),
            "accuracy": round(float(predictions.right[place == b].mean()), 4),
            "share": round(float((place == b).mean()), 4),
        }
        for b in range(BINS)
        if (place == b).any()
    ]
