from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import LARGEST
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.state import add_state


class BatchWatch(keras.layers.Layer):
    """Counts inside the step what no check before it can see.

    Data in memory are checked before the first step, but of a pipeline only
    the first batch. Whatever is wrong in a later one is counted here, kept
    from doing damage, and ends the epoch with a sentence, before the user's
    callbacks keep a checkpoint of it.

    Args:
        names: Modalities, in the order of the mask's columns.
        num_classes: Number of classes.
        limit: Largest size of a value that is no integer.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        names: list[str],
        num_classes: int,
        limit: float = LARGEST,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "batch_watch", **kwargs})
        self.limit = limit
        self.names = names
        self.num_classes = num_classes
        # Values of each modality, of the mask, of labels and of weights.
        columns = (len(names) + 3,)
        self.training_counts = add_state(self, "training_counts", columns)
        self.evaluation_counts = add_state(self, "evaluation_counts", columns)
        self.built = True

    # -- In the step ---------------------------------------------------------

    def look(
        self,
        x: Modalities | None,
        y: Labels,
        sample_weight: Tensor,
        training: bool,
    ) -> tuple[Labels, Tensor]:
        """Count what is wrong in a batch.

        Returns:
            Labels, and sample weights, that break no weight of the model:
            those that are wrong are replaced by class 0 and by 0.
        """
        counts = self._count_inputs(x or {})
        y, wrong_labels = self.usable_labels(y)
        sample_weight, wrong_weights = _usable_weights(sample_weight)
        counts = ops.stack([*counts, wrong_labels, wrong_weights])
        self.counts(training).assign_add(backend.all_reduce_sum(counts))
        return y, sample_weight

    def _count_inputs(self, x: Modalities) -> list[Tensor]:
        none = ops.zeros(())
        mask = x.get(MASK)
        present, wrong_mask = None, none
        if mask is not None:
            mask = ops.cast(mask, "float32")
            present = mask > 0
            wrong_mask = _count((mask != 0) & (mask != 1))
        counts = []
        for index, name in enumerate(self.names):
            there = None if present is None else present[:, index]
            leaves = keras.tree.flatten(x[name]) if name in x else []
            wrong = (_count_wrong(v, there, self.limit) for v in leaves)
            counts.append(sum(wrong, none))
        return [*counts, wrong_mask]

    def usable_labels(self, y: Labels) -> tuple[Labels, Tensor]:
        """Labels that no loss or metric fails at, and how many were others."""
        if y is None:
            return y, ops.zeros(())
        y = ops.convert_to_tensor(y)
        if keras.backend.standardize_dtype(y.dtype) == "bool":
            y = ops.cast(y, "int32")
        if len(y.shape) == 2 and y.shape[1] == self.num_classes:
            rows = ops.cast(y, "float32")
            sums = ops.sum(rows, axis=1)
            wrong = ops.isnan(sums) | (ops.abs(sums - 1.0) > 1e-3)
            wrong = wrong | ops.any(rows < 0, axis=1)
            uniform = ops.ones_like(y) / self.num_classes
            uniform = ops.cast(uniform, y.dtype)
            return ops.where(wrong[:, None], uniform, y), _count(wrong)
        wrong = (y < 0) | (y >= self.num_classes)
        return ops.where(wrong, ops.zeros_like(y), y), _count(wrong)

    # -- Between the steps ---------------------------------------------------

    def counts(self, training: bool) -> Any:
        return self.training_counts if training else self.evaluation_counts

    def reset(self, training: bool) -> None:
        """Forget what was counted, before an epoch or an evaluation."""
        counts = self.counts(training)
        counts.assign(np.zeros(counts.shape))

    def stop_if_wrong(self, training: bool) -> None:
        """Refuse what was counted.

        Raises:
            ValueError: For the first kind of which there is any.
        """
        where = "this epoch" if training else "the evaluated data"
        counts = ops.convert_to_numpy(self.counts(training))
        for index, count in enumerate(counts):
            if count:
                raise ValueError(
                    f"{self._expected(index)}. Received: {count:.0f} other "
                    f"values in batches of {where} after the first"
                )

    def _expected(self, index: int) -> str:
        if index < len(self.names):
            return (
                f"Modality '{self.names[index]}' must be finite, and at most "
                f"{self.limit:g} in size, where it is present; set '{MASK}' "
                "to 0 for a missing one, or impute"
            )
        return (
            f"'{MASK}' must hold only 0 (missing) and 1 (present)",
            f"`y` must hold class numbers in [0, {self.num_classes}), or "
            "non-negative rows that sum to 1",
            "`sample_weight` must be finite and not negative",
        )[index - len(self.names)]

    def call(self, inputs: Tensor) -> Tensor:
        return inputs


def _count(wrong: Tensor) -> Tensor:
    return ops.sum(ops.cast(wrong, "float32"))


def _count_wrong(x: Tensor, present: Tensor | None, limit: float) -> Tensor:
    """Number of values that are no usable numbers, where there are any."""
    floating = keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    )
    wrong = unusable(x, limit if floating else LARGEST)
    if present is not None:
        present = ops.reshape(present, (-1, *[1] * (len(x.shape) - 1)))
        wrong = ops.logical_and(wrong, present)
    return _count(wrong)


def unusable(x: Tensor, limit: float) -> Tensor:
    """Where `x` is NaN, or of a size beyond `limit`.

    Not the negation of a comparison: XLA turns that round, and NaN is lost.
    """
    x = ops.cast(x, "float32")
    return ops.logical_or(ops.isnan(x), ops.abs(x) > limit)


def _usable_weights(sample_weight: Tensor) -> tuple[Tensor, Tensor]:
    if sample_weight is None:
        return None, ops.zeros(())
    weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
    infinite = ops.isnan(weight) | (ops.abs(weight) == float("inf"))
    wrong = infinite | (weight < 0) | (weight > LARGEST)
    return ops.where(wrong, ops.zeros_like(weight), weight), _count(wrong)
