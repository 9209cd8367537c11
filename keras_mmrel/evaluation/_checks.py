"""Checks of predictions that the evaluations share."""

from collections.abc import Mapping

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.contract import MASK
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Model
from keras_mmrel.contract import number_array

TOLERANCE = 1e-3


OPEN_FRACTION = Number(0, 1, low_open=True, high_open=True)


def check_matrix(name: str, values: ArrayLike, key: str | None = None) -> Array:
    """Return finite `(samples, classes)` values in float64.

    Args:
        name: Name of the argument, for the message.
        values: Array or tensor, or a model's output dict.
        key: What to take from an output dict; `name` by default.
    """
    key = key or name
    if isinstance(values, Mapping):
        if key not in values:
            raise ValueError(
                f"`{name}` must be an array or a model's outputs with "
                f"'{key}'. Received: a dict with {sorted(values)}"
            )
        values = values[key]
    array = number_array(values, f"`{name}`").astype("float64")
    if array.ndim != 2 or len(array) < 1 or array.shape[1] < 2:
        raise ValueError(
            f"`{name}` must have the shape (samples, classes) with at least "
            f"one sample and two classes. Received: shape={array.shape}"
        )
    bad: Array = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinite values in "
            f"{_rows(bad)}"
        )
    return array


def check_probabilities(name: str, p: ArrayLike) -> Array:
    """Return valid class probabilities in float64.

    Args:
        name: Name of the argument, for the message.
        p: `(samples, classes)`, or a model's output dict, of which
            `"probabilities"` are taken.

    Returns:
        Array `(samples, classes)`: finite, not negative, and every row sums
        to one within 1e-3.
    """
    array = check_matrix(name, p, key=PROBABILITIES)
    negative = array.min(axis=1) < 0
    if negative.any():
        raise ValueError(
            f"`{name}` must be probabilities, not logits. Received: negative "
            f"values in {_rows(negative)}"
        )
    sums = array.sum(axis=1)
    off: Array = np.abs(sums - 1.0) > TOLERANCE
    if off.any():
        raise ValueError(
            f"`{name}` must sum to one over the classes. Received: row sums "
            f"from {sums.min():.4g} to {sums.max():.4g}, wrong in {_rows(off)}"
        )
    return array


def check_logits(name: str, logits: ArrayLike) -> Array:
    """Return finite logits in float64, which no probabilities are.

    Args:
        name: Name of the argument, for the message.
        logits: `(samples, classes)`, or a model's output dict.
    """
    array = check_matrix(name, logits)
    sums = np.abs(array.sum(axis=1) - 1.0)
    # One row may sum to 1 by chance.
    if len(array) > 1 and (array >= 0).all() and (sums < TOLERANCE).all():
        raise ValueError(
            f"`{name}` must be logits, not probabilities. Received: "
            f"{len(array)} rows that are not negative and sum to 1"
        )
    return array


def check_model(model: Model, function: bool = False) -> None:
    """Refuse what does not predict, such as the class of a model.

    Args:
        model: What stands where a model must.
        function: Whether a function may.
    """
    works = hasattr(model, "predict") or (function and callable(model))
    if isinstance(model, type) or not works:
        kind = "a Keras model or a function" if function else "a Keras model"
        raise ValueError(
            f"`model` must be {kind} that takes a dict of modalities. "
            f"Received: model={model!r}"
            + (", which is a class" if isinstance(model, type) else "")
        )


def takes_mask(model: Model) -> bool:
    """Whether a model reads `"modality_mask"`, as far as it tells."""
    if hasattr(model, "modality_names"):
        return True
    if not hasattr(model, "predict"):
        return True
    try:
        inputs = model.input
    except (AttributeError, ValueError):
        # A subclassed Keras model does not say what it takes.
        return False
    if isinstance(inputs, Mapping):
        return MASK in inputs
    return MASK in {tensor.name for tensor in keras.tree.flatten(inputs)}


def _rows(bad: Array) -> str:
    """`3 of 10 rows (the first: [0, 4, 7])`."""
    first = np.flatnonzero(bad)[:5].tolist()
    return f"{bad.sum()} of {len(bad)} rows (the first: {first})"
