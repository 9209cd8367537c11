import keras
from keras import ops

from keras_mmrel._branches import branches
from keras_mmrel.class_scores import as_tensor
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values
from keras_mmrel.losses._class_loss import counted


@keras.saving.register_keras_serializable(package="keras_mmrel")
class RankLoss(keras.losses.Loss):
    """Ask for less confidence where a sample has been harder so far.

    Every sample is compared with the next one of its batch, and the last
    with the first. Of the two, the one with the larger history must have a
    confidence that is smaller by at least the difference of the histories:
    with `s` the sign of `h_i - h_j`, the pair costs
    `relu(s * (c_i - c_j) + |h_i - h_j|)`. Equal histories say nothing about
    the order and cost nothing, and so does a batch of one sample.

    A `sample_weight` is one weight a sample. A pair counts by the geometric
    mean of its two weights, so that one with a weight of 0 takes part in no
    pair, and doubling all weights doubles the loss.

    Args:
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation; `None` means Keras' default.

    Call arguments:
        y_true: Histories in [0, 1] of shape `(batch,)`, or
            `(batch, modalities)`, whose columns are ranked each by itself.
        y_pred: Confidences of the same shape.
        sample_weight: `None`, `(batch,)`, or the shape of `y_true`.

    Raises:
        ValueError: If a shape does not fit, or, in a step that is not
            compiled, a weight is negative or not finite.

    Returns:
        One loss for every pair, at the place of its first sample, reduced by
        `reduction`.

    Example:

    >>> loss = keras_mmrel.losses.RankLoss()
    >>> history = np.array([0.0, 1.0])
    >>> float(loss(history, np.array([0.5, 0.5])))
    1.0
    >>> float(loss(history, np.array([1.0, 0.0])))
    0.0

    References:
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050). The released
          code subtracts the margin, so that a pair in the wrong order by
          less than that costs nothing; here it is added.
        - [Moon et al., 2020, Confidence-Aware Learning for Deep Neural
          Networks](https://arxiv.org/abs/2007.01458), where the pairs come
          from. Weights of pairs are this library's own choice.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "rank_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def __call__(
        self,
        y_true: Labels,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        y_true = as_tensor(y_true, "`y_true`")
        y_pred = as_tensor(y_pred, "`y_pred`")
        shapes = tuple(y_true.shape), tuple(y_pred.shape)
        unlike = any(
            None not in sizes and sizes[0] != sizes[1]
            for sizes in zip(*shapes, strict=False)
        )
        if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) not in (1, 2):
            unlike = True
        if unlike:
            raise ValueError(
                "`y_true` and `y_pred` must have one shape, (batch,) or "
                f"(batch, modalities). Received: y_true.shape={shapes[0]}, "
                f"y_pred.shape={shapes[1]}"
            )
        if sample_weight is not None:
            if known_values(sample_weight) is not None:
                counted(sample_weight, y_pred)
            weight = ops.relu(ops.convert_to_tensor(sample_weight, self.dtype))
            if len(weight.shape) == 1 and len(y_pred.shape) == 2:
                # One weight a sample, for all of its modalities.
                weight = weight[:, None] * ops.ones_like(
                    ops.cast(y_pred, self.dtype)
                )
            sample_weight = ops.sqrt(weight * ops.roll(weight, -1, axis=0))
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Labels, y_pred: Tensor) -> Tensor:
        history = y_true - ops.roll(y_true, -1, axis=0)
        own, other = branches(y_pred, 2)
        confidence = own - ops.roll(other, -1, axis=0)
        return ops.relu(ops.sign(history) * confidence + ops.abs(history))
