import keras
from keras import ops

from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._batch import read_batch
from keras_mmrel.metrics._counted_weight import counted_weight
from keras_mmrel.metrics.brier_score import as_probabilities

KINDS = ("top_label", "class_wise")
BINNINGS = ("width", "mass")
# Cells of the grid from which bins are put together.
FINE = 100


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    bins=Integer(1),
    kind=Choice(*KINDS),
    binning=Choice(*BINNINGS),
    from_logits=Flag(),
    num_classes=Either(NUM_CLASSES, None),
)
class ExpectedCalibrationError(keras.metrics.Metric):
    """How far probabilities are from the rates with which they come true.

    Predictions are sorted into bins by their probability; the error is the
    mean over the predictions of the distance between their bin's mean
    probability and the fraction of them that came true.

    Probabilities are counted on a grid that is 100 times finer than the bins,
    with their exact sums, so that memory is bounded and the order and the
    size of the batches do not matter. Bins of equal width are exact; bins of
    equal mass have their borders on the grid.

    Args:
        bins: Positive integer.
        kind: `"top_label"`, the probability of the predicted class against
            the accuracy; or `"class_wise"`, the probability of each class
            against its rate, averaged over the classes.
        binning: `"width"`, bins of equal width; or `"mass"` (adaptive), bins
            that hold the same weight of predictions.
        from_logits: Whether predictions are logits, as in every model of the
            library, rather than probabilities.
        num_classes: Integer of at least 2, needed by `"class_wise"`.
        name: Name of the metric.
        dtype: Dtype of the result.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot rows `(batch, classes)`.
        y_pred: `(batch, classes)`.
        sample_weight: `None` or `(batch,)`, non-negative.

    Returns:
        Scalar in [0, 1]; 0 before the first sample, NaN once a sample of
        positive weight had a prediction that is NaN or not what
        `from_logits` says, or a label out of range.

    Raises:
        ValueError: If an argument is out of its range, a shape does not fit,
            or, in a step that is not compiled, labels or predictions do not.

    Example:

    >>> metric = keras_mmrel.metrics.ExpectedCalibrationError(
    ...     bins=10, from_logits=False
    ... )
    >>> p = np.array([[0.8, 0.2]] * 5)
    >>> metric.update_state(np.array([0, 0, 0, 0, 1]), p)
    >>> round(float(metric.result()), 3)
    0.0

    References:
        - [Guo et al., 2017, On Calibration of Modern Neural
          Networks](https://arxiv.org/abs/1706.04599).
        - [Nixon et al., 2019, Measuring Calibration in Deep
          Learning](https://arxiv.org/abs/1904.01685), the class-wise and the
          adaptive form. The grid is this library's own choice.
    """

    def __init__(
        self,
        bins: int = 15,
        kind: str = "top_label",
        binning: str = "width",
        from_logits: bool = True,
        num_classes: int | None = None,
        name: str = "expected_calibration_error",
        dtype: DType = None,
    ) -> None:
        if kind == "class_wise" and num_classes is None:
            raise ValueError(
                "`num_classes` must be an integer of at least 2 for "
                f"kind='class_wise'. Received: num_classes={num_classes!r}"
            )
        super().__init__(name=name, dtype=dtype)
        self.bins = bins
        self.kind = kind
        self.binning = binning
        self.from_logits = from_logits
        self.num_classes = num_classes
        self._direction = "down"
        rows = num_classes if kind == "class_wise" else 1

        def sums(kind: str) -> Tensor:
            return self.add_variable(
                shape=(rows, bins * FINE),
                initializer="zeros",
                dtype="float32",
                name=kind,
            )

        self.weights_seen = sums("weights_seen")
        self.probabilities = sums("probabilities")
        self.true = sums("true")

    def update_state(
        self,
        y_true: Labels,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        batch = read_batch(y_true, y_pred, sample_weight, self.from_logits)
        self._check_classes(batch.scores.shape[-1])
        p = as_probabilities(batch.scores, self.from_logits)
        labels = batch.labels
        valid = ops.logical_not(ops.any(ops.isnan(p), axis=-1))
        valid = ops.logical_and(batch.valid, valid)
        weight = counted_weight(valid, sample_weight)[:, None]
        p = ops.where(valid[:, None], p, ops.zeros_like(p))
        if self.kind == "top_label":
            right = ops.equal(ops.argmax(p, axis=-1), ops.argmax(labels, -1))
            labels = ops.cast(right, "float32")[:, None]
            p = ops.max(p, axis=-1, keepdims=True)
        weight = weight * ops.ones_like(p)
        cells = self.bins * FINE
        # A probability on a border belongs to the bin below it.
        cell = ops.cast(ops.ceil(p * cells), "int32") - 1
        cell = ops.clip(cell, 0, cells - 1)
        rows, columns = self.weights_seen.shape
        row = ops.arange(rows, dtype="int32")[None]
        index = ops.reshape(cell + columns * row, (-1,))
        for state, values in (
            (self.weights_seen, weight),
            (self.probabilities, weight * p),
            (self.true, weight * labels),
        ):
            new = ops.segment_sum(
                ops.reshape(values, (-1,)), index, num_segments=rows * columns
            )
            state.assign_add(ops.reshape(new, (rows, columns)))

    def _check_classes(self, classes: int) -> None:
        if self.kind == "class_wise" and classes != self.num_classes:
            raise ValueError(
                f"`y_pred` must have {self.num_classes} classes, the "
                f"`num_classes` of this metric. Received: {classes}"
            )

    def result(self) -> Tensor:
        weights = ops.convert_to_tensor(self.weights_seen)
        gaps = ops.convert_to_tensor(self.probabilities) - self.true
        total = ops.sum(weights, axis=-1, keepdims=True)
        if self.binning == "width":
            shape = (weights.shape[0], self.bins, FINE)
            gaps = ops.sum(ops.reshape(gaps, shape), axis=-1)
        else:
            # The bin in which the middle of a cell's weight lies.
            middle = ops.cumsum(weights, axis=-1) - 0.5 * weights
            index = self.bins * middle / ops.maximum(total, 1e-12)
            index = ops.clip(ops.floor(index), 0, self.bins - 1)
            members = ops.one_hot(
                ops.cast(index, "int32"), self.bins, dtype="float32"
            )
            gaps = ops.einsum("rc,rcb->rb", gaps, members)
        errors = ops.sum(ops.abs(gaps), axis=-1, keepdims=True)
        return ops.mean(errors / ops.maximum(total, 1e-12))

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "bins": self.bins,
            "kind": self.kind,
            "binning": self.binning,
            "from_logits": self.from_logits,
            "num_classes": self.num_classes,
        }
