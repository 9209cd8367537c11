from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel._branches import branches
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._host import HOST
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers._stack_features import without_missing
from keras_mmrel.portable import on_host
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer

# The running statistics count as that many samples where a gradient takes the
# batch's: what one sample alone says of them is no direction.
RUNNING_SAMPLES = 4.0


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(momentum=Number(0, 1, high_open=True), scale=Flag())
class RunningStandardization(TensorLayer):
    """Standardise every feature of every modality by running statistics.

    As in `keras.layers.BatchNormalization` the statistics move in calls with
    `training=True`, unless `trainable` is `False`. Otherwise it is the same in
    training and at inference: inputs are standardised by the running
    statistics, which have taken in the batch already, never by the batch's
    own, and no gradient flows into them. The deviation is
    `sqrt(variance + floor²)` with a tenth of the modality's mean deviation as
    `floor`, so that a feature that hardly moves is not blown up. A modality
    none of whose features varies tells nothing and becomes zero.

    Before the first batch inputs pass as they are. A missing modality does not
    count, nor does a batch with fewer than two samples of it. A model whose
    training samples are corrupted on purpose calls with `training=False` and
    gives clean ones to `update_statistics`.

    Args:
        momentum: Float in [0, 1), what a step keeps of the older statistics.
            The first `1 / (1 - momentum)` batches are averaged instead.
        scale: Whether to divide by the deviation after subtracting the mean.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Tensor `(batch, modalities, features)`.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        training: Whether the batch moves the statistics.

    Returns:
        Tensor of the same shape, zero where a modality is missing.

    Raises:
        ValueError: If `momentum` is outside [0, 1).

    Example:

    >>> layer = keras_mmrel.layers.RunningStandardization()
    >>> x = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 2, 4))
    >>> layer(x, training=True).shape
    (500, 2, 4)
    >>> bool(abs(keras.ops.mean(layer(x))) < 1e-3)
    True
    """

    def __init__(
        self, momentum: float = 0.9, scale: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.momentum = momentum
        self.scale = scale

    def build(self, input_shape: tuple) -> None:
        check_stacked(input_shape)
        shape = tuple(input_shape[1:])
        self.mean = add_state(self, "mean", shape)
        self.variance = add_state(self, "variance", shape, "ones")
        self.seen = add_state(self, "seen", shape[:1])

    def call(
        self,
        inputs: Tensor,
        modality_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        check_shape("inputs", inputs, "batch", *self.mean.shape)
        if training and self.trainable:
            self.update_statistics(inputs, modality_mask)
        mask = presence(modality_mask, inputs)
        x = ops.cast(inputs, "float32")
        return without_missing(self._standardized(x), mask)

    def with_batch_gradient(
        self, inputs: Tensor, modality_mask: Tensor | None = None
    ) -> Tensor:
        """Return what a call returns, with the gradient of the batch's moments.

        The running statistics follow whatever moves or scales a feature of
        all samples, so that a step in such a direction is lost, and the first
        steps of a training are nothing else. The gradient of a
        standardisation by the batch has no such part.

        Args:
            inputs: `(batch, modalities, features)`.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.

        References:
            - [Batch renormalization](https://arxiv.org/abs/1702.03275), for
              a gradient through the batch's moments under other values.
        """
        check_shape("inputs", inputs, "batch", *self.mean.shape)
        mask = presence(modality_mask, inputs)
        x = without_missing(ops.cast(inputs, "float32"), mask)
        x, batch, around = branches(x, 3)
        weight = mask[:, :, None]
        count = backend.all_reduce_sum(ops.sum(weight, axis=0))
        total = ops.maximum(count, 1.0)
        mean = backend.all_reduce_sum(ops.sum(weight * batch, axis=0)) / total
        squares = ops.sum(weight * ops.square(around - mean), axis=0)
        variance = backend.all_reduce_sum(squares) / total
        share = count / (count + RUNNING_SAMPLES)
        mean = share * mean + (1.0 - share) * self.mean
        variance = share * variance + (1.0 - share) * self.variance
        slope = self._standardized(x, mean, variance)
        values = self._standardized(x)
        z = slope + ops.stop_gradient(values - slope)
        return without_missing(z, mask)

    def _standardized(
        self,
        x: Tensor,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
    ) -> Tensor:
        """By the running statistics, or by others."""
        host = mean is None and variance is None and on_host(x)
        xp = HOST if host else ops
        values = xp.convert_to_tensor(x)
        own_mean = xp.convert_to_tensor(self.mean)
        own_variance = xp.convert_to_tensor(self.variance)
        centred = values - (own_mean if mean is None else mean)
        if self.scale:
            variance = own_variance if variance is None else variance
            spread = xp.mean(xp.sqrt(own_variance), axis=-1, keepdims=True)
            deviation = xp.sqrt(variance + xp.square(0.1 * spread) + 1e-12)
            # What varies by less than a hundred-thousandth of its size is
            # rounding.
            size = xp.mean(xp.abs(own_mean), axis=-1, keepdims=True)
            varies = xp.cast(spread > 1e-5 * size, "float32")
            centred = varies * (centred / deviation)
        return ops.convert_to_tensor(centred) if host else centred

    def update_statistics(
        self, inputs: Tensor, modality_mask: Tensor | None = None
    ) -> None:
        """Add a batch, as a call in training does.

        Args:
            inputs: `(batch, modalities, features)`.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.
        """
        if not self.built:
            self.build(tuple(inputs.shape))
        check_shape("inputs", inputs, "batch", *self.mean.shape)
        x = ops.stop_gradient(ops.cast(inputs, "float32"))
        weight = presence(modality_mask, x)[:, :, None]
        x = ops.where(weight > 0, x, ops.zeros_like(x))
        count = backend.all_reduce_sum(ops.sum(weight, axis=0))
        total = ops.maximum(count, 1.0)
        mean = backend.all_reduce_sum(ops.sum(weight * x, axis=0)) / total
        squares = ops.sum(weight * ops.square(x - mean), axis=0)
        variance = backend.all_reduce_sum(squares) / total
        # One sample has no variance.
        usable = ops.cast(count[:, 0] > 1, "float32")
        seen = ops.convert_to_tensor(self.seen)
        momentum = ops.minimum(seen / (seen + 1.0), self.momentum)
        keep = 1.0 - usable * (1.0 - momentum)
        for state, new in ((self.mean, mean), (self.variance, variance)):
            old = ops.convert_to_tensor(state)
            kept = keep[:, None]
            state.assign(kept * old + (1.0 - kept) * new)
        self.seen.assign(seen + usable)

    def adapt(self, inputs: Tensor) -> None:
        """Take the statistics of `inputs` `(samples, modalities, features)`.

        What was estimated before is forgotten.
        """
        check_shape("inputs", inputs, "samples", "modalities", "features")
        inputs = ops.convert_to_tensor(inputs)
        if self.built:
            self.seen.assign(np.zeros(self.seen.shape))
        self.update_statistics(inputs)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "scale": self.scale,
        }
