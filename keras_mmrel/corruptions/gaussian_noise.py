from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._inputs import white_of
from keras_mmrel.corruptions.corruption import Corruption
from keras_mmrel.corruptions.corruption import choose_features


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(feature_fraction=Number(0, 1, low_open=True))
class GaussianNoise(Corruption):
    """Add `severity * N(0, 1)` to the features of the corrupted modalities.

    The result is not clipped.

    Args:
        severity: Standard deviation of the noise, at least 0; of images and
            videos in bytes, or as numbers up to 255, in parts of white.
        target: Which modalities are corrupted, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        feature_fraction: Number in (0, 1]. Below 1, exactly this
            fraction (rounded, at least one) of the features of each
            corrupted modality gets the noise, drawn anew for each sample.

    Example:

    >>> noise = keras_mmrel.corruptions.GaussianNoise(0.5, target="one")
    >>> x = {"a": np.zeros((4, 2)), "b": np.zeros((4, 3))}
    >>> corrupted = noise(x, seed=7)
    >>> noise.corrupted(x, seed=7).sum(axis=1)
    array([1, 1, 1, 1])
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        feature_fraction: float = 1.0,
    ) -> None:
        super().__init__(severity, target, probability)
        self.feature_fraction = feature_fraction

    def unit(self, given: Any) -> float:
        return white_of(given)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        noise = self.severity * rng.standard_normal(values.shape)
        if self.feature_fraction < 1:
            noise *= choose_features(values.shape, self.feature_fraction, rng)
        values[corrupted] += noise[corrupted].astype(values.dtype)
        return values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "feature_fraction": self.feature_fraction,
        }
