import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy
from keras_mmrel.layers._checks import check_modality_tensors
from keras_mmrel.layers._inputs import ModalityShapes
from keras_mmrel.layers._inputs import check_samples
from keras_mmrel.layers._inputs import is_float
from keras_mmrel.layers._inputs import mask_of
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer

# Beyond any value that a check of finite inputs lets through.
HUGE = 3e38


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(margin=Number(0), threshold=Number(0, 1))
class RangeControl(TensorLayer):
    """Notice bad inputs by the range of the training data alone.

    The strongest cheap control: what a method for reliable fusion adds, it
    should add beyond this. A feature outside the range that it had in
    training, widened by `margin` of its width at both ends, goes to its
    training mean. A modality of which far fewer features are in their range
    than of the sample's best present modality, less than `threshold` times
    as many, is announced as missing. The best one is never, so a sample
    keeps a modality.

    Statistics are one a feature: lowest and highest value, sum, and the
    number of samples. They are those of the present samples alone, and the
    same whether the samples come at once, in batches, or over replicas. In
    training a batch is added before it is used; `update_statistics` adds one
    at any time, and `adapt` takes those of given data. Before the first
    sample all passes as it is.

    Integer tensors (token numbers, but images of bytes too: make them
    floating), nested inputs, and tensors with a dimension beside the batch
    that varies pass unchanged and count as in range. A sample with NaN or
    infinity in a modality does not enter its statistics in training; `adapt`
    refuses it.

    Args:
        margin: Number of at least 0.
        threshold: Number in [0, 1]; with 0 nothing is announced.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Dict of modality name -> tensor with the batch first, with or
            without `"modality_mask"` `(batch, modalities)`, whose columns are
            in the order of the dict. A missing modality may hold NaN.
        training: Whether to add the batch to the statistics first, unless the
            layer is frozen (`trainable=False`).

    Returns:
        Dict of the same tensors, and `"modality_mask"`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> control = keras_mmrel.layers.RangeControl()
    >>> x = np.random.default_rng(0).uniform(size=(100, 4))
    >>> control.adapt({"a": x, "b": x})
    >>> bad = {"a": np.full((1, 4), 0.5), "b": np.full((1, 4), 7.0)}
    >>> out = control(bad)
    >>> keras.ops.convert_to_numpy(out["modality_mask"])
    array([[1., 0.]], dtype=float32)
    >>> bool(abs(out["b"] - 0.5).max() < 0.1)
    True
    """

    def __init__(
        self, margin: float = 0.05, threshold: float = 0.85, **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.margin = margin
        self.threshold = threshold

    def build(self, input_shape: Mapping[str, Any]) -> None:
        self.modality_shapes = ModalityShapes(input_shape)
        self.count, self.total, self.low, self.high = {}, {}, {}, {}
        for index, name in enumerate(input_shape):
            if name in self.modality_shapes.fixed:
                shape = self.modality_shapes.fixed[name]
                self.count[name] = add_state(self, f"count_{index}")
                self.total[name] = add_state(self, f"sum_{index}", shape)
                self.low[name] = add_state(self, f"low_{index}", shape)
                self.high[name] = add_state(self, f"high_{index}", shape)

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        self.modality_shapes.check(inputs)
        if training and self.trainable:
            self.update_statistics(inputs)
        mask = mask_of(inputs)
        values, fractions = {}, []
        for index, (name, x) in enumerate(modality_arrays(inputs).items()):
            values[name], fraction = x, ops.ones_like(mask[:, index])
            if self._is_controlled(name, x):
                values[name], fraction = self._control(name, x)
            fractions.append(fraction)
        fraction = ops.stack(fractions, axis=1)
        best = ops.max(fraction * mask, axis=1, keepdims=True)
        kept = ops.cast(fraction >= self.threshold * best, "float32")
        announced = mask * kept
        if inputs.get(MASK) is not None:
            announced = ops.cast(announced, inputs[MASK].dtype)
        return {**values, MASK: announced}

    def _is_controlled(self, name: str, x: Tensor) -> bool:
        return name in self.modality_shapes.fixed and is_float(x)

    def _control(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the controlled values, and the fraction that was in range."""
        count, total, low, high = (
            ops.convert_to_tensor(state[name])
            for state in (self.count, self.total, self.low, self.high)
        )
        wide = ops.cast(x, "float32")
        slack = self.margin * (high - low)
        inside = ops.logical_and(wide >= low - slack, wide <= high + slack)
        # Before the first sample there is no range, even for NaN.
        inside = ops.logical_or(inside, count < 1)
        # Rounding may carry the mean of a constant beyond it.
        mean = ops.clip(total / ops.maximum(count, 1.0), low, high)
        size = math.prod(self.modality_shapes.fixed[name])
        rows = ops.reshape(ops.cast(inside, "float32"), (-1, size))
        fraction = ops.mean(rows, axis=1)
        mean = ops.cast(mean, x.dtype)
        return ops.where(inside, x, mean), fraction

    def update_statistics(self, inputs: Modalities) -> None:
        """Add a batch.

        Args:
            inputs: As in a call.
        """
        if not self.built:
            self.build(keras.tree.map_structure(lambda x: x.shape, inputs))
        self.modality_shapes.check(inputs)
        mask = mask_of(inputs)
        for index, (name, x) in enumerate(modality_arrays(inputs).items()):
            if self._is_controlled(name, x):
                self._add(name, x, mask[:, index])

    def _add(self, name: str, x: Tensor, present: Tensor) -> None:
        x = ops.stop_gradient(ops.cast(x, "float32"))
        shape = (-1, *[1] * len(self.modality_shapes.fixed[name]))
        # A sample that is not finite has no range, and must not stay in it.
        finite = ops.all(
            ops.reshape(
                ops.isfinite(x),
                (-1, math.prod(self.modality_shapes.fixed[name])),
            ),
            axis=1,
        )
        present = present * ops.cast(finite, present.dtype)
        there = ops.reshape(present, shape) > 0

        def where_present(other: float) -> Tensor:
            return ops.where(there, x, ops.full_like(x, other))

        added = backend.all_reduce_sum(ops.sum(present))
        total = backend.all_reduce_sum(ops.sum(where_present(0.0), axis=0))
        high = backend.all_reduce_max(ops.max(where_present(-HUGE), axis=0))
        low = -backend.all_reduce_max(-ops.min(where_present(HUGE), axis=0))
        old_low = ops.convert_to_tensor(self.low[name])
        old_high = ops.convert_to_tensor(self.high[name])
        count = ops.convert_to_tensor(self.count[name])
        low = ops.where(count > 0, ops.minimum(old_low, low), low)
        high = ops.where(count > 0, ops.maximum(old_high, high), high)
        # A batch without a present sample has no range.
        self.low[name].assign(ops.where(added > 0, low, old_low))
        self.high[name].assign(ops.where(added > 0, high, old_high))
        self.total[name].assign(ops.convert_to_tensor(self.total[name]) + total)
        self.count[name].assign(count + added)

    def adapt(self, inputs: Modalities) -> None:
        """Take the statistics of some samples and forget all others.

        Args:
            inputs: As in a call, but of arrays or eager tensors.

        Raises:
            ValueError: If the inputs are none, hold no sample or not the same
                number of them, a value of a present modality is not finite,
                or a mask holds other values than 0 and 1.
        """
        check_modality_tensors(inputs)
        inputs, _, _ = read_tables(dict(inputs))
        inputs = keras.tree.map_structure(to_numpy, inputs)
        check_samples(inputs)
        if not self.built:
            self.build(keras.tree.map_structure(lambda a: a.shape, inputs))
        for states in (self.count, self.total):
            for state in states.values():
                state.assign(np.zeros(state.shape))
        self.update_statistics(
            keras.tree.map_structure(ops.convert_to_tensor, inputs)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "margin": self.margin,
            "threshold": self.threshold,
        }
