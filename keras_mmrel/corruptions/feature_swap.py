from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption
from keras_mmrel.corruptions.corruption import choose_features


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class FeatureSwap(Corruption):
    """Take a fraction of each sample's features from other samples.

    Each replaced feature gets the clean value that the same feature has in
    another sample, drawn anew for each feature among those in which the
    modality is present. So every value is a usual one, and only its company
    is wrong. If there is no such sample, nothing is corrupted.

    Args:
        severity: Fraction of the features in [0, 1] (rounded, at least one
            unless it is 0) of each corrupted modality.
        target: Which modalities are corrupted, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.

    Example:

    >>> swap = keras_mmrel.corruptions.FeatureSwap(0.5, target="a")
    >>> x = swap({"a": np.arange(12.0).reshape(3, 4)})
    >>> (x["a"] != np.arange(12.0).reshape(3, 4)).sum(axis=1)
    array([2, 2, 2])
    >>> x["a"] % 4  # each in its own column
    array([[0., 1., 2., 3.],
           [0., 1., 2., 3.],
           [0., 1., 2., 3.]])
    """

    in_range = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "one",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def _select(
        self,
        names: list[str],
        present: Array,
        seed: int,
        labels: Array | None = None,
    ) -> Array:
        corrupted = super()._select(names, present, seed)
        return corrupted & (present.sum(axis=0) > 1)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        replaced = choose_features(values.shape, self.severity, rng)
        replaced = replaced.reshape(len(values), -1)
        steps = rng.integers(1, present.sum(), replaced.shape)
        replaced[~corrupted] = False
        flat = values.reshape(replaced.shape)
        donors = np.flatnonzero(present)
        rows, features = np.nonzero(replaced)
        # From its own place among those present on to another one.
        place = np.cumsum(present)[rows] - 1 + steps[rows, features]
        given = flat[donors[place % len(donors)], features]
        flat[rows, features] = given
        return flat.reshape(values.shape)
