"""What a metric of class scores is given, checked in eager and jitted steps.

Values that are at hand, as in a call of one's own or in a step on PyTorch, are
refused with a sentence. In a compiled step nothing can be said: what does not
fit makes the result NaN, on every backend.
"""

from typing import NamedTuple

from keras import ops

from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values
from keras_mmrel.contract import looks_like_probabilities
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.contract import rows_that_sum_to_one
from keras_mmrel.metrics._counted_weight import counted_weight


class Batch(NamedTuple):
    """A batch of predictions, ready to be counted."""

    scores: Tensor  # (batch, ..., classes), float32
    labels: Tensor  # one-hot rows, broadcastable against the scores
    valid: Tensor  # (batch, ...), booleans
    weight: Tensor  # (batch, ...), NaN where a counted one is not valid


def read_batch(
    y_true: Labels,
    y_pred: Tensor,
    sample_weight: Tensor = None,
    from_logits: bool | None = None,
    rank: int = 2,
) -> Batch:
    """Check labels and scores of a metric.

    Args:
        y_true: Class numbers `(batch,)` or `(batch, 1)`, or one-hot rows.
        y_pred: `(batch, classes)`, or `(batch, modalities, classes)`.
        sample_weight: `None`, or of the shape of the predictions or of its
            leading axes. What has weight 0 may hold anything.
        from_logits: What the metric was told, or `None` where logits and
            probabilities are alike to it.
        rank: Number of axes of `y_pred`.

    Raises:
        ValueError: If a shape does not fit, or a value that is at hand.
    """
    y_true = ops.convert_to_tensor(y_true)
    scores = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    shape = tuple(scores.shape)
    if len(shape) != rank or shape[-1] is None or shape[-1] < 2:
        axes = "batch, classes" if rank == 2 else "batch, modalities, classes"
        raise ValueError(
            f"`y_pred` must have the shape ({axes}) with two or more classes. "
            f"Received: y_pred.shape={shape}"
        )
    rows = {*y_true.shape[:1], *shape[:1]} - {None}
    if not y_true.shape or len(rows) > 1:
        raise ValueError(
            "`y_true` must have one label a sample. Received: "
            f"y_true.shape={tuple(y_true.shape)}, y_pred.shape={shape}"
        )
    labels = one_hot_labels(y_true, shape[-1])
    known = ops.logical_not(ops.any(ops.isnan(scores), axis=-1))
    counted = _counts(known, sample_weight)
    # With the axes of a modality between.
    label_fits = ops.logical_or(
        ops.reshape(_fitting_labels(y_true, labels), (-1, *[1] * (rank - 2))),
        ops.logical_not(counted),
    )
    _refuse_labels(label_fits, y_true, shape[-1])
    valid = ops.logical_and(known, label_fits)
    if from_logits is not None:
        fits = _fitting_scores(scores, from_logits, known, counted)
        _refuse_scores(fits, from_logits)
        valid = ops.logical_and(valid, fits)
    weight = counted_weight(valid, sample_weight)
    return Batch(
        scores, ops.reshape(labels, (-1, *[1] * (rank - 2), shape[-1])),
        valid, weight,
    )  # fmt: skip


def _counts(known: Tensor, sample_weight: Tensor) -> Tensor:
    """Whether the weight of a prediction is not 0."""
    weight = counted_weight(ops.ones_like(known), sample_weight)
    return ops.not_equal(weight, 0)


def _fitting_labels(y_true: Labels, labels: Tensor) -> Tensor:
    """Whether the label of a sample is one, `(batch,)`."""
    if len(y_true.shape) == 2 and y_true.shape[1] == labels.shape[1]:
        return rows_that_sum_to_one(labels)
    numbers = ops.cast(ops.reshape(y_true, (-1,)), "float32")
    inside = ops.logical_and(numbers >= 0, numbers < labels.shape[1])
    return ops.logical_and(inside, ops.equal(numbers, ops.floor(numbers)))


def _fitting_scores(
    scores: Tensor, from_logits: bool, known: Tensor, counted: Tensor
) -> Tensor:
    """Whether scores are what the metric was told; NaN is another matter."""
    used = ops.logical_and(known, counted)
    if from_logits:
        others = looks_like_probabilities(scores, used)
        return ops.logical_and(ops.ones_like(known), ops.logical_not(others))
    return ops.logical_or(rows_that_sum_to_one(scores), ops.logical_not(used))


def _refuse_labels(fits: Tensor, y_true: Labels, classes: int) -> None:
    values, y = known_values(fits), known_values(y_true)
    if values is None or y is None or values.all():
        return
    raise ValueError(
        f"`y_true` must hold class numbers in [0, {classes}) or one-hot rows "
        f"that sum to 1. Received: {int((~values).sum())} labels of "
        f"{len(values)} that do not, of values from {y.min()} to {y.max()}"
    )


def _refuse_scores(fits: Tensor, from_logits: bool) -> None:
    values = known_values(fits)
    if values is None or values.all():
        return
    wanted, seen = (
        ("logits", "probabilities")
        if from_logits
        else ("probabilities that sum to 1", "other rows, such as logits")
    )
    raise ValueError(
        f"`y_pred` must hold {wanted}, as this metric has "
        f"`from_logits={from_logits}`. Received: {seen}"
    )
