from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import parts_of
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, announce=Flag())
class MissingModality(Corruption):
    """Take a modality away from a fraction of the samples.

    Its values become 0, those of all its arrays, and a text `None`. With
    `announce=True` the mask says so: the entry `"modality_mask"` becomes 0
    there, and is added (as float32) to inputs that have none unless the
    severity is 0. With `announce=False` the model has to find out by itself.
    It says that it stays inside the range of the data, where 0 lies for
    standardised features and for pixels; evaluations measure whether it does
    on theirs.

    Args:
        severity: Fraction of the samples in [0, 1], rounded to whole samples;
            samples in which no targeted modality is present do not count.
        target: Which modalities of these samples are taken, as in `Corruption`;
            with `"all"` nothing of them is left.
        probability: Number in [0, 1] for `target="independent"`.
        announce: Whether the mask tells what is missing.

    Example:

    >>> missing = keras_mmrel.corruptions.MissingModality(1.0, target="b")
    >>> x = missing({"a": np.ones((2, 3)), "b": np.ones((2, 3))})
    >>> x["modality_mask"]
    array([[1., 0.],
           [1., 0.]], dtype=float32)
    """

    in_range = True
    whole = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "one",
        probability: float = 0.5,
        announce: bool = True,
    ) -> None:
        super().__init__(severity, target, probability)
        self.announce = announce

    @property
    def announced(self) -> bool:
        return self.announce

    def __call__(
        self, inputs: Modalities, seed: int = 0, labels: Labels | None = None
    ) -> dict[str, Array]:
        outputs = super().__call__(inputs, seed, labels)
        if self.announced and self.severity > 0:
            gone = self.corrupted(inputs, seed, labels)
            mask = outputs.setdefault(MASK, np.ones(gone.shape, "float32"))
            mask[gone] = 0
        return outputs

    def corrupted_fraction(self) -> float:
        return self.severity

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        values[corrupted] = 0
        return values

    def corrupt_whole(
        self,
        values: Any,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
        **extra: Array,
    ) -> Any:
        for array in parts_of(values).values():
            array[corrupted] = None if array.dtype.kind == "O" else 0
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "announce": self.announce}
