from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import rows_to_numpy
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer

# Bytes of an array that are read together.
CHUNK_BYTES = 1 << 22


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
        self.built = True

    @property
    def input_shape(self) -> tuple:
        """Shape that is taken, batch axis included."""
        return (None, *self.shape)

    def call(self, inputs: Tensor) -> Tensor:
        x = ops.cast(inputs, "float32")
        variance = ops.convert_to_tensor(self.variance)
        # What hardly varies is not blown up.
        floor = 0.1 * ops.mean(ops.sqrt(variance))
        deviation = ops.sqrt(variance + ops.square(floor) + 1e-12)
        x = (x - ops.convert_to_tensor(self.mean)) / deviation
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
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        first = rows_to_numpy(inputs, slice(1))
        step = max(1, CHUNK_BYTES // max(first.nbytes, 1))
        for start in range(0, len(inputs), step):
            rows = slice(start, start + step)
            chunk = rows_to_numpy(inputs, rows)
            if present is not None:
                chunk = chunk[present[rows]]
            chunk = chunk.reshape(-1, self.shape[-1]).astype("float64")
            if not len(chunk):
                continue
            # Chan's rule: sums of squares round the mean of all of them.
            own, total = chunk.mean(axis=0), count + len(chunk)
            between = np.square(own - mean) * count * len(chunk) / total
            squares = squares + np.square(chunk - own).sum(axis=0) + between
            mean = mean + (own - mean) * len(chunk) / total
            count = total
        if not np.isfinite(squares).all():
            raise ValueError(
                "`inputs` must be finite where they count. Received: NaN or "
                "infinite values"
            )
        if count:
            self.mean.assign(mean)
            self.variance.assign(squares / count)
            self.count.assign(count)

    def get_config(self) -> dict:
        return {**super().get_config(), "shape": list(self.shape)}
