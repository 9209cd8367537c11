"""Checks of predictions and labels that the evaluations share."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.corruptions.checks import MASK

TOLERANCE = 1e-3


def to_numpy(array: Any) -> np.ndarray:
    if keras.ops.is_tensor(array):
        return np.asarray(keras.ops.convert_to_numpy(array))
    return np.asarray(array)


def check_matrix(name: str, values: Any, key: str | None = None) -> np.ndarray:
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
    try:
        array = to_numpy(values).astype("float64")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must hold numbers. Received: a {type(values).__name__} "
            "that is no array of numbers"
        ) from error
    if array.ndim != 2 or len(array) < 1 or array.shape[1] < 2:
        raise ValueError(
            f"`{name}` must have the shape (samples, classes) with at least "
            f"one sample and two classes. Received: shape={array.shape}"
        )
    bad: np.ndarray = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinite values in "
            f"{_rows(bad)}"
        )
    return array


def check_probabilities(name: str, p: Any) -> np.ndarray:
    """Return valid class probabilities in float64.

    Args:
        name: Name of the argument, for the message.
        p: `(samples, classes)`, or a model's output dict, of which
            `"probabilities"` are taken.

    Returns:
        Array `(samples, classes)`: finite, not negative, and every row sums
        to one within 1e-3.
    """
    array = check_matrix(name, p, key="probabilities")
    negative = array.min(axis=1) < 0
    if negative.any():
        raise ValueError(
            f"`{name}` must be probabilities, not logits. Received: negative "
            f"values in {_rows(negative)}"
        )
    sums = array.sum(axis=1)
    off: np.ndarray = np.abs(sums - 1.0) > TOLERANCE
    if off.any():
        raise ValueError(
            f"`{name}` must sum to one over the classes. Received: row sums "
            f"from {sums.min():.4g} to {sums.max():.4g}, wrong in {_rows(off)}"
        )
    return array


def check_labels(
    y: Any, num_classes: int, samples: int | None = None
) -> np.ndarray:
    """Return the class number of every sample, `(samples,)` in int64.

    Args:
        y: Class numbers `(samples,)` or `(samples, 1)`, or one-hot rows
            `(samples, num_classes)`.
        num_classes: Number of classes.
        samples: Number of samples that the predictions hold, or `None`.
    """
    y = to_numpy(y)
    if samples is not None and (y.ndim == 0 or len(y) != samples):
        raise ValueError(
            "`y` must have one label a sample. Received: "
            f"{len(y) if y.ndim else 0} labels for {samples} samples"
        )
    if y.ndim == 2 and y.shape[1] != 1:
        if (
            y.shape[1] != num_classes
            or not np.isin(y, (0, 1)).all()
            or not (y.sum(axis=1) == 1).all()
        ):
            raise ValueError(
                "`y` must hold class numbers or one-hot rows of width "
                f"{num_classes}. Received: y.shape={y.shape}, with rows that "
                "are not one-hot of that width"
            )
        return y.argmax(axis=1).astype("int64")
    if y.ndim not in (1, 2) or y.dtype.kind not in "iub":
        raise ValueError(
            "`y` must hold integer class numbers or one-hot rows of width "
            f"{num_classes}. Received: y.dtype={y.dtype}, y.shape={y.shape}"
        )
    y = y.reshape(-1).astype("int64")
    if y.size and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"`y` must hold class numbers in [0, {num_classes}). Received: "
            f"values from {y.min()} to {y.max()}"
        )
    return y


def check_open_share(name: str, value: Any) -> float:
    """Return `value` as a float if it is a number in (0, 1)."""
    kinds = int | float | np.integer | np.floating
    if isinstance(value, bool) or not isinstance(value, kinds):
        value_is_good = False
    else:
        value_is_good = bool(0 < value < 1)
    if not value_is_good:
        raise ValueError(
            f"`{name}` must be a number between 0 and 1, both excluded. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def takes_mask(model: Any) -> bool:
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


def _rows(bad: np.ndarray) -> str:
    """`3 of 10 rows (the first: [0, 4, 7])`."""
    first = np.flatnonzero(bad)[:5].tolist()
    return f"{bad.sum()} of {len(bad)} rows (the first: {first})"
