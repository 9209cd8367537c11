from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import to_numpy
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class ModalityConflict(Corruption):
    """Give a fraction of the samples a modality of another class.

    The modality is taken, clean and whole, from a random sample of another
    class in which it is present, so that it speaks for a wrong class. Where
    there is no such sample nothing is corrupted. A call needs `labels`.

    Args:
        severity: Fraction of the samples in [0, 1], rounded to whole samples;
            samples in which no targeted modality is present do not count.
        target: Which modalities of these samples are corrupted, as in
            `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.

    Raises:
        ValueError: If a call has no `labels`, or all are of one class.

    Example:

    >>> conflict = keras_mmrel.corruptions.ModalityConflict(1.0, target="a")
    >>> y = np.array([0, 0, 1])
    >>> conflict({"a": 10.0 * y}, labels=y)["a"]
    array([10., 10.,  0.])
    """

    in_range = True
    whole = True
    needs_labels = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "one",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def corrupted_fraction(self) -> float:
        return self.severity

    def _select(
        self,
        names: list[str],
        present: Array,
        seed: int,
        labels: Array | None = None,
    ) -> Array:
        corrupted = super()._select(names, present, seed)
        _, number = np.unique(to_numpy(labels), return_inverse=True)
        if self.severity > 0 and number.max() == 0:
            raise ValueError(
                "`labels` must hold samples of two or more classes. Received: "
                f"{len(number)} of one class"
            )
        # How many samples of other classes have each modality.
        own = (np.eye(number.max() + 1)[number].T @ present)[number]
        return corrupted & (present.sum(axis=0) - own > 0)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
        labels: Array | None = None,
    ) -> Array:
        labels = to_numpy(labels)
        draws = rng.random(len(values))
        clean = values.copy()
        for one in np.unique(labels[corrupted]):
            takers = np.flatnonzero(corrupted & (labels == one))
            givers = np.flatnonzero(present & (labels != one))
            chosen = givers[(draws[takers] * len(givers)).astype(int)]
            values[takers] = clean[chosen]
        return values
