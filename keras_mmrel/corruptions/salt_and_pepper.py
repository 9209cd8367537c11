from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions._inputs import white_of
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption
from keras_mmrel.corruptions.corruption import choose_features


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, low=Number(), high=Number())
class SaltAndPepper(Corruption):
    """Replace a fraction of the features by `low` or `high`, at random.

    Features are single numbers: the channels of a pixel are drawn apart.

    Args:
        severity: Density in [0, 1], the fraction (rounded, at least one
            unless it is 0) of the features of each corrupted modality that is
            replaced,
            drawn anew for each sample.
        target: Which modalities are corrupted, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        low: The value of pepper.
        high: The value of salt, at least `low`; as likely as `low`. Of images
            and videos in bytes it stands for white.

    Example:

    >>> noise = keras_mmrel.corruptions.SaltAndPepper(0.25)
    >>> x = noise({"image": np.full((2, 8, 8, 1), 0.5)})
    >>> (x["image"] != 0.5).sum(axis=(1, 2, 3))
    array([16, 16])
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        super().__init__(severity, target, probability)
        self.low = low
        self.high = high
        if self.low > self.high:
            raise ValueError(
                "`low` must be at most `high`. Received: "
                f"low={low!r}, high={high!r}"
            )

    def unit(self, given: Any) -> float:
        return white_of(given, self.high or 1.0)

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        salt = rng.random(values.shape) < 0.5
        replaced = choose_features(values.shape, self.severity, rng)
        replaced[~corrupted] = False
        values[replaced] = np.where(salt, self.high, self.low)[replaced]
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}
