import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel._shapes import map_shapes
from keras_mmrel._shapes import with_batch
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import rows_to_numpy
from keras_mmrel.contract import to_numpy
from keras_mmrel.encoders._pooling import PADDING
from keras_mmrel.encoders._sequence_block import check_sequence
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer

# Bytes of an array that are read together.
CHUNK_BYTES = 1 << 22


class Moments:
    """Mean and sum of squares round it, of rows that come part by part."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Array = np.zeros(1)
        self.squares: Array = np.zeros(1)

    def add(self, rows: Array) -> None:
        """Take rows `(count, features)`."""
        if not len(rows):
            return
        rows = rows.astype("float64")
        # Chan's rule: sums of squares round the mean of all of them.
        own, total = rows.mean(axis=0), self.count + len(rows)
        between = np.square(own - self.mean) * self.count * len(rows) / total
        self.squares = self.squares + np.square(rows - own).sum(axis=0)
        self.squares = self.squares + between
        self.mean = self.mean + (own - self.mean) * len(rows) / total
        self.count = total


class Reached(Exception):
    """A layer that was to see values has seen them."""


@keras.saving.register_keras_serializable(package="keras_mmrel")
class FeatureScaling(TensorLayer):
    """Standardise features by what training samples have.

    Args:
        shape: Shape of a sample; statistics are of its last axis. Of a padded
            sequence a dict of two shapes: steps of padding count for nothing.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, shape: Any, **kwargs: Any) -> None:
        # Raw values may be more than float16 holds.
        super().__init__(autocast=False, **kwargs)
        self.shape = map_shapes(tuple, shape)
        # The name of a sequence's values.
        self.values = None
        if isinstance(self.shape, dict):
            self.values = check_sequence(map_shapes(with_batch, self.shape))
        last = self._of_values(self.shape)[-1:]
        self.mean = add_state(self, "mean", last)
        self.variance = add_state(self, "variance", last, "ones")
        self.count = add_state(self, "count")
        # What gets the inputs of a call, and ends it.
        self._seeing: Moments | None = None
        self.built = True

    @property
    def input_shape(self) -> Any:
        """Shape that is taken, batch axis included."""
        return map_shapes(with_batch, self.shape)

    def call(self, inputs: Any) -> Any:
        if self._seeing is not None:
            self._seeing.add(
                self._rows(keras.tree.map_structure(to_numpy, inputs))
            )
            raise Reached
        scaled = self._scaled(self._of_values(inputs))
        if self.values is None:
            return scaled
        there = ops.cast(inputs[PADDING], "bool")[:, :, None]
        # Zeros, as what is padded with.
        return {**inputs, self.values: ops.where(there, scaled, 0)}

    def _of_values(self, given: Any) -> Any:
        """The values, or their shape, of what may be a sequence."""
        return given if self.values is None else given[self.values]

    def _rows(self, arrays: Any) -> Array:
        """Rows `(count, features)` of samples, without padding."""
        values = self._of_values(arrays)
        if self.values is not None:
            return values[np.asarray(arrays[PADDING]).astype(bool)]
        return values.reshape(-1, values.shape[-1])

    def _scaled(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float32")
        mean = ops.convert_to_tensor(self.mean)
        variance = ops.convert_to_tensor(self.variance)
        if self.values is not None or len(self.shape) == 1:
            # Each number has a unit of its own; what varies by less than a
            # millionth of its size is rounding.
            varies = variance > ops.square(1e-6 * mean)
            deviation = ops.sqrt(ops.where(varies, variance, 1.0))
        else:
            # A band or a channel that hardly varies is not blown up.
            floor = 0.1 * ops.mean(ops.sqrt(variance))
            deviation = ops.sqrt(variance + ops.square(floor) + 1e-12)
        x = (x - mean) / deviation
        return ops.cast(x, self.compute_dtype)

    def adapt(self, inputs: Any, present: Array | None = None) -> None:
        """Take the statistics of samples; what was known is forgotten.

        Args:
            inputs: `(samples, *shape)`, or a dict of such, read in chunks.
            present: `(samples,)`, true for those that count.

        Raises:
            ValueError: If they have another shape, or one that counts is not
                finite.
        """
        count = self._count(inputs)
        if present is not None:
            present = np.asarray(present).astype(bool).reshape(-1)
            if len(present) != count:
                raise ValueError(
                    f"`present` must have one value a sample, {count}. "
                    f"Received: {len(present)}"
                )
        moments = Moments()
        first = rows_to_numpy(self._of_values(inputs), slice(1))
        step = max(1, CHUNK_BYTES // max(first.nbytes, 1))
        for start in range(0, count, step):
            rows = slice(start, start + step)
            kept = slice(None) if present is None else present[rows]
            chunk = keras.tree.map_structure(
                lambda x, rows=rows, kept=kept: rows_to_numpy(x, rows)[kept],
                inputs,
            )
            moments.add(self._rows(chunk))
        self._take(moments)

    def _count(self, inputs: Any) -> int:
        """Return the number of samples, if their shapes are right."""
        shapes = keras.tree.map_structure(lambda x: tuple(np.shape(x)), inputs)
        count = len(keras.tree.flatten(inputs)[0])
        if shapes != map_shapes(lambda shape: (count, *shape), self.shape):
            expected = map_shapes(lambda shape: ("samples", *shape), self.shape)
            shown = str(expected).replace("'samples'", "samples")
            raise ValueError(
                f"`inputs` must have the shape {shown}. Received: "
                f"shape={shapes}"
            )
        return count

    def adapt_inside(
        self, network: Callable[[Any], Any], parts: Iterable[Any]
    ) -> None:
        """Take the statistics of what a network hands to this layer.

        Args:
            network: Built layer that holds this one.
            parts: Inputs of the network, batch by batch.
        """
        self._seeing = Moments()
        try:
            for part in parts:
                # What comes after this layer need not run.
                with contextlib.suppress(Reached):
                    network(part)
            self._take(self._seeing)
        finally:
            self._seeing = None

    def _take(self, moments: Moments) -> None:
        if not np.isfinite(moments.squares).all():
            raise ValueError(
                "`inputs` must be finite where they count. Received: NaN or "
                "infinite values"
            )
        if moments.count:
            self.mean.assign(moments.mean)
            self.variance.assign(moments.squares / moments.count)
            self.count.assign(moments.count)

    def get_config(self) -> dict:
        return {**super().get_config(), "shape": map_shapes(list, self.shape)}
