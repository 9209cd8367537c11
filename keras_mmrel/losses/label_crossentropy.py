import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses._class_loss import ClassLoss


def mean_over_samples(
    losses: Tensor, sample_weight: Tensor | None = None
) -> Tensor:
    """Mean over samples of the sum over modalities.

    Args:
        losses: `(batch, modalities)`, 0 for what does not count.
        sample_weight: `(batch,)` or `None`.
    """
    losses = ops.sum(losses, axis=1)
    if sample_weight is not None:
        weight = ops.convert_to_tensor(sample_weight, losses.dtype)
        losses = losses * ops.reshape(weight, (-1,))
    return ops.mean(losses)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(label_smoothing=Number(0, 1, high_open=True))
class LabelCrossentropy(ClassLoss):
    """Cross-entropy from logits, for integer and one-hot labels alike.

    The shape of the labels says what they are, so one loss serves both and a
    model's default loss needs no argument.

    Args:
        label_smoothing: Float in `[0, 1)`. Fraction of each label that is
            spread evenly over all classes.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation; `None` means Keras' default.

    Call arguments:
        y_true: Class numbers of shape `(batch,)` or `(batch, 1)`, or one-hot
            rows of shape `(batch, num_classes)`.
        y_pred: Logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: If `label_smoothing` is outside `[0, 1)`, a shape does not
            fit, or, in a step that is not compiled, labels are out of range
            or `y_pred` holds probabilities.

    Example:

    >>> loss = keras_mmrel.losses.LabelCrossentropy()
    >>> float(loss(np.array([0, 1]), np.zeros((2, 2))))  # log 2
    0.6931471824645996
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        reduction: str = "sum_over_batch_size",
        name: str = "label_crossentropy",
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Labels, y_pred: Tensor) -> Tensor:
        labels = one_hot_labels(y_true, y_pred.shape[-1])
        if self.label_smoothing:
            labels = (
                labels * (1.0 - self.label_smoothing)
                + self.label_smoothing / y_pred.shape[-1]
            )
        log_probabilities = ops.log_softmax(ops.cast(y_pred, "float32"))
        return -ops.sum(labels * log_probabilities, axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
        }
