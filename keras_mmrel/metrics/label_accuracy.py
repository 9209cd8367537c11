from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers


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
        sample_weight: `(batch,)` or `None`.

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
        y_pred = ops.convert_to_tensor(y_pred)
        labels = class_numbers(y_true, y_pred.shape[-1])
        right = ops.equal(
            ops.cast(labels, "int32"),
            ops.cast(ops.argmax(y_pred, axis=-1), "int32"),
        )
        if sample_weight is not None:
            sample_weight = ops.reshape(
                ops.convert_to_tensor(sample_weight), (-1,)
            )
        super().update_state(ops.cast(right, self.dtype), sample_weight)
