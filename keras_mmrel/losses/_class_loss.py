import keras
from keras import ops

from keras_mmrel.class_scores import as_tensor
from keras_mmrel.class_scores import as_tensors
from keras_mmrel.class_scores import labels_fit
from keras_mmrel.class_scores import refuse_labels
from keras_mmrel.class_scores import refuse_scores
from keras_mmrel.class_scores import scores_fit
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values


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
        if known_values(logits) is not None:
            used = ops.logical_not(ops.any(ops.isnan(logits), axis=-1))
            fits = labels_fit(labels, logits.shape[-1])
            if sample_weight is not None:
                weight = as_tensor(sample_weight, "`sample_weight`")
                if tuple(weight.shape[:1]) == tuple(used.shape):
                    # What has weight 0 may hold anything.
                    rest = ops.reshape(weight, (used.shape[0], -1))
                    counts = ops.any(ops.not_equal(rest, 0), axis=1)
                    fits = ops.logical_or(fits, ops.logical_not(counts))
                    used = ops.logical_and(used, counts)
            refuse_labels(fits, labels, logits.shape[-1])
            refuse_scores(scores_fit(logits, True, used), from_logits=True)
        return super().__call__(labels, logits, sample_weight)
