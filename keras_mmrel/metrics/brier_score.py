import keras
from keras import ops

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._batch import read_batch
from keras_mmrel.metrics._counted_weight import counted_weight


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(from_logits=Flag())
class BrierScore(keras.metrics.Mean):
    """Mean squared distance of the probabilities from the one-hot label.

    `Σ_k (p_k - y_k)²` of a sample, from 0 (certain and right) to 2 (certain
    and wrong), averaged over the samples.

    Args:
        from_logits: Whether predictions are logits, as in every model of the
            library, rather than probabilities.
        name: Name of the metric.
        dtype: Dtype of the result.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot rows `(batch, classes)`.
        y_pred: `(batch, classes)`.
        sample_weight: `None` or `(batch,)`, non-negative.

    Returns:
        Scalar in [0, 2]; 0 before the first sample, NaN once a sample of
        positive weight had a prediction that is NaN or not what
        `from_logits` says, or a label out of range.

    Raises:
        ValueError: If `from_logits` is no bool, a shape does not fit, or, in
            a step that is not compiled, labels or predictions do not.

    Example:

    >>> metric = keras_mmrel.metrics.BrierScore(from_logits=False)
    >>> metric.update_state(np.array([1]), np.array([[0.2, 0.8]]))
    >>> round(float(metric.result()), 2)
    0.08

    References:
        - Brier, 1950, Verification of forecasts expressed in terms of
          probability, in its form for several classes.
    """

    def __init__(
        self,
        from_logits: bool = True,
        name: str = "brier_score",
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self._direction = "down"

    def update_state(
        self,
        y_true: Labels,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        batch = read_batch(y_true, y_pred, sample_weight, self.from_logits)
        p = as_probabilities(batch.scores, self.from_logits)
        distance = ops.sum(ops.square(p - batch.labels), axis=-1)
        # An infinite logit leaves a NaN.
        valid = ops.logical_and(
            batch.valid, ops.logical_not(ops.isnan(distance))
        )
        weight = counted_weight(valid, sample_weight)
        distance = ops.where(valid, distance, ops.zeros_like(distance))
        super().update_state(distance, weight)

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "from_logits": self.from_logits,
        }


def as_probabilities(y_pred: Tensor, from_logits: bool) -> Tensor:
    """Class probabilities in float32."""
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    return ops.softmax(y_pred, axis=-1) if from_logits else y_pred
