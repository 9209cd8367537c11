from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.corruptions.checks import check_number
from keras_mmrel.corruptions.checks import check_share
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
class TokenReplacement(Corruption):
    """Replace tokens of a text by a blank one, each with a probability.

    QMF's text noise: every word becomes "_" with the probability 0.1 `eps`,
    so its `eps` of 5 and 10 are severities of 0.5 and 1.

    Args:
        severity: Probability in [0, 1] of each token of the samples hit.
        target: Which modalities are hit, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        token: Number of the token that stands for a blank.
        padding: Number of the padding token, which is left alone, or `None`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> noise = keras_mmrel.corruptions.TokenReplacement(
    ...     1.0, target="text", token=3
    ... )
    >>> noise({"text": np.array([[7, 8, 0]])})["text"]
    array([[3., 3., 0.]], dtype=float32)

    References:
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050).
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "independent",
        probability: float = 0.5,
        token: float = 1,
        padding: float | None = 0,
    ) -> None:
        check_share("severity", severity)
        super().__init__(severity, target, probability)
        self.token = check_number("token", token)
        self.padding = (
            None if padding is None else check_number("padding", padding)
        )

    def corrupt(
        self,
        values: np.ndarray,
        hit: np.ndarray,
        present: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        replaced = rng.random(values.shape) < self.severity
        if self.padding is not None:
            replaced &= values != self.padding
        replaced[~hit] = False
        values[replaced] = self.token
        return values

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "token": self.token,
            "padding": self.padding,
        }
