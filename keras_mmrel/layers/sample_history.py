from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import SAMPLES
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(num_samples=SAMPLES, columns=SIZE)
class SampleHistory(TensorLayer):
    """Remember a running sum for each training sample, such as its losses.

    Samples are known by an id in [0, `num_samples`), the same in every epoch
    and whatever the order of the batches. `update_statistics` adds to the
    sums, `read` returns them on a scale from 0 (the smallest of all samples
    seen so far) to 1 (the largest), each column by itself; where all are
    equal, and for a sample that was never seen, it returns 0.

    Nothing moves the sums but `update_statistics`: call it where the values
    are known, in a model's `compute_loss` for example.

    The sums are weights, so they are saved with the model. Replicas add the
    contributions of all of them, which moves `num_samples * columns * 2`
    numbers a step, and only there.

    An id outside the range counts as one that was never seen, as a compiled
    step cannot raise: it is not written, a call answers 0 for it, and
    `outside` counts those that were to be written. A value that is not
    finite is not added.

    Args:
        num_samples: Positive integer, the number of samples there is room
            for.
        columns: Positive integer, the number of sums a sample has, such as
            one a modality.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        ids: Integer tensor `(batch,)` or `(batch, 1)`.

    Returns:
        What `read` does: `(batch, columns)` in [0, 1].

    Raises:
        ValueError: If an argument is not a positive integer.

    Example:

    >>> history = keras_mmrel.layers.SampleHistory(num_samples=10)
    >>> losses = np.array([[3.0], [1.0], [2.0]])
    >>> history.update_statistics(np.array([7, 2, 5]), losses)
    >>> [float(h) for h in history(np.array([2, 5, 7, 0]))[:, 0]]
    [0.0, 0.5, 1.0, 0.0]
    """

    shapes = (("batch",), ("batch", "1"))

    def __init__(
        self, num_samples: int, columns: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_samples = num_samples
        self.columns = columns
        shape = (num_samples, columns)
        self.sums = add_state(self, "sums", shape)
        self.counts = add_state(self, "counts", shape)
        self.outside = add_state(self, "outside")
        self.built = True

    def update_statistics(
        self, ids: Tensor, values: Tensor, present: Tensor | None = None
    ) -> None:
        """Add to the sums of some samples.

        Args:
            ids: Integer tensor `(batch,)` or `(batch, 1)`.
            values: `(batch, columns)`.
            present: `None` or `(batch, columns)`; where it is 0 the value
                does not exist.
        """
        rows, inside = self._rows(ids)
        check_shape("values", values, rows.shape[0] or "batch", self.columns)
        if present is not None:
            check_shape("present", present, "batch", self.columns)
        values = ops.stop_gradient(ops.cast(values, "float32"))
        counted = ops.logical_and(ops.isfinite(values), inside[:, None])
        if present is not None:
            present = ops.cast(present, "float32") > 0
            counted = ops.logical_and(counted, present)
        values = ops.where(counted, values, ops.zeros_like(values))
        added = ops.segment_sum(
            ops.concatenate([values, ops.cast(counted, "float32")], axis=1),
            rows,
            num_segments=self.num_samples,
        )
        added = backend.all_reduce_sum(added)
        self.sums.assign_add(added[:, : self.columns])
        self.counts.assign_add(added[:, self.columns :])
        outside = 1.0 - ops.cast(inside, "float32")
        self.outside.assign_add(backend.all_reduce_sum(ops.sum(outside)))

    def read(self, ids: Tensor) -> Tensor:
        """Return the sums of some samples on a scale from 0 to 1.

        Args:
            ids: Integer tensor `(batch,)` or `(batch, 1)`.

        Returns:
            `(batch, columns)`.
        """
        rows, inside = self._rows(ids)
        sums = ops.convert_to_tensor(self.sums)
        seen = ops.convert_to_tensor(self.counts) > 0
        infinite = ops.full_like(sums, float("inf"))
        low = ops.min(ops.where(seen, sums, infinite), axis=0)
        high = ops.max(ops.where(seen, sums, -infinite), axis=0)
        spread = high > low
        low = ops.where(spread, low, ops.zeros_like(low))
        span = ops.where(spread, high - low, ops.ones_like(low))
        known = ops.logical_and(ops.take(seen, rows, axis=0), inside[:, None])
        values = (ops.take(sums, rows, axis=0) - low) / span
        return ops.where(
            ops.logical_and(known, spread), values, ops.zeros_like(values)
        )

    def call(self, ids: Tensor) -> Tensor:
        return self.read(ids)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.columns)

    def reset(self) -> None:
        """Forget all samples, before a training on other data."""
        for weight in (self.sums, self.counts, self.outside):
            weight.assign(ops.zeros(weight.shape))

    def _rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Ids that can be used as indices, and which of them were in range."""
        ids = ops.convert_to_tensor(ids)
        dtype = keras.backend.standardize_dtype(ids.dtype)
        if not keras.backend.is_int_dtype(dtype):
            raise refused(
                "`ids` must be integers of shape (batch,) or (batch, 1)",
                f"dtype={dtype}",
            )
        if len(ids.shape) != 1:
            check_shape("ids", ids, "batch", 1)
        ids = ops.reshape(ids, (-1,))
        inside = ops.logical_and(ids >= 0, ids < self.num_samples)
        rows = ops.where(inside, ids, ops.zeros_like(ids))
        return ops.cast(rows, "int32"), inside

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_samples": self.num_samples,
            "columns": self.columns,
        }
