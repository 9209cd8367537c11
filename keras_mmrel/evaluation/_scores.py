"""The scores of the library, and the curves behind them."""

import types
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.evaluation.predictions import Predictions
from keras_mmrel.evaluation.score import Score
from keras_mmrel.optional import require

POINTS = np.linspace(0.02, 1.0, 50)


def accuracy(predictions: Predictions) -> Array:
    return predictions.right


def f1_macro(predictions: Predictions) -> float:
    return _sklearn().f1_score(
        predictions.labels, predictions.predicted, average="macro"
    )


def f1_weighted(predictions: Predictions) -> float:
    return _sklearn().f1_score(
        predictions.labels, predictions.predicted, average="weighted"
    )


def auroc(predictions: Predictions) -> float:
    return _sklearn().roc_auc_score(
        predictions.labels, predictions.probabilities[:, 1]
    )


def nll(predictions: Predictions) -> Array:
    rows = np.arange(len(predictions.labels))
    return -predictions.log_probabilities[rows, predictions.labels]


def ece(predictions: Predictions) -> float:
    count, confidence, right = reliability(predictions)
    return float((count * np.abs(confidence - right)).sum() / count.sum())


def brier(predictions: Predictions) -> Array:
    p, y = predictions.probabilities, predictions.labels
    true = p[np.arange(len(y)), y]
    return np.square(p).sum(axis=1) - 2 * true + 1


def aurc(predictions: Predictions) -> float:
    top = predictions.probabilities.max(axis=1)
    return float(selective_risks(top, ~predictions.right).mean())


def excess_aurc(predictions: Predictions) -> float:
    right = predictions.right
    oracle = selective_risks(right.astype(float), ~right)
    return aurc(predictions) - float(oracle.mean())


def confidence(predictions: Predictions) -> Array:
    return predictions.confidence.mean(axis=0)


def corrupted_auroc(predictions: Predictions) -> float:
    return _found(predictions, predictions.confidence)


def quality_auroc(predictions: Predictions) -> float:
    return _found(predictions, predictions.modality_quality)


def _found(predictions: Predictions, believed: Array) -> float:
    """How well low values find corrupted modalities, AUROC."""
    if not np.isfinite(believed).all():
        return np.nan
    where = predictions.where_present
    return _sklearn().roc_auc_score(
        predictions.corrupted[where], -believed[where]
    )


def depth(predictions: Predictions) -> Array:
    blocks = predictions.depth
    return blocks.reshape(len(blocks), -1).mean(axis=1)


def _sklearn() -> Any:
    return require("sklearn.metrics", "evaluate_robustness")


# Keys are the names that `evaluate_robustness` takes.
SCORES: Mapping[str, Score] = types.MappingProxyType(
    {
        score.name: score
        for score in (
            Score(
                "accuracy", accuracy, True,
                "fraction of right predictions", percent=True,
                per_sample=True,
            ),
            Score(
                "f1_macro", f1_macro, True,
                "F1, mean over the classes", percent=True,
            ),
            Score(
                "f1_weighted", f1_weighted, True,
                "F1, mean over the classes by their size", percent=True,
                shown=False,
            ),
            Score(
                "auroc", auroc, True,
                "area under the ROC curve of two classes", percent=True,
                needs=("probabilities", "binary"),
            ),
            Score(
                "nll", nll, False,
                "negative log-likelihood of the true class, in nats",
                per_sample=True,
            ),
            Score(
                "ece", ece, False,
                "expected calibration error of the predicted class, bins of "
                "equal width",
            ),
            Score(
                "brier", brier, False,
                "Brier score, summed over the classes", per_sample=True,
            ),
            Score(
                "aurc", aurc, False,
                "area under the risk-coverage curve",
            ),
            Score(
                "excess_aurc", excess_aurc, False,
                "the same above that of the best order", shown=False,
            ),
            Score(
                "confidence", confidence, None,
                "mean confidence of a modality", needs=("confidence",),
                per_modality=True, shown=False,
            ),
            Score(
                "corrupted_auroc", corrupted_auroc, True,
                "how well a low confidence finds the modalities that are "
                "corrupted without being announced, AUROC",
                percent=True, needs=("confidence", "corrupted"),
            ),
            Score(
                "quality_auroc", quality_auroc, True,
                "the same by a low `modality_quality`, what is seen in the "
                "input before anything is predicted",
                percent=True, needs=("modality_quality", "corrupted"),
            ),
            Score(
                "depth", depth, None,
                "mean number of blocks run", needs=("depth",),
                per_sample=True,
            ),
        )
    }
)  # fmt: skip


def as_scores(scores: Sequence[str | Score] | None) -> list[Score]:
    """Make scores of all that `evaluate_robustness` takes."""
    if scores is None:
        return list(SCORES.values())
    if isinstance(scores, str | Score):
        scores = [scores]
    if not isinstance(scores, list | tuple):
        raise ValueError(
            "`scores` must be a list or tuple of `Score`s or names. Received: "
            f"scores={scores!r}"
        )
    unknown = [
        item
        for item in scores
        if not isinstance(item, Score)
        and not (isinstance(item, str) and item in SCORES)
    ]
    if unknown or len(scores) == 0:
        raise ValueError(
            f"`scores` must hold `Score`s or names out of {list(SCORES)}. "
            f"Received: {unknown}"
        )
    chosen = [SCORES[s] if isinstance(s, str) else s for s in scores]
    names = [score.name for score in chosen]
    if len(set(names)) != len(names) or set(names) & TAKEN:
        raise ValueError(
            "`scores` must have different names, none of them out of "
            f"{sorted(TAKEN)}. Received: {names}"
        )
    return chosen


# Other columns of the report.
TAKEN = {"corruption", "severity", "seed", "in_range", "samples", "invalid"}


def reliability(predictions: Predictions) -> tuple[Array, Array, Array]:
    """Return count, mean confidence and accuracy of bins of equal width.

    A probability on a border belongs to the bin below it, as in
    `keras_mmrel.metrics.ExpectedCalibrationError`.
    """
    bins = predictions.bins
    top = predictions.probabilities.max(axis=1)
    index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins).astype(float)
    some = np.maximum(count, 1)
    mean = np.bincount(index, top, minlength=bins) / some
    right = np.bincount(index, predictions.right, minlength=bins) / some
    return count, mean, right


def selective_risks(confidence: Array, wrong: Array) -> Array:
    """Fraction of errors among the r most confident samples, r = 1 ... n.

    Ties are resolved in expectation over a random order.
    """
    order = np.argsort(-confidence, kind="stable")
    _, group = np.unique(-confidence[order], return_inverse=True)
    fraction = np.bincount(group, wrong[order]) / np.bincount(group)
    return np.cumsum(fraction[group]) / np.arange(1, len(order) + 1)


def curves(predictions: Predictions) -> list[dict[str, Any]]:
    """Points of the reliability diagram and of the risk-coverage curve."""
    if not predictions.valid.all():
        return []
    points = [
        {"curve": "reliability", "x": c, "y": a, "samples": n}
        for n, c, a in zip(*reliability(predictions), strict=True)
        if n
    ]
    top = predictions.probabilities.max(axis=1)
    risks = selective_risks(top, ~predictions.right)
    ranks = np.unique(np.ceil(POINTS * len(risks)).astype(int))
    return points + [
        {
            "curve": "risk_coverage",
            "x": rank / len(risks),
            "y": risks[rank - 1],
            "samples": float(rank),
        }
        for rank in ranks
    ]
