"""Labels and class scores as losses and metrics are given them.

Values that are at hand, as in a call of one's own or in a step on PyTorch, are
refused with a sentence. In a compiled step nothing can be said, and in a step
of this library's models nothing need be: they see to it (`made_usable`).
"""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
from keras import ops

from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import known_values
from keras_mmrel.contract import number_array
from keras_mmrel.contract import one_hot_labels

_usable = contextvars.ContextVar("usable", default=False)


@contextlib.contextmanager
def made_usable() -> Iterator[None]:
    """Say that labels and weights of a step have been made usable already.

    To look at values is to wait for the device that computes them.
    """
    token = _usable.set(True)
    try:
        yield
    finally:
        _usable.reset(token)


def are_made_usable() -> bool:
    return _usable.get()


def as_tensor(value: ArrayLike, name: str) -> Tensor:
    """A tensor of numbers, of anything that holds such."""
    if not (ops.is_tensor(value) or isinstance(value, keras.KerasTensor)):
        value = number_array(value, name)
    return ops.convert_to_tensor(value)


def as_tensors(
    y_true: Labels, y_pred: Tensor, rank: int = 2
) -> tuple[Tensor, Tensor]:
    """Return labels and scores, the latter in float32, of shapes that fit.

    Args:
        y_true: Class numbers `(batch,)` or `(batch, 1)`, or rows.
        y_pred: `(batch, classes)`, or `(batch, modalities, classes)`.
        rank: Number of axes of `y_pred`.

    Raises:
        ValueError: If a shape does not fit.
    """
    check_rows_agree({"`y_true`": y_true, "`y_pred`": y_pred})
    y_true = as_tensor(y_true, "`y_true`")
    scores = ops.cast(as_tensor(y_pred, "`y_pred`"), "float32")
    shape = tuple(scores.shape)
    if len(shape) != rank or shape[-1] is None or shape[-1] < 2:
        axes = "batch, classes" if rank == 2 else "batch, modalities, classes"
        raise ValueError(
            f"`y_pred` must have the shape ({axes}) with two or more classes. "
            f"Received: y_pred.shape={shape}"
        )
    rows = {*y_true.shape[:1], *shape[:1]} - {None}
    if len(y_true.shape) == 0 or len(rows) > 1:
        raise ValueError(
            "`y_true` must have one label a sample. Received: "
            f"y_true.shape={tuple(y_true.shape)}, y_pred.shape={shape}"
        )
    fits = len(y_true.shape) == 1 or (
        len(y_true.shape) == 2 and y_true.shape[1] in (None, 1, shape[-1])
    )
    if not fits:
        raise ValueError(
            "`y_true` must be class numbers of shape (batch,) or one-hot rows "
            f"of shape (batch, {shape[-1]}). Received: "
            f"y_true.shape={tuple(y_true.shape)}"
        )
    return y_true, scores


def plainly_fit(
    y_true: Labels, scores: Tensor, from_logits: bool | None
) -> bool:
    """Whether a glance at values that are at hand shows that all is well.

    A step on PyTorch, which has them at hand, is not to pay for more.
    """
    if _usable.get() and from_logits is None:
        return True
    y, z = known_values(y_true), known_values(scores)
    if y is None or z is None or not y.size or y.dtype.kind not in "iu":
        return False
    is_rows = y.ndim == 2 and y.shape[1] == z.shape[-1]
    if is_rows or y.min() < 0 or y.max() >= z.shape[-1]:
        return False
    return from_logits is None or (from_logits and bool(z.min() < 0))


def labels_fit(y_true: Labels, classes: int) -> Tensor:
    """Whether each label is one, `(batch,)`."""
    if len(y_true.shape) == 2 and y_true.shape[1] == classes:
        return rows_that_sum_to_one(ops.cast(y_true, "float32"))
    numbers = ops.cast(ops.reshape(y_true, (-1,)), "float32")
    inside = ops.logical_and(numbers >= 0, numbers < classes)
    return ops.logical_and(inside, ops.equal(numbers, ops.floor(numbers)))


def label_rows(y_true: Labels, classes: int) -> Tensor:
    """One-hot rows `(batch, classes)`, of zeros for a label out of range."""
    if len(y_true.shape) == 2 and y_true.shape[1] == classes:
        return ops.cast(y_true, "float32")
    fits = labels_fit(y_true, classes)
    numbers = ops.cast(ops.reshape(y_true, (-1,)), "int32")
    # PyTorch has no row for a label out of range.
    rows = one_hot_labels(ops.where(fits, numbers, 0), classes)
    return rows * ops.cast(fits, "float32")[:, None]


def scores_fit(scores: Tensor, from_logits: bool, used: Tensor) -> Tensor:
    """Whether scores are what they are said to be, `(batch, ...)`.

    Any row may be one of logits. But two rows or more that all are
    probabilities within 0.001 are no logits.

    Args:
        scores: `(batch, ..., classes)` in float32.
        from_logits: What they are said to be.
        used: Booleans `(batch, ...)`; others are not looked at.
    """
    unused = ops.logical_not(used)
    if not from_logits:
        return ops.logical_or(rows_that_sum_to_one(scores), unused)
    rows = rows_that_sum_to_one(scores, 1e-3)
    several = ops.sum(ops.cast(used, "int32")) > 1
    probabilities = ops.logical_and(
        ops.all(ops.logical_or(rows, unused)), several
    )
    return ops.logical_and(ops.ones_like(used), ops.logical_not(probabilities))


def rows_that_sum_to_one(scores: Tensor, tolerance: float = 1e-2) -> Tensor:
    """Whether each row is not negative and sums to 1, `(batch, ...)`.

    Rows of bfloat16 are off by up to 0.005.
    """
    off = ops.abs(ops.sum(scores, axis=-1) - 1.0)
    return ops.logical_and(ops.all(scores >= 0, axis=-1), off < tolerance)


def refuse_labels(fits: Tensor, y_true: Labels, classes: int) -> None:
    """Raise if labels do not fit, and their values are at hand."""
    values, y = known_values(fits), known_values(y_true)
    if values is None or y is None or values.all():
        return
    raise ValueError(
        f"`y_true` must hold class numbers in [0, {classes}) or one-hot rows "
        f"that sum to 1. Received: {int((~values).sum())} labels of "
        f"{len(values)} that do not, of values from {y.min()} to {y.max()}"
    )


def refuse_scores(fits: Tensor, from_logits: bool) -> None:
    """Raise if scores do not fit, and their values are at hand."""
    values = known_values(fits)
    if values is None or values.all():
        return
    if from_logits:
        wanted, seen = "logits", "probabilities"
    else:
        wanted, seen = "probabilities that sum to 1", "rows that do not"
    raise ValueError(
        f"`y_pred` must hold {wanted}, since this has "
        f"from_logits={from_logits}. Received: {seen}"
    )
