import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import rows_to_numpy
from keras_mmrel.contract import to_numpy
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
        shape: Shape of a sample; statistics are of its last axis.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, shape: Sequence[int], **kwargs: Any) -> None:
        # Raw values may be more than float16 holds.
        super().__init__(autocast=False, **kwargs)
        self.shape = tuple(shape)
        self.mean = add_state(self, "mean", self.shape[-1:])
        self.variance = add_state(self, "variance", self.shape[-1:], "ones")
        self.count = add_state(self, "count")
        # What gets the inputs of a call, and ends it.
        self._seeing: Moments | None = None
        self.built = True

    @property
    def input_shape(self) -> tuple:
        """Shape that is taken, batch axis included."""
        return (None, *self.shape)

    def call(self, inputs: Tensor) -> Tensor:
        if self._seeing is not None:
            self._seeing.add(to_numpy(inputs).reshape(-1, self.shape[-1]))
            raise Reached
        x = ops.cast(inputs, "float32")
        mean = ops.convert_to_tensor(self.mean)
        variance = ops.convert_to_tensor(self.variance)
        if len(self.shape) == 1:
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

    def adapt(self, inputs: ArrayLike, present: Array | None = None) -> None:
        """Take the statistics of samples; what was known is forgotten.

        Args:
            inputs: `(samples, *shape)`, read in chunks.
            present: `(samples,)`, true for those that count.

        Raises:
            ValueError: If they have another shape, or one that counts is not
                finite.
        """
        shape = tuple(np.shape(inputs))
        if len(shape) < 2 or shape[1:] != self.shape:
            raise ValueError(
                "`inputs` must have the shape (samples, "
                f"{', '.join(map(str, self.shape))}). Received: shape={shape}"
            )
        if present is not None:
            present = np.asarray(present).astype(bool).reshape(-1)
            if len(present) != shape[0]:
                raise ValueError(
                    f"`present` must have one value a sample, {shape[0]}. "
                    f"Received: {len(present)}"
                )
        moments = Moments()
        first = rows_to_numpy(inputs, slice(1))
        step = max(1, CHUNK_BYTES // max(first.nbytes, 1))
        for start in range(0, len(inputs), step):
            rows = slice(start, start + step)
            chunk = rows_to_numpy(inputs, rows)
            if present is not None:
                chunk = chunk[present[rows]]
            moments.add(chunk.reshape(-1, self.shape[-1]))
        self._take(moments)

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
        return {**super().get_config(), "shape": list(self.shape)}
