"""What every part of the library agrees on.

The keys of inputs and outputs, the names of their types, labels as class
numbers and as one-hot rows, and the checks of arrays that a user passes.
Checks of constructor arguments are in `keras_mmrel.constraints`.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_mmrel.backend import upstream

# -- Keys --------------------------------------------------------------------

# Input and output: (batch, modalities), 1 = present, 0 = missing.
MASK = "modality_mask"

# What every model returns.
LOGITS = "logits"  # (batch, classes), fused
PROBABILITIES = "probabilities"  # (batch, classes)
MODALITY_LOGITS = "modality_logits"  # (batch, modalities, classes)
CONFIDENCE = "confidence"  # (batch, modalities) in [0, 1]
OUTPUTS = (LOGITS, PROBABILITIES, MODALITY_LOGITS, CONFIDENCE, MASK)

# What `call(training=True)` hands to losses and statistics. Inference never
# has it.
TRAINING_RECORD = "training_record"

# -- Types -------------------------------------------------------------------

# Keras is untyped: these say what a thing is, not how it is stored.
Tensor: TypeAlias = Any  # a backend's tensor, a `KerasTensor` or an array
Labels: TypeAlias = Tensor  # (batch,) class numbers or (batch, classes) rows
Array: TypeAlias = np.ndarray
ArrayLike: TypeAlias = Any  # what `to_numpy` takes
Shape: TypeAlias = tuple[int | None, ...]
Modalities: TypeAlias = Mapping[str, Any]  # name -> a tensor, or a dict of them
Outputs: TypeAlias = Mapping[str, Any]  # name -> a tensor
Losses: TypeAlias = dict[str, Tensor]  # name -> a scalar
DataSource: TypeAlias = Any  # a dict of arrays, or a pipeline of batches
Layer: TypeAlias = keras.layers.Layer
Model: TypeAlias = Any  # a Keras model of modalities
Variables: TypeAlias = Sequence[Any]  # of `keras.Variable`
Initializer: TypeAlias = Any  # as in `keras.initializers.get`
DType: TypeAlias = Any  # a name, or a `keras.DTypePolicy`
Frame: TypeAlias = Any  # a `pandas.DataFrame`
Figure: TypeAlias = Any  # a `matplotlib.figure.Figure`
Axes: TypeAlias = Any  # a `matplotlib.axes.Axes`
# Name -> an input shape, an encoder, or a list of blocks.
ModalitySpecs: TypeAlias = Mapping[str, Any]


# -- Arrays and labels -------------------------------------------------------


def to_numpy(array: ArrayLike) -> Array:
    """Return a tensor of any backend, or what NumPy takes, as an array."""
    if isinstance(array, np.ndarray):
        return array
    if ops.is_tensor(array) or isinstance(array, keras.Variable):
        return np.asarray(ops.convert_to_numpy(array))
    return np.asarray(array)


def known_values(tensor: Tensor) -> Array | None:
    """Values of a tensor, or `None` in a step that is being compiled."""
    if upstream.in_symbolic_scope():
        return None
    try:
        return to_numpy(tensor)
    # Every backend says in its own way that there are no values yet.
    except Exception:
        return None


def rows_that_sum_to_one(scores: Tensor) -> Tensor:
    """Whether each row is not negative and sums to 1, `(batch, ...)`.

    Rows of bfloat16 are off by up to 0.005.
    """
    sums = ops.sum(scores, axis=-1)
    return ops.logical_and(
        ops.all(scores >= 0, axis=-1), ops.abs(sums - 1.0) < 1e-2
    )


def looks_like_probabilities(scores: Tensor, used: Tensor) -> Tensor:
    """Whether two rows or more of `used` ones all are probabilities.

    A row of logits may sum to 1 by chance; two rows within 0.001 do not.

    Args:
        scores: `(batch, ..., classes)`.
        used: Booleans `(batch, ...)`.

    Returns:
        A scalar.
    """
    close = ops.abs(ops.sum(scores, axis=-1) - 1.0) < 1e-3
    rows = ops.logical_and(ops.all(scores >= 0, axis=-1), close)
    all_of_them = ops.all(ops.logical_or(rows, ops.logical_not(used)))
    return ops.logical_and(all_of_them, ops.sum(ops.cast(used, "int32")) > 1)


def one_hot_labels(y: Labels, num_classes: int) -> Tensor:
    """Turn integer or one-hot labels into `(batch, classes)` in float32.

    Labels of shape `(batch,)` or `(batch, 1)` are class numbers; labels of
    shape `(batch, num_classes)` are (soft) one-hot rows and pass through.
    """
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 2 and y.shape[1] == num_classes:
        return ops.cast(y, "float32")
    if len(y.shape) == 2 and y.shape[1] == 1:
        y = ops.squeeze(y, axis=1)
    if len(y.shape) != 1:
        raise ValueError(
            "`y` must be class numbers of shape (batch,) or one-hot rows of "
            f"shape (batch, {num_classes}). Received: y.shape={tuple(y.shape)}"
        )
    return ops.one_hot(ops.cast(y, "int32"), num_classes, dtype="float32")


def class_numbers(y: Labels, num_classes: int) -> Tensor:
    """Turn integer or one-hot labels into class numbers `(batch,)`."""
    return ops.argmax(one_hot_labels(y, num_classes), axis=-1)


def check_labels(
    y: Labels,
    num_classes: int,
    samples: int | None = None,
    soft: bool = False,
) -> Array:
    """Return the class number of every sample, `(samples,)` in int64.

    Args:
        y: Class numbers `(samples,)` or `(samples, 1)`, or one-hot rows
            `(samples, num_classes)`.
        num_classes: Number of classes.
        samples: Number of samples that the inputs hold, or `None`.
        soft: Whether rows may be soft: not negative, with a sum of 1.

    Raises:
        ValueError: If `y` holds anything else.
    """
    if isinstance(y, list | tuple):
        raise ValueError(
            f"`y` must be an array or a tensor. Received: {type(y).__name__}"
        )
    y = to_numpy(y)
    if samples is not None and (y.ndim == 0 or len(y) != samples):
        raise ValueError(
            "`y` must have one label a sample. Received: "
            f"{len(y) if y.ndim else 0} labels for {samples} samples"
        )
    if y.ndim == 2 and y.shape[1] != 1:
        _check_rows(y, num_classes, soft)
        return y.argmax(axis=1).astype("int64")
    if y.ndim not in (1, 2) or y.dtype.kind not in "iub":
        raise ValueError(
            "`y` must hold integer class numbers of shape (n,) or one-hot "
            f"rows of shape (n, {num_classes}). Received: y.dtype={y.dtype}, "
            f"y.shape={y.shape}"
        )
    if y.size and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"`y` must hold class numbers in [0, {num_classes}). "
            f"Received: values from {y.min()} to {y.max()}"
        )
    return y.reshape(-1).astype("int64")


def _check_rows(y: Array, num_classes: int, soft: bool) -> None:
    if y.shape[1] != num_classes:
        raise ValueError(
            f"One-hot `y` must have {num_classes} columns. Received: "
            f"y.shape={y.shape}"
        )
    if (
        y.dtype.kind not in "iubf"
        or not np.isfinite(y).all()
        or (y < 0).any()
        or not np.allclose(y.sum(axis=1), 1.0, atol=1e-3)
    ):
        raise ValueError(
            "One-hot `y` must hold non-negative rows that sum to 1. "
            f"Received: y.dtype={y.dtype}, with rows that do not"
        )
    if not soft and not np.isin(y, (0, 1)).all():
        raise ValueError(
            "One-hot `y` must hold rows of zeros and a single one. Received: "
            "soft rows"
        )


# -- Modalities --------------------------------------------------------------


def modality_arrays(inputs: Modalities) -> dict[str, Any]:
    """Return the inputs without their mask."""
    return {name: value for name, value in inputs.items() if name != MASK}


def check_mask_values(mask: Tensor) -> Array:
    """Return the mask as booleans if it holds only 0 and 1."""
    values = to_numpy(mask)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"'{MASK}' must hold only 0 (missing) and 1 (present). Received: "
            f"values {np.unique(values)[:5].tolist()}"
        )
    return values.astype(bool)
