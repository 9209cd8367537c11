import keras
from keras import ops

from keras_mmrel.contract import DType
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._score_grid import summed_risks
from keras_mmrel.metrics.aurc import AURC


@keras.saving.register_keras_serializable(package="keras_mmrel")
class ExcessAURC(AURC):
    """What `AURC` has above that of the best order of the same answers.

    The best order puts every right answer before every error, so that this
    metric looks at confidence alone: it is 0 if all errors are the least
    confident samples, whatever their number.

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
        Scalar in [0, 1]; NaN where `AURC` is.

    Raises:
        ValueError: As in `AURC`.

    Example:

    >>> metric = keras_mmrel.metrics.ExcessAURC(from_logits=False)
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    >>> metric.update_state(np.array([0, 0, 0, 1]), p)  # two least sure: wrong
    >>> round(float(metric.result()), 4)
    0.0

    References:
        - [Geifman et al., 2019, Bias-Reduced Uncertainty Estimation for Deep
          Neural Classifiers](https://arxiv.org/abs/1805.08206). The grid is
          this library's own choice, see `AURC`.
    """

    def __init__(
        self,
        from_logits: bool = True,
        name: str = "excess_aurc",
        dtype: DType = None,
    ) -> None:
        super().__init__(from_logits=from_logits, name=name, dtype=dtype)

    def _area(self, right: Tensor, wrong: Tensor) -> Tensor:
        rights, errors = ops.sum(right), ops.sum(wrong)
        best = summed_risks(
            ops.stack([rights, errors]),
            ops.stack([ops.zeros_like(errors), errors]),
        )
        return ops.maximum(super()._area(right, wrong) - best, 0.0)
