"""What a metric of class scores is given.

What does not fit is refused with a sentence where values are at hand, and
makes the result NaN in a compiled step, on every backend.
"""

from typing import NamedTuple

from keras import ops

from keras_mmrel.class_scores import as_tensors
from keras_mmrel.class_scores import label_rows
from keras_mmrel.class_scores import labels_fit
from keras_mmrel.class_scores import plainly_fit
from keras_mmrel.class_scores import refuse_labels
from keras_mmrel.class_scores import refuse_scores
from keras_mmrel.class_scores import scores_fit
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
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
    y_true, scores = as_tensors(y_true, y_pred, rank)
    classes = scores.shape[-1]
    between = [1] * (rank - 2)
    valid = ops.logical_not(ops.any(ops.isnan(scores), axis=-1))
    if not plainly_fit(y_true, scores, from_logits):
        everything = counted_weight(ops.ones_like(valid), sample_weight)
        counts = ops.not_equal(everything, 0)
        labelled = ops.logical_or(
            ops.reshape(labels_fit(y_true, classes), (-1, *between)),
            ops.logical_not(counts),
        )
        refuse_labels(labelled, y_true, classes)
        if from_logits is not None:
            used = ops.logical_and(valid, counts)
            fits = scores_fit(scores, from_logits, used)
            refuse_scores(fits, from_logits)
            labelled = ops.logical_and(labelled, fits)
        valid = ops.logical_and(valid, labelled)
        labels = label_rows(y_true, classes)
    else:
        labels = one_hot_labels(y_true, classes)
    return Batch(
        scores,
        ops.reshape(labels, (-1, *between, classes)),
        valid,
        counted_weight(valid, sample_weight),
    )
