from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._batch import read_batch


@keras.saving.register_keras_serializable(package="keras_mmrel")
class LabelAccuracy(keras.metrics.Mean):
    """Fraction of samples whose largest score is that of their class.

    Labels may be class numbers or one-hot rows, in every batch anew: the
    shape of the labels says what they are. Keras' own `"accuracy"` keeps the
    form that the first batch has.

    Args:
        name: Name of the metric.
        dtype: Dtype of the state; `None` means Keras' default.

    Call arguments:
        y_true: Class numbers of shape `(batch,)` or `(batch, 1)`, or one-hot
            rows of shape `(batch, num_classes)`.
        y_pred: Logits or probabilities of shape `(batch, num_classes)`.
        sample_weight: `None` or `(batch,)`, non-negative.

    Returns:
        Scalar in [0, 1]; 0 before the first sample, NaN once a sample of
        positive weight had a NaN prediction or a label out of range.

    Raises:
        ValueError: If a shape does not fit, or, in a step that is not
            compiled, labels do not.

    Example:

    >>> accuracy = keras_mmrel.metrics.LabelAccuracy()
    >>> logits = np.array([[2.0, 1.0], [0.0, 3.0]])
    >>> accuracy.update_state(np.array([0, 1]), logits)
    >>> accuracy.update_state(np.array([[1.0, 0.0], [1.0, 0.0]]), logits)
    >>> float(accuracy.result())
    0.75
    """

    def __init__(self, name: str = "accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self._direction = "up"

    def update_state(
        self, y_true: Labels, y_pred: Tensor, sample_weight: Tensor = None
    ) -> None:
        batch = read_batch(y_true, y_pred, sample_weight)
        right = ops.equal(
            ops.argmax(batch.labels, axis=-1),
            ops.argmax(batch.scores, axis=-1),
        )
        super().update_state(ops.cast(right, self.dtype), batch.weight)
