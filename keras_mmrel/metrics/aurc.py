import keras
from keras import ops

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._batch import read_batch
from keras_mmrel.metrics._score_grid import ScoreGridMetric
from keras_mmrel.metrics._score_grid import summed_risks
from keras_mmrel.metrics._score_grid import top_class


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(from_logits=Flag())
class AURC(ScoreGridMetric):
    """Area under the risk-coverage curve: does confidence sort out errors?

    Samples are sorted by the probability of their predicted class. Accepting
    the r most confident ones of n has the *coverage* r / n and the *risk*
    (errors among them) / r; the metric is the mean risk over r = 1 ... n.
    Lower is better: 0 without errors, 1 without a right answer, and the error
    rate on average if confidence says nothing. Tied samples come in random
    order, and the metric is the mean over these orders.

    Confidences are counted on a grid of 8193 cells, so that memory is bounded
    and the order and the size of the batches do not matter. Two confidences
    in one cell count as tied. Cells are at most 0.0007 wide, and towards 1
    they shrink with the distance to it: 0.999 and 0.9999 are some hundred
    cells apart, and logits keep apart what rounds to 1 in float32.

    A sample of weight 2 counts as two samples, so weights should be of the
    order of 1.

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
        Scalar in [0, 1]; NaN before the first sample, and once a sample of
        positive weight had a prediction that is NaN or not what
        `from_logits` says, or a label out of range.

    Raises:
        ValueError: If `from_logits` is no bool, a shape does not fit, or, in
            a step that is not compiled, labels or predictions do not.

    Example:

    >>> metric = keras_mmrel.metrics.AURC(from_logits=False)
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    >>> metric.update_state(np.array([0, 0, 0, 1]), p)  # two least sure: wrong
    >>> round(float(metric.result()), 4)  # (0 + 0 + 1/3 + 2/4) / 4
    0.2083

    References:
        - [Geifman and El-Yaniv, 2017, Selective Classification for Deep
          Neural Networks](https://arxiv.org/abs/1705.08500).
        - [Geifman et al., 2019, Bias-Reduced Uncertainty Estimation for Deep
          Neural Classifiers](https://arxiv.org/abs/1805.08206), the area. The
          grid and the mean over the orders of ties are this library's own
          choice.
    """

    def __init__(
        self,
        from_logits: bool = True,
        name: str = "aurc",
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
        predicted, logit, valid = top_class(batch.scores, self.from_logits)
        labels = ops.argmax(batch.labels, axis=-1)
        wrong = ops.not_equal(predicted, ops.cast(labels, predicted.dtype))
        valid = ops.logical_and(batch.valid, valid)
        self.count(logit, wrong, valid, sample_weight)

    def result(self) -> Tensor:
        right, wrong = self.groups()
        total = ops.sum(right) + ops.sum(wrong)
        return self.defined(self._area(right, wrong) / total, total)

    def _area(self, right: Tensor, wrong: Tensor) -> Tensor:
        """Sum of the risks, given the weights by increasing confidence."""
        return summed_risks(ops.flip(right + wrong), ops.flip(wrong))

    def get_config(self) -> dict:
        return {**super().get_config(), "from_logits": self.from_logits}
