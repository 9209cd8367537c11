import keras
from keras import ops

from keras_mmrel.class_scores import as_tensor
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._batch import read_batch
from keras_mmrel.metrics._counted_weight import counted_weight

SCORES = ("accuracy", "probability")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    num_modalities=Integer(2), score=Choice(*SCORES), from_logits=Flag()
)
class ModalityImbalance(keras.metrics.Metric):
    """How far the weakest modality lags behind the strongest one.

    `1 - min_m s_m / max_m s_m`, with `s_m` the score of modality m by itself:
    0 if all do equally well, towards 1 if one has learnt nothing.

    With `score="accuracy"` it is `1 - 1 / r`, where r is the
    `val_modality_imbalance` of `keras_mmrel.callbacks.ModalityMonitor`. With
    `score="probability"` and two modalities r is the discrepancy ratio of
    OGM-GE, or one over it, whichever is larger.

    It takes the `modality_logits` of a model's output, whereas the metrics
    that `compile` of the library's models takes get the fused logits: call it
    on what `predict` returns, as below, or use `ModalityMonitor` while a
    model trains.

    Args:
        num_modalities: Integer of at least 2: one has nothing to lag behind.
        score: `"accuracy"`, or `"probability"`, the mean probability of the
            true class.
        from_logits: Whether predictions are logits, as in every model of the
            library, rather than probabilities.
        name: Name of the metric.
        dtype: Dtype of the result.

    Call arguments:
        y_true: Integer labels `(batch,)` or one-hot rows `(batch, classes)`.
        y_pred: `(batch, modalities, classes)`.
        sample_weight: `None`, `(batch,)` or `(batch, modalities)`, such as a
            `modality_mask`. Non-negative. Each modality is scored on the
            samples that have it.

    Returns:
        Scalar in [0, 1]. NaN where it is not defined: as long as fewer than
        two modalities have been seen or none has a positive score, and once
        a prediction of positive weight was NaN or not what `from_logits`
        says, or had a label out of range.

    Raises:
        ValueError: If an argument is out of its range, a shape does not fit,
            or, in a step that is not compiled, labels or predictions do not.

    Example:

    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (4,)}, 3)
    >>> x = {"a": np.ones((6, 8)), "b": np.ones((6, 4))}
    >>> y = np.array([0, 1, 2, 0, 1, 2])
    >>> outputs = model.predict(x, verbose=0)
    >>> metric = keras_mmrel.metrics.ModalityImbalance(2)
    >>> metric.update_state(y, outputs["modality_logits"])
    >>> float(metric.result())  # both are right in two of six cases
    0.0

    References:
        - [Peng et al., 2022, Balanced Multimodal Learning via On-the-fly
          Gradient Modulation](https://arxiv.org/abs/2203.15332), the ratio.
          One minus the smaller over the larger, for any number of
          modalities, is this library's own choice.
    """

    def __init__(
        self,
        num_modalities: int,
        score: str = "accuracy",
        from_logits: bool = True,
        name: str = "modality_imbalance",
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_modalities = num_modalities
        self.score = score
        self.from_logits = from_logits
        self._direction = "down"

        def sums(name: str) -> Tensor:
            return self.add_variable(
                shape=(num_modalities,),
                initializer="zeros",
                dtype="float32",
                name=name,
            )

        self.weights_seen = sums("weights_seen")
        self.scores = sums("scores")

    def update_state(
        self,
        y_true: Labels,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        y_pred = as_tensor(y_pred, "`y_pred`")
        shape = tuple(y_pred.shape)
        if len(shape) != 3 or shape[1] != self.num_modalities:
            raise ValueError(
                "`y_pred` must be the `modality_logits`, of shape (batch, "
                f"{self.num_modalities}, classes). Received: "
                f"y_pred.shape={shape}"
            )
        # The order of the classes is the same in logits and probabilities.
        told = None if self.score == "accuracy" else self.from_logits
        batch = read_batch(y_true, y_pred, sample_weight, told, rank=3)
        y_pred, labels, valid, _ = batch
        if self.score == "accuracy":
            right = ops.equal(
                ops.argmax(y_pred, axis=-1), ops.argmax(labels, axis=-1)
            )
            score = ops.cast(right, "float32")
        else:
            p = ops.softmax(y_pred, axis=-1) if self.from_logits else y_pred
            score = ops.sum(labels * p, axis=-1)
        valid = ops.logical_and(valid, ops.logical_not(ops.isnan(score)))
        weight = counted_weight(valid, sample_weight)
        score = ops.where(valid, score, ops.zeros_like(score))
        self.weights_seen.assign_add(ops.sum(weight, axis=0))
        self.scores.assign_add(ops.sum(weight * score, axis=0))

    def result(self) -> Tensor:
        weights = ops.convert_to_tensor(self.weights_seen)
        seen = weights > 0
        means = ops.convert_to_tensor(self.scores) / ops.where(
            seen, weights, ops.ones_like(weights)
        )
        largest = ops.max(ops.where(seen, means, ops.zeros_like(means)))
        smallest = ops.min(ops.where(seen, means, largest))
        known = ops.logical_and(
            ops.sum(ops.cast(seen, "int32")) > 1, largest > 0
        )
        known = ops.logical_and(
            known, ops.logical_not(ops.any(ops.isnan(weights)))
        )
        value = 1.0 - smallest / ops.where(known, largest, 1.0)
        value = ops.where(known, value, ops.full_like(value, float("nan")))
        return ops.cast(value, self.dtype)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_modalities": self.num_modalities,
            "score": self.score,
            "from_logits": self.from_logits,
        }
