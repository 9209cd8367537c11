from collections.abc import Mapping
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

TOKENS, PADDING = "token_ids", "padding_mask"


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION, token=Number(), padding=Either(Number(), None))
class TokenReplacement(Corruption):
    """Replace tokens of a text by a blank one, each with a probability.

    QMF's text noise: every word becomes "_" with the probability 0.1 `eps`,
    so its `eps` of 5 and 10 are severities of 0.5 and 1. It counts as inside
    the range of the data: the blank is a token of the vocabulary. Of a
    modality of several arrays those under `"token_ids"` are replaced, where
    their `"padding_mask"` says that they are none of the padding.

    Args:
        severity: Probability in [0, 1] of each token of the corrupted samples.
        target: Which modalities are corrupted, as in `Corruption`.
        probability: Number in [0, 1] for `target="independent"`.
        token: Number of the token that stands for a blank.
        padding: Number of the padding token, which is left alone, or `None`.
            A `"padding_mask"` says it by itself.

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

    def takes(self, values: Any) -> bool:
        named = isinstance(values, Mapping) and TOKENS in values
        return named or super().takes(values)

    def corrupt(
        self,
        values: Any,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Any:
        tokens = values[TOKENS] if isinstance(values, Mapping) else values
        replaced = rng.random(tokens.shape) < self.severity
        if isinstance(values, Mapping) and PADDING in values:
            replaced &= values[PADDING].astype(bool)
        elif self.padding is not None:
            replaced &= tokens != self.padding
        replaced[~corrupted] = False
        tokens[replaced] = self.token
        return values

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "token": self.token,
            "padding": self.padding,
        }
