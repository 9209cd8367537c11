import keras
import numpy as np
from keras import ops

from keras_mmrel.class_scores import are_made_usable
from keras_mmrel.class_scores import as_tensor
from keras_mmrel.class_scores import as_tensors
from keras_mmrel.class_scores import label_rows
from keras_mmrel.class_scores import labels_fit
from keras_mmrel.class_scores import plainly_fit
from keras_mmrel.class_scores import refuse_labels
from keras_mmrel.class_scores import refuse_scores
from keras_mmrel.class_scores import scores_fit
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values
from keras_mmrel.contract import to_numpy


def counted(sample_weight: Tensor, y_pred: Tensor) -> Tensor:
    """Whether a sample's weight, which must be at hand, is not 0, `(batch,)`.

    Raises:
        ValueError: If weights are negative or not finite, or have a shape that
            does not fit.
    """
    weight = as_tensor(sample_weight, "`sample_weight`")
    shape, batch = tuple(weight.shape), y_pred.shape[0]
    if len(shape) > len(y_pred.shape) or shape[:1] not in ((), (1,), (batch,)):
        raise ValueError(
            "`sample_weight` must hold one weight a sample, of shape "
            f"({batch},). Received: sample_weight.shape={shape}"
        )
    values = to_numpy(weight)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            "`sample_weight` must be finite and not negative. Received: values "
            f"from {values.min()} to {values.max()}"
        )
    rows = ops.any(ops.reshape(weight, (*shape[:1], -1)) != 0, axis=-1)
    return ops.logical_and(ops.ones((batch,), "bool"), rows)


class ClassLoss(keras.losses.Loss):
    """A loss of logits `(batch, classes)` and labels of both forms.

    Where values are at hand, labels out of range and probabilities in the
    place of logits are refused. In a compiled step a class number out of
    range counts as a label of no class.
    """

    def __call__(
        self,
        y_true: Labels,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        labels, logits = as_tensors(y_true, y_pred)
        if are_made_usable():
            return super().__call__(labels, logits, sample_weight)
        counts = None
        if known_values(logits) is not None and sample_weight is not None:
            counts = counted(sample_weight, logits)
        if known_values(logits) is not None and not plainly_fit(
            labels, logits, from_logits=True
        ):
            used = ops.logical_not(ops.any(ops.isnan(logits), axis=-1))
            fits = labels_fit(labels, logits.shape[-1])
            if counts is not None:
                # What has weight 0 may hold anything.
                fits = ops.logical_or(fits, ops.logical_not(counts))
                used = ops.logical_and(used, counts)
            refuse_labels(fits, labels, logits.shape[-1])
            refuse_scores(scores_fit(logits, True, used), from_logits=True)
            labels = label_rows(labels, logits.shape[-1])
        return super().__call__(labels, logits, sample_weight)
