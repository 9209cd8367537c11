import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._detection_metric import DetectionMetric

# Rounding of sums of weights must not miss a recall that is met exactly.
ROUNDING = 1e-6


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(recall=Number(0, 1, low_open=True))
class FalsePositiveRateAtRecall(DetectionMetric):
    """Fraction of negatives flagged to find 95 % of the positives.

    A threshold flags every score at or above it. Of all thresholds that flag
    at least the fraction `recall` of the positives, the highest one is taken:
    the metric is the fraction of negatives which it flags. Tied scores are
    flagged together, and nothing is interpolated between thresholds.

    Scores are counted on a grid of 8193 cells, so that memory is bounded and
    the order and the size of the batches do not matter. Two scores in one
    cell count as tied, which can only raise the metric; cells are at most
    0.0007 wide and shrink towards 0 and 1 with the distance to them.

    Args:
        recall: Fraction of the positives to be found, in (0, 1].
        from_logits: Whether scores are logits of a probability rather than
            in [0, 1]. As only the order matters, any other unbounded score
            will do; cells are then 0.0024 wide at 0, and 0.24 % of a large
            score up to 10,000.
        invert: Whether a low score speaks for a positive, as the
            `confidence` of a model does where a corruption is positive.
        name: Name of the metric.
        dtype: Dtype of the result.

    Call arguments:
        y_true: 1 (or `True`) for a positive and 0 for a negative, of the
            shape of `y_pred`.
        y_pred: Scores of any shape, such as `(batch,)` or `(batch, 1)`.
        sample_weight: `None`, `(batch,)` or the shape of `y_pred`.
            Non-negative.

    Returns:
        Scalar in [0, 1]. NaN where it is not defined: as long as positives
        or negatives are missing, and once one of positive weight had a NaN
        score, a score outside [0, 1] without `from_logits`, or another label.

    Raises:
        ValueError: If `recall` is outside (0, 1], a flag is no bool, or a
            shape does not fit.

    Example:

    >>> metric = keras_mmrel.metrics.FalsePositiveRateAtRecall(recall=0.95)
    >>> y = np.array([1, 1, 1, 0, 0, 0, 0])
    >>> metric.update_state(y, np.array([0.9, 0.8, 0.4, 0.6, 0.3, 0.2, 0.1]))
    >>> float(metric.result())  # 0.4 finds all, and flags 0.6
    0.25

    References:
        - [Hendrycks and Gimpel, 2017, A Baseline for Detecting Misclassified
          and Out-of-Distribution Examples in Neural
          Networks](https://arxiv.org/abs/1610.02136), detection as a
          baseline. The grid, and no interpolation, are this library's own
          choice.
    """

    def __init__(
        self,
        recall: float = 0.95,
        from_logits: bool = False,
        invert: bool = False,
        name: str = "false_positive_rate_at_recall",
        dtype: DType = None,
    ) -> None:
        super().__init__(from_logits, invert, name, dtype)
        self.recall = recall
        self._direction = "down"

    def result(self) -> Tensor:
        negative, positive = self.groups()
        negatives, positives = ops.sum(negative), ops.sum(positive)
        found = ops.cumsum(ops.flip(positive))
        flagged = ops.cumsum(ops.flip(negative))
        enough = found >= self.recall * (1.0 - ROUNDING) * positives
        rate = ops.min(ops.where(enough, flagged, negatives)) / negatives
        return self.defined(ops.clip(rate, 0.0, 1.0), negatives, positives)

    def get_config(self) -> dict:
        return {**super().get_config(), "recall": self.recall}
