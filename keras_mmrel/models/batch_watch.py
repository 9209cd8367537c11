from collections.abc import Mapping
from collections.abc import Sequence
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
from keras_mmrel.encoders._vocabulary import expected_tokens
from keras_mmrel.encoders._vocabulary import tokens_of
from keras_mmrel.encoders._vocabulary import unknown
from keras_mmrel.models.seen_values import SeenValues
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
        side_names: What training takes beside modalities.
        vocabularies: Modality -> name of an input of its encoder -> how many
            numbers it may be.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        names: list[str],
        num_classes: int,
        limit: float = LARGEST,
        side_names: Sequence[str] = (),
        vocabularies: Mapping[str, Mapping[str, int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "batch_watch", **kwargs})
        self.limit = limit
        self.names = names
        self.num_classes = num_classes
        self.side_names = list(side_names)
        self.vocabularies = dict(vocabularies or {})
        # Values of each modality, of the mask, of labels and of weights that
        # are wrong; then samples, and what there is of them: in training the
        # modalities that they have, in evaluation those that count.
        counts = (len(names) + 5,)
        self.training_counts = add_state(self, "training_counts", counts)
        self.evaluation_counts = add_state(self, "evaluation_counts", counts)
        # Of each side input what `SeenValues` says, as maxima.
        if side_names:
            self.side_extremes = add_state(
                self, "side_extremes", (len(side_names), 4)
            )
        self.built = True

    # -- In the step ---------------------------------------------------------

    def look(
        self,
        x: Modalities | None,
        y: Labels,
        sample_weight: Tensor,
        training: bool,
    ) -> tuple[Labels, Tensor, Tensor]:
        """Count what is wrong in a batch.

        Returns:
            Labels, and sample weights, that break no weight of the model:
            those that are wrong are replaced by class 0 and by 0. And which
            samples count, 0 or 1 `(batch, 1)`.
        """
        counted = self.counted(y, sample_weight)
        samples = ops.cast(ops.shape(y)[0], "float32")
        counts, present = self._count_inputs(x or {}, samples)
        y, wrong_labels = self.usable_labels(y)
        sample_weight, wrong_weights = self.usable_weights(sample_weight)
        counts = [*counts, _count(wrong_labels), wrong_weights]
        if sample_weight is not None:
            sample_weight = ops.where(counted[:, 0] > 0, sample_weight, 0.0)
        counts += [samples, present if training else ops.sum(counted)]
        self.counts(training).assign_add(
            backend.all_reduce_sum(ops.stack(counts))
        )
        return y, sample_weight, counted

    def counted(self, y: Labels, sample_weight: Tensor) -> Tensor:
        """Which samples count, as 0 or 1 `(batch, 1)` in float32.

        One of weight 0 does not, nor one whose label or weight is wrong.
        """
        _, wrong = self.usable_labels(y)
        counted = ops.logical_not(ops.reshape(wrong, (-1, 1)))
        weight, _ = self.usable_weights(sample_weight)
        if weight is not None:
            counted = counted & (weight[:, None] > 0)
        return ops.cast(counted, "float32")

    def _count_inputs(
        self, x: Modalities, samples: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        none = ops.zeros(())
        mask = x.get(MASK)
        present, wrong_mask = None, none
        number = samples * len(self.names)
        if mask is not None:
            mask = ops.convert_to_tensor(mask, "float32")
            present = mask > 0
            number = _count(present)
            wrong_mask = _count((mask != 0) & (mask != 1))
        counts = []
        for index, name in enumerate(self.names):
            there = None if present is None else present[:, index]
            leaves = keras.tree.flatten(x[name]) if name in x else []
            wrong = (_count_wrong(v, there, self.limit) for v in leaves)
            counts.append(sum(wrong, none))
            for part, size in self.vocabularies.get(name, {}).items():
                tokens = tokens_of(x.get(name), part)
                if tokens is not None:
                    other = unknown(ops.cast(tokens, "float32"), size)
                    counts[-1] += _count_where(other, there)
        return [*counts, wrong_mask], number

    def look_aside(self, x: Mapping[str, Tensor]) -> None:
        """Keep what is special about the side inputs of a training batch."""
        if not self.side_names:
            return
        rows = [
            ops.full((4,), -LARGEST) if x.get(n) is None else _maxima(x[n])
            for n in self.side_names
        ]
        maxima = backend.all_reduce_max(ops.stack(rows))
        self.side_extremes.assign(ops.maximum(self.side_extremes, maxima))

    def usable_labels(self, y: Labels) -> tuple[Labels, Tensor]:
        """Labels that no loss or metric fails at, and where were others."""
        if y is None:
            return y, ops.zeros((), "bool")
        y = ops.convert_to_tensor(y)
        if keras.backend.standardize_dtype(y.dtype) == "bool":
            y = ops.convert_to_tensor(y, "int32")
        if len(y.shape) == 2 and y.shape[1] == self.num_classes:
            rows = ops.convert_to_tensor(y, "float32")
            sums = ops.sum(rows, axis=1)
            wrong = ops.isnan(sums) | (ops.abs(sums - 1.0) > 1e-3)
            wrong = wrong | ops.any(rows < 0, axis=1)
            uniform = ops.ones_like(y) / self.num_classes
            uniform = ops.cast(uniform, y.dtype)
            return ops.where(wrong[:, None], uniform, y), wrong
        wrong = (y < 0) | (y >= self.num_classes)
        return ops.where(wrong, ops.zeros_like(y), y), wrong

    def usable_weights(self, sample_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Sample weights that harm nothing, and how many were others."""
        if sample_weight is None:
            return None, ops.zeros(())
        weight = ops.reshape(
            ops.convert_to_tensor(sample_weight, "float32"), (-1,)
        )
        infinite = ops.isnan(weight) | (ops.abs(weight) == float("inf"))
        wrong = infinite | (weight < 0) | (weight > LARGEST)
        return ops.where(wrong, ops.zeros_like(weight), weight), _count(wrong)

    # -- Between the steps ---------------------------------------------------

    def counts(self, training: bool) -> Any:
        return self.training_counts if training else self.evaluation_counts

    def reset(self, training: bool) -> None:
        """Forget what was counted, before an epoch or an evaluation."""
        counts = self.counts(training)
        counts.assign(np.zeros(counts.shape))
        if training and self.side_names:
            shape = self.side_extremes.shape
            self.side_extremes.assign(np.full(shape, -LARGEST))

    def stop_if_wrong(self, training: bool) -> None:
        """Refuse what was counted.

        Raises:
            ValueError: For the first kind of which there is any.
        """
        where = "this epoch" if training else "the evaluated data"
        counts = ops.convert_to_numpy(self.counts(training))
        wrong = len(self.names) + 3
        for index, count in enumerate(counts[:wrong]):
            if count:
                raise ValueError(
                    f"{self._expected(index)}. Received: {count:.0f} other "
                    f"values in batches of {where} after the first"
                )
        samples, present = counts[wrong:]
        if samples and not present and not training:
            raise ValueError(
                "`sample_weight` must be above 0 for a sample at least. "
                f"Received: {samples:.0f} zeros in the evaluated data"
            )
        if samples and not present:
            raise ValueError(
                f"Training data must have a sample with a modality: '{MASK}' "
                "and sample weights must not be 0 everywhere. Received: "
                f"{samples:.0f} samples without any in this epoch"
            )

    def seen(self) -> dict[str, SeenValues]:
        """What the side inputs of this epoch were, by name."""
        if not self.side_names:
            return {}
        samples = int(ops.convert_to_numpy(self.training_counts)[-2])
        maxima = ops.convert_to_numpy(self.side_extremes)
        return {
            name: SeenValues(
                samples,
                smallest=-float(row[0]),
                largest=float(row[1]),
                broken=float(row[2]) if row[2] > -LARGEST else None,
                finite=row[3] <= 0,
            )
            for name, row in zip(self.side_names, maxima, strict=True)
            if row[1] > -LARGEST
        }

    def _expected(self, index: int) -> str:
        if index < len(self.names):
            for part, size in self.vocabularies.get(
                self.names[index], {}
            ).items():
                title = f"Modality '{self.names[index]}'"
                return expected_tokens(title, part, size)
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


def _maxima(values: Tensor) -> Tensor:
    """What `BatchWatch.seen` is made of, so that maxima can be put together."""
    values = ops.reshape(ops.cast(values, "float32"), (-1,))
    infinite = unusable(values, LARGEST / 2)
    lowest = ops.full_like(values, -LARGEST)
    usable = ops.where(infinite, ops.zeros_like(values), values)
    rows = [
        ops.where(infinite, lowest, -usable),
        ops.where(infinite, lowest, usable),
        ops.where(usable == ops.floor(usable), lowest, usable),
        ops.cast(infinite, "float32"),
    ]
    return ops.max(ops.stack(rows), axis=1)


def _count(wrong: Tensor) -> Tensor:
    return ops.sum(ops.cast(wrong, "float32"))


def _count_wrong(x: Tensor, present: Tensor | None, limit: float) -> Tensor:
    """Number of values that are no usable numbers, where there are any."""
    floating = keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    )
    return _count_where(unusable(x, limit if floating else LARGEST), present)


def _count_where(wrong: Tensor, present: Tensor | None) -> Tensor:
    """Number of true values `(batch, ...)` in the samples that are there."""
    if present is not None:
        present = ops.reshape(present, (-1, *[1] * (len(wrong.shape) - 1)))
        wrong = ops.logical_and(wrong, present)
    return _count(wrong)


def unusable(x: Tensor, limit: float) -> Tensor:
    """Where `x` is NaN, or of a size beyond `limit`.

    Not the negation of a comparison: XLA turns that round, and NaN is lost.
    """
    x = ops.cast(x, "float32")
    return ops.logical_or(ops.isnan(x), ops.abs(x) > limit)
