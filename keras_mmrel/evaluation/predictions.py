import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Integer
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import number_array
from keras_mmrel.contract import to_numpy

TINY = 1e-12
# What a score may need: what a model may return beside probabilities, and
# the rest.
RETURNED = ("confidence", "depth", "modality_quality")
NEEDS = ("probabilities", "binary", "corrupted", *RETURNED)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """All about one set of predictions: what a `Score` gets.

    Args:
        probabilities: `(samples, classes)`; rows that are NaN or infinite
            are invalid predictions.
        labels: Class numbers `(samples,)`, or one-hot rows.
        log_probabilities: `(samples, classes)`; by default the logarithm of
            the probabilities, none of which counts as less than 1e-12.
        confidence: `(samples, modalities)`, or `None` if the model returns
            none.
        depth: `(samples, modalities)`, or `None` likewise.
        modality_quality: `(samples, modalities)`, what the model's judge of
            inputs says of them, or `None` likewise.
        corrupted: Boolean `(samples, modalities)`: what is corrupted without
            being announced; `None` where there is nothing to be found.
        present: Boolean `(samples, modalities)`, or `None` if all are there.
        modality_names: Names of the modalities.
        bins: Number of bins of a calibration error.

    Raises:
        ValueError: If rows are no probabilities, a label is out of range, or
            something has not one row a sample.

    Example:

    >>> predictions = keras_mmrel.evaluation.Predictions(
    ...     np.array([[0.9, 0.1], [0.3, 0.7]]), labels=np.array([0, 0])
    ... )
    >>> predictions.right
    array([ True, False])
    """

    probabilities: Array
    labels: Array
    # Arrays or `None`: what a score says it needs is there.
    log_probabilities: ArrayLike = None
    confidence: ArrayLike = None
    depth: ArrayLike = None
    modality_quality: ArrayLike = None
    corrupted: ArrayLike = None
    present: ArrayLike = None
    modality_names: Sequence[str] = ()
    bins: int = 15

    def __post_init__(self) -> None:
        p = number_array(self.probabilities, "`probabilities`")
        if p.ndim != 2 or p.shape[1] < 2:
            raise ValueError(
                "`probabilities` must have the shape (samples, classes) with "
                f"two or more classes. Received: shape={p.shape}"
            )
        check_rows_agree(
            {"`probabilities`": self.probabilities, "`labels`": self.labels}
        )
        rows = p[np.isfinite(p).all(axis=1)].astype("float64")
        if (rows < 0).any() or (np.abs(rows.sum(axis=1) - 1) > 1e-2).any():
            raise ValueError(
                "`probabilities` must hold rows that are not negative and sum "
                f"to 1. Received: values from {rows.min():g} to "
                f"{rows.max():g}"
            )
        labels = check_labels(to_numpy(self.labels), p.shape[1], len(p))
        Integer(1)("bins", self.bins)
        object.__setattr__(self, "probabilities", p)
        object.__setattr__(self, "labels", labels)
        for name in (*RETURNED, "corrupted", "present"):
            if getattr(self, name) is None:
                continue
            value = number_array(getattr(self, name), f"`{name}`")
            if value.shape[:1] != (len(p),):
                raise ValueError(
                    f"`{name}` must have one row for each of the {len(p)} "
                    f"samples. Received: shape={value.shape}"
                )
            object.__setattr__(self, name, value)
        if self.log_probabilities is None:
            logs = np.log(np.maximum(self.probabilities, TINY))
            object.__setattr__(self, "log_probabilities", logs)

    @property
    def valid(self) -> Array:
        """Whether a sample's probabilities are finite, `(samples,)`."""
        return np.isfinite(self.probabilities).all(axis=1)

    @property
    def predicted(self) -> Array:
        """The most likely class of each sample, `(samples,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def right(self) -> Array:
        """Whether it is the true one, `(samples,)`."""
        return self.predicted == self.labels

    def take(self, samples: Array) -> "Predictions":
        """Return the predictions of some samples.

        Args:
            samples: Their numbers, repeated ones among them maybe, or a
                boolean array.

        Raises:
            ValueError: If there are no such samples.
        """
        samples = self._numbers(samples)
        arrays = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        # What holds for all of the samples holds for some.
        taken = object.__new__(Predictions)
        for name, value in arrays.items():
            part = value[samples] if isinstance(value, np.ndarray) else value
            object.__setattr__(taken, name, part)
        return taken

    def _numbers(self, samples: ArrayLike) -> Array:
        """Numbers or flags that choose among the samples."""
        chosen = to_numpy(samples, "`samples`")
        count = len(self.labels)
        if chosen.shape == (0,):
            return chosen.astype("int64")
        flags = chosen.dtype.kind == "b" and chosen.shape == (count,)
        numbers = chosen.dtype.kind in "iu" and chosen.ndim == 1
        if flags or (numbers and 0 <= chosen.min() <= chosen.max() < count):
            return chosen
        raise ValueError(
            f"`samples` must hold numbers of samples in [0, {count}), or a "
            f"boolean for each of the {count}. Received: "
            f"dtype={chosen.dtype}, shape={chosen.shape}, "
            f"values {chosen.reshape(-1)[:3].tolist()}"
        )

    def has(self, need: str) -> bool:
        """Whether there is what a `Score` needs, one of its `NEEDS`."""
        Choice(*NEEDS)("need", need)
        return bool(getattr(self, f"_has_{need}")())

    def _has_probabilities(self) -> bool:
        return bool(self.valid.all())

    def _has_binary(self) -> bool:
        return (
            self.probabilities.shape[1] == 2
            and len(np.unique(self.labels)) == 2
        )

    def _has_confidence(self) -> bool:
        return self._of_modalities(self.confidence)

    def _has_modality_quality(self) -> bool:
        return self._of_modalities(self.modality_quality)

    def _of_modalities(self, values: Array | None) -> bool:
        shape = (len(self.labels), len(self.modality_names))
        return values is not None and values.shape == shape

    def _has_depth(self) -> bool:
        return self.depth is not None

    def _has_corrupted(self) -> bool:
        """Whether some of the modalities are, and others are not."""
        if self.corrupted is None:
            return False
        corrupted = self.corrupted[self.where_present]
        return bool(corrupted.any() and not corrupted.all())

    @property
    def where_present(self) -> Array:
        """`present`, or true everywhere, `(samples, modalities)`."""
        if self.present is not None:
            return to_numpy(self.present)
        return np.ones((len(self.labels), len(self.modality_names)), bool)
