from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.corruptions.checks import check_number
from keras_mmrel.corruptions.checks import check_share
from keras_mmrel.corruptions.corruption import Corruption
from keras_mmrel.corruptions.corruption import choose_features


@keras.saving.register_keras_serializable(package="keras_mmrel")
class SaltAndPepper(Corruption):
    """Replace a share of the features by `low` or `high`, at random.

    Features are single numbers: the channels of a pixel are drawn apart.

    Args:
        severity: Density in [0, 1], the share (rounded, at least one unless
            it is 0) of the features of each modality hit that is replaced,
            drawn anew for each sample.
        target: Which modalities are hit, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        low: The value of pepper.
        high: The value of salt, at least `low`; as likely as `low`.

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
        check_share("severity", severity)
        super().__init__(severity, target, probability)
        self.low = check_number("low", low)
        self.high = check_number("high", high)
        if self.low > self.high:
            raise ValueError(
                "`low` must be at most `high`. Received: "
                f"low={low!r}, high={high!r}"
            )

    def corrupt(
        self,
        values: np.ndarray,
        hit: np.ndarray,
        present: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        salt = rng.random(values.shape) < 0.5
        replaced = choose_features(values.shape, self.severity, rng)
        replaced[~hit] = False
        values[replaced] = np.where(salt, self.high, self.low)[replaced]
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}
