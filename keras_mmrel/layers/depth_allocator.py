from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import DEPTH
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    max_depth=DEPTH,
    quantiles=Every(Number(0, 1)),
    momentum=Number(0, 1, high_open=True),
)
class DepthAllocator(TensorLayer):
    """Turn the confidence of modalities into a depth for each of them.

    The scale is global: one low and one high quantile of the confidence of
    training samples, over all modalities together. As the statistics of
    `keras.layers.BatchNormalization` the quantiles move in calls with
    `training=True`, unless `trainable` is `False`, and the depth of such a call
    is on the scale that has taken in its batch already. At the low one and
    below depth is 0, from the high one on it is `max_depth`, and rounded in
    between. Where no present modality reaches depth 1, all present ones get
    it. A missing modality has depth 0 and does not count. Before the quantiles
    are known every present modality has full depth.

    Args:
        max_depth: Positive integer.
        quantiles: Pair of floats `(low, high)` in [0, 1].
        momentum: Float in [0, 1), what a step keeps of the older quantiles.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Confidence `(batch, modalities)` in [0, 1].
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        training: Whether the batch moves the quantiles.

    Returns:
        Tensor `(batch, modalities)` of whole numbers from 0 to `max_depth`,
        through which no gradient flows.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> allocator = keras_mmrel.layers.DepthAllocator(max_depth=4)
    >>> allocator(np.ones((1, 2))).shape
    (1, 2)

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489): globally
          confidence-normalised depth. The formula is this library's own.
    """

    def __init__(
        self,
        max_depth: int,
        quantiles: tuple[float, float] = (0.01, 0.05),
        momentum: float = 0.95,
        **kwargs: Any,
    ) -> None:
        check_quantiles(quantiles)
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.max_depth = max_depth
        self.quantiles = tuple(quantiles)
        self.momentum = momentum

    def build(self, input_shape: tuple) -> None:
        self.low = add_state(self, "low")
        self.high = add_state(self, "high")
        self.ready = add_state(self, "ready")

    def call(
        self,
        inputs: Tensor,
        modality_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        if training and self.trainable:
            self.update_statistics(inputs, modality_mask)
        check_shape("inputs", inputs, "batch", "modalities")
        confidence = ops.stop_gradient(ops.cast(inputs, "float32"))
        mask = presence(modality_mask, confidence)
        # Down from the high one: where both are the same, as with a saturated
        # confidence, rounding must not take the depth away.
        scale = ops.maximum(self.high - self.low, 1e-3)
        fraction = 1.0 - ops.clip((self.high - confidence) / scale, 0.0, 1.0)
        depth = ops.round(self.max_depth * fraction)
        depth = ops.where(self.ready > 0, depth, float(self.max_depth))
        depth = ops.where(mask > 0, ops.cast(depth, "float32"), 0.0)
        none = ops.max(depth, axis=1, keepdims=True) == 0
        return ops.where(none, mask, depth)

    def update_statistics(
        self,
        confidence: Tensor,
        modality_mask: Tensor | None = None,
        use: Tensor = 1.0,
    ) -> None:
        """Follow the quantiles of a batch, as a call in training does.

        A model that corrupts its training samples calls the layer with
        `training=False` and this with the confidence of clean ones.

        Args:
            confidence: `(batch, modalities)`, computed without dropout.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.
            use: 0 or 1, or a tensor of it: whether the batch counts.
        """
        if not self.built:
            self.build(tuple(confidence.shape))
        check_shape("confidence", confidence, "batch", "modalities")
        confidence = ops.stop_gradient(ops.cast(confidence, "float32"))
        present = ops.reshape(presence(modality_mask, confidence), (-1,))
        values = ops.reshape(confidence, (-1,))
        # Missing modalities are sorted behind all others.
        ordered = ops.sort(ops.where(present > 0, values, 2.0))
        count = ops.sum(present)
        # A replica without any present modality has no say.
        has = ops.cast(count > 0, "float32")
        replicas = backend.all_reduce_sum(has)
        ready = ops.convert_to_tensor(self.ready)
        keep = ops.where(ready > 0, self.momentum, 0.0)
        use = ops.logical_and(replicas > 0, use > 0)
        for weight, quantile in zip(
            (self.low, self.high), self.quantiles, strict=True
        ):
            index = ops.maximum(ops.floor(quantile * count) - 1.0, 0.0)
            value = ops.take(ordered, ops.cast(index, "int32"))
            value = backend.all_reduce_sum(value * has)
            value = value / ops.maximum(replicas, 1.0)
            old = ops.convert_to_tensor(weight)
            weight.assign(
                ops.where(use, keep * old + (1.0 - keep) * value, old)
            )
        self.ready.assign(ops.where(use, 1.0, ready))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "max_depth": self.max_depth,
            "quantiles": list(self.quantiles),
            "momentum": self.momentum,
        }


def check_quantiles(quantiles: tuple[float, float]) -> None:
    """Refuse anything but two numbers that rise."""
    if len(quantiles) != 2 or not quantiles[0] < quantiles[1]:
        raise ValueError(
            "`quantiles` must be an increasing pair in [0, 1]. Received: "
            f"quantiles={quantiles!r}"
        )
