"""What a model returned, on the host and in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import number_array
from keras_mmrel.evaluation.predictions import RETURNED
from keras_mmrel.evaluation.predictions import TINY


def read_outputs(
    outputs: ArrayLike | Mapping[str, Any], kind: str
) -> tuple[str, dict[str, Any]]:
    """Find the class probabilities in what a model returned.

    Args:
        outputs: Array `(samples, classes)`, or a dict with `"logits"` or
            `"probabilities"`, and maybe `"confidence"`, `"depth"` and
            `"modality_quality"`.
        kind: `"logits"`, `"probabilities"` or `"auto"`.

    Returns:
        What the scores were, `"logits"` or `"probabilities"`, and arguments
        of `Predictions`.
    """
    others: dict[str, Any] = {}
    if isinstance(outputs, Mapping):
        keys = (LOGITS, PROBABILITIES) if kind == "auto" else (kind,)
        known = [key for key in keys if key in outputs]
        if not known:
            raise ValueError(
                "`model` must return an array of (samples, classes), or a "
                f"dict with {' or '.join(map(repr, keys))}. Received: a dict "
                f"with {list(outputs)}"
            )
        kind = known[0]
        others = {key: _host(outputs.get(key)) for key in RETURNED}
        outputs = outputs[kind]
    values = _host(outputs)
    if values is None or values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(
            "`model` must return scores of shape (samples, classes) with two "
            f"or more classes. Received: shape={np.shape(outputs)}"
        )
    if kind == "auto":
        kind = PROBABILITIES if _are_probabilities(values) else LOGITS
    elif kind == PROBABILITIES and not _are_probabilities(values):
        raise ValueError(
            "`model` must return probabilities that add up to 1 in every "
            "row; pass `output='logits'` if they are logits. Received: rows "
            f"that add up to {values.sum(axis=1).min():g} at the least and "
            f"{values.sum(axis=1).max():g} at the most"
        )
    if kind == LOGITS:
        # An infinite logit leaves NaN, which counts as invalid.
        with np.errstate(invalid="ignore"):
            shifted = values - values.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        values = np.exp(logs)
    else:
        logs = np.log(np.maximum(values, TINY))
    return kind, {
        "probabilities": values,
        "log_probabilities": logs,
        **others,
    }


def _host(values: ArrayLike) -> Array | None:
    if values is None:
        return None
    return number_array(values, "What `model` returns").astype("float64")


def _are_probabilities(values: Array) -> bool:
    known = values[np.isfinite(values).all(axis=1)]
    # Rows of bfloat16 are off by up to 0.005.
    return bool(
        (known >= 0).all() and np.allclose(known.sum(axis=1), 1, atol=1e-2)
    )
