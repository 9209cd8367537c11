from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, token=Number(), padding=Either(Number(), None))
class TokenReplacement(Corruption):
    """Replace tokens of a text by a blank one, each with a probability.

    QMF's text noise: every word becomes "_" with the probability 0.1 `eps`,
    so its `eps` of 5 and 10 are severities of 0.5 and 1. It counts as inside
    the range of the data: the blank is a token of the vocabulary.

    Args:
        severity: Probability in [0, 1] of each token of the corrupted samples.
        target: Which modalities are corrupted, as in `Corruption`.
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

    in_range = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "independent",
        probability: float = 0.5,
        token: float = 1,
        padding: float | None = 0,
    ) -> None:
        super().__init__(severity, target, probability)
        self.token = token
        self.padding = padding

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        replaced = rng.random(values.shape) < self.severity
        if self.padding is not None:
            replaced &= values != self.padding
        replaced[~corrupted] = False
        values[replaced] = self.token
        return values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "token": self.token,
            "padding": self.padding,
        }
