from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions.gaussian_noise import GaussianNoise

LIMIT = Either(Number(), None)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(low=LIMIT, high=LIMIT)
class ClippedGaussianNoise(GaussianNoise):
    """Add Gaussian noise that leaves no feature outside its range.

    As `GaussianNoise`, after which every feature of a corrupted modality is
    clipped to its range. By default that is the one over the given samples
    in which the modality is present, so a feature that is the same in all of
    them stays as it is, and a sample alone does so as a whole.

    Args:
        severity: Standard deviation of the noise, as in `GaussianNoise`.
        target: Which modalities are corrupted, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        feature_fraction: Number in (0, 1], as in `GaussianNoise`.
        low: Lowest value of all features, or `None` for that of each over
            the samples. Of pixels in bytes it is a part of white.
        high: Highest value likewise, at least `low`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> noise = keras_mmrel.corruptions.ClippedGaussianNoise(9.0, "one")
    >>> x = noise({"a": np.array([[0.0, 5.0], [1.0, 6.0]])})["a"]
    >>> x.min(axis=0) >= [0, 5], x.max(axis=0) <= [1, 6]
    (array([ True,  True]), array([ True,  True]))
    """

    in_range = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        feature_fraction: float = 1.0,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        super().__init__(severity, target, probability, feature_fraction)
        if low is not None and high is not None and low > high:
            raise ValueError(
                "`low` must be at most `high`. Received: "
                f"low={low!r}, high={high!r}"
            )
        self.low = low
        self.high = high

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        clean = values[present]
        low = clean.min(axis=0) if self.low is None else self.low
        high = clean.max(axis=0) if self.high is None else self.high
        values = super().corrupt(values, corrupted, present, rng)
        values[corrupted] = np.clip(values[corrupted], low, high)
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}
