import keras
from keras import ops

from keras_mmrel.contract import DType
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._detection_metric import DetectionMetric


@keras.saving.register_keras_serializable(package="keras_mmrel")
class DetectionAUROC(DetectionMetric):
    """How well a score tells corrupted or unknown inputs from clean ones.

    Area under the receiver operating characteristic: the probability that a
    positive has a higher score than a negative, ties counting half. 0.5 is
    chance, 1 a perfect detector, 0 a perfect one of the wrong sign.

    Scores are counted on a grid of 8193 cells, so that memory is bounded and
    the order and the size of the batches do not matter. Two scores in one
    cell count as tied; cells are at most 0.0007 wide and shrink towards 0 and
    1 with the distance to them.

    Args:
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
        y_pred: Scores of any shape, such as `(batch,)`, `(batch, 1)` or
            `(batch, modalities)`; each one counts.
        sample_weight: `None`, `(batch,)` or the shape of `y_pred`, such as a
            `modality_mask`, so that a missing modality does not count.
            Non-negative.

    Returns:
        Scalar in [0, 1]. NaN where it is not defined: as long as positives
        or negatives are missing, and once one of positive weight had a NaN
        score, a score outside [0, 1] without `from_logits`, or another label.

    Raises:
        ValueError: If a flag is no bool, or a shape does not fit.

    Example:

    >>> metric = keras_mmrel.metrics.DetectionAUROC(invert=True)
    >>> confidence = np.array([[0.9, 0.2], [0.8, 0.7], [0.6, 0.9]])
    >>> corrupted = np.array([[0, 1], [0, 0], [1, 0]])
    >>> metric.update_state(corrupted, confidence)
    >>> float(metric.result())
    1.0

    References:
        - [Hendrycks and Gimpel, 2017, A Baseline for Detecting Misclassified
          and Out-of-Distribution Examples in Neural
          Networks](https://arxiv.org/abs/1610.02136), the area as a measure
          of detection. The grid is this library's own choice.
    """

    def __init__(
        self,
        from_logits: bool = False,
        invert: bool = False,
        name: str = "detection_auroc",
        dtype: DType = None,
    ) -> None:
        super().__init__(from_logits, invert, name, dtype)
        self._direction = "up"

    def result(self) -> Tensor:
        negative, positive = self.groups()
        negatives, positives = ops.sum(negative), ops.sum(positive)
        fraction = negative / negatives
        below = ops.cumsum(fraction) - fraction / 2.0
        area = ops.sum(below * positive / positives)
        return self.defined(ops.clip(area, 0.0, 1.0), negatives, positives)
