"""Scores of one set of predictions, and the curves behind them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mmrel.evaluation._checks import to_numpy

POINTS = np.linspace(0.02, 1.0, 50)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model answered, on the host and in float64.

    `kind` is what the scores were: `"logits"` or `"probabilities"`.
    `probabilities` and `log_probabilities` are `(samples, classes)`;
    `confidence` and `depth` are `(samples, modalities)` or `None`.
    """

    kind: str
    probabilities: np.ndarray
    log_probabilities: np.ndarray
    confidence: np.ndarray | None = None
    depth: np.ndarray | None = None

    @property
    def valid(self) -> np.ndarray:
        return np.isfinite(self.probabilities).all(axis=1)


def read_outputs(outputs: Any, kind: str) -> Predictions:
    """Find the class probabilities in what a model returned.

    Args:
        outputs: Array `(samples, classes)`, or a dict with `"logits"` or
            `"probabilities"`, and maybe `"confidence"` and `"depth"`.
        kind: `"logits"`, `"probabilities"` or `"auto"`.
    """
    confidence = depth = None
    if isinstance(outputs, Mapping):
        keys = ("logits", "probabilities") if kind == "auto" else (kind,)
        found = [key for key in keys if key in outputs]
        if not found:
            raise ValueError(
                "`model` must return an array of (samples, classes), or a "
                f"dict with {' or '.join(map(repr, keys))}. Received: a dict "
                f"with {list(outputs)}"
            )
        kind = found[0]
        confidence = _host(outputs.get("confidence"))
        depth = _host(outputs.get("depth"))
        outputs = outputs[kind]
    values = _host(outputs)
    if values is None or values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            "`model` must return scores of shape (samples, classes) with two "
            f"or more classes. Received: shape={np.shape(outputs)}"
        )
    if kind == "auto":
        kind = "probabilities" if _are_probabilities(values) else "logits"
    elif kind == "probabilities" and not _are_probabilities(values):
        raise ValueError(
            "`model` must return probabilities that add up to 1 in every "
            "row; pass `output='logits'` if they are logits. Received: rows "
            f"that add up to {values.sum(axis=1).min():g} at the least and "
            f"{values.sum(axis=1).max():g} at the most"
        )
    if kind == "logits":
        # An infinite logit leaves NaN, which counts as invalid.
        with np.errstate(invalid="ignore"):
            shifted = values - values.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return Predictions(kind, np.exp(logs), logs, confidence, depth)
    logs = np.log(np.maximum(values, 1e-12))
    return Predictions(kind, values, logs, confidence, depth)


def _host(values: Any) -> np.ndarray | None:
    return None if values is None else to_numpy(values).astype("float64")


def _are_probabilities(values: np.ndarray) -> bool:
    known = values[np.isfinite(values).all(axis=1)]
    # Rows of bfloat16 are off by up to 0.005.
    return bool(
        (known >= 0).all() and np.allclose(known.sum(axis=1), 1, atol=1e-2)
    )


def score(
    predictions: Predictions,
    y: np.ndarray,
    names: list[str],
    hits: np.ndarray | None = None,
    present: np.ndarray | None = None,
    bins: int = 15,
) -> dict[str, float]:
    """Return all scores of a row of the report, NaN where undefined.

    Args:
        predictions: What the model answered.
        y: Class numbers `(samples,)`.
        names: Names of the modalities.
        hits: Boolean `(samples, modalities)`, which of them are corrupted.
        present: Boolean of the same shape, which of them are there: a
            modality that is known to be missing is none to be found.
        bins: Number of bins of the calibration error.
    """
    from sklearn.metrics import f1_score
    from sklearn.metrics import roc_auc_score

    p, logs = predictions.probabilities, predictions.log_probabilities
    row: dict[str, float] = {
        "invalid": float((~predictions.valid).sum()),
        **dict.fromkeys(
            ("accuracy", "f1_macro", "f1_weighted", "auroc", "nll", "ece",
             "brier", "aurc", "excess_aurc"), np.nan,
        ),
    }  # fmt: skip
    if not row["invalid"]:
        predicted = p.argmax(axis=1)
        right = predicted == y
        rows = np.arange(len(y))
        row["accuracy"] = float(right.mean())
        row["f1_macro"] = f1_score(y, predicted, average="macro")
        row["f1_weighted"] = f1_score(y, predicted, average="weighted")
        if p.shape[1] == 2 and len(np.unique(y)) == 2:
            row["auroc"] = roc_auc_score(y, p[:, 1])
        row["nll"] = float(-logs[rows, y].mean())
        count, confidence, accuracy = reliability(p, y, bins)
        row["ece"] = float(
            (count * np.abs(confidence - accuracy)).sum() / len(y)
        )
        row["brier"] = float(
            (np.square(p).sum(axis=1) - 2 * p[rows, y] + 1).mean()
        )
        risks = selective_risks(p.max(axis=1), ~right)
        oracle = selective_risks(right.astype(float), ~right)
        row["aurc"] = float(risks.mean())
        row["excess_aurc"] = float(risks.mean() - oracle.mean())
    confidences = predictions.confidence
    if confidences is not None and confidences.shape == (len(y), len(names)):
        for column, name in enumerate(names):
            row[f"confidence/{name}"] = float(confidences[:, column].mean())
        row["corrupted_auroc"] = np.nan
        if hits is not None and np.isfinite(confidences).all():
            where = np.ones_like(hits) if present is None else present
            found = hits[where]
            if found.any() and not found.all():
                row["corrupted_auroc"] = roc_auc_score(
                    found, -confidences[where]
                )
    if predictions.depth is not None:
        row["depth"] = float(predictions.depth.mean())
    return {name: float(value) for name, value in row.items()}


def reliability(
    p: np.ndarray, y: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return count, mean confidence and accuracy of bins of equal width.

    A probability on a border belongs to the bin below it, as in
    `keras_mmrel.metrics.ExpectedCalibrationError`.
    """
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    index = np.clip(np.ceil(top * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins).astype(float)
    some = np.maximum(count, 1)
    confidence = np.bincount(index, top, minlength=bins) / some
    accuracy = np.bincount(index, right, minlength=bins) / some
    return count, confidence, accuracy


def selective_risks(confidence: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Share of errors among the r most confident samples, r = 1 ... n.

    Ties are resolved in expectation over a random order.
    """
    order = np.argsort(-confidence, kind="stable")
    _, group = np.unique(-confidence[order], return_inverse=True)
    share = np.bincount(group, wrong[order]) / np.bincount(group)
    return np.cumsum(share[group]) / np.arange(1, len(order) + 1)


def curves(
    predictions: Predictions, y: np.ndarray, bins: int
) -> list[dict[str, Any]]:
    """Points of the reliability diagram and of the risk-coverage curve."""
    if not predictions.valid.all():
        return []
    p = predictions.probabilities
    count, confidence, accuracy = reliability(p, y, bins)
    points = [
        {"curve": "reliability", "x": c, "y": a, "samples": n}
        for n, c, a in zip(count, confidence, accuracy, strict=True)
        if n
    ]
    risks = selective_risks(p.max(axis=1), p.argmax(axis=1) != y)
    ranks = np.unique(np.ceil(POINTS * len(y)).astype(int))
    return points + [
        {
            "curve": "risk_coverage",
            "x": rank / len(y),
            "y": risks[rank - 1],
            "samples": float(rank),
        }
        for rank in ranks
    ]
