from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class FeaturePermutation(Corruption):
    """Keep what each feature is like, and destroy how features go together.

    In a modality every feature by itself goes round a random circle of the
    samples that are corrupted there. Each of them loses all of its own
    values, while the values of a feature stay exactly the same set: nothing
    that looks at one feature at a time can find the corruption. A sample that
    would be the only one is left alone, and two merely change places.

    Args:
        severity: Fraction of the samples in [0, 1], rounded to whole samples;
            samples in which no targeted modality is present do not count.
        target: Which modalities of these samples are corrupted, as in
            `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.

    Example:

    >>> permutation = keras_mmrel.corruptions.FeaturePermutation(1.0, "a")
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> y = permutation({"a": x})["a"]
    >>> bool((np.sort(y, axis=0) == x).all()), bool((y == x).any())
    (True, False)
    """

    in_range = True

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
        return corrupted & (corrupted.sum(axis=0) > 1)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        rows = np.flatnonzero(corrupted)
        flat = values.reshape(len(values), -1)
        features = np.arange(flat.shape[1])
        circle = rows[rng.random((len(rows), len(features))).argsort(axis=0)]
        flat[circle, features] = flat[np.roll(circle, 1, axis=0), features]
        return flat.reshape(values.shape)
