from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.corruptions.checks import MASK
from keras_mmrel.corruptions.checks import check_share
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
class MissingModality(Corruption):
    """Take a modality away from a share of the samples.

    Its values become 0. With `announce=True` the mask says so: the entry
    `"modality_mask"` becomes 0 there, and is added (as float32) to inputs that
    have none unless the severity is 0. With `announce=False` the model has to
    find out by itself.

    Args:
        severity: Share of the samples in [0, 1], rounded to whole samples;
            samples in which no targeted modality is present do not count.
        target: Which modalities of these samples are hit, as in `Corruption`;
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

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "one",
        probability: float = 0.5,
        announce: bool = True,
    ) -> None:
        check_share("severity", severity)
        super().__init__(severity, target, probability)
        if not isinstance(announce, bool):
            raise ValueError(
                "`announce` must be True or False. Received: "
                f"announce={announce!r}"
            )
        self.announce = announce

    def __call__(
        self, inputs: Mapping[str, Any], seed: int = 0
    ) -> dict[str, np.ndarray]:
        outputs = super().__call__(inputs, seed)
        if self.announce and self.severity > 0:
            hits = self.hits(inputs, seed)
            mask = outputs.setdefault(MASK, np.ones(hits.shape, "float32"))
            mask[hits] = 0
        return outputs

    def samples_hit(self) -> float:
        return self.severity

    def corrupt(
        self,
        values: np.ndarray,
        hit: np.ndarray,
        present: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        values[hit] = 0
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "announce": self.announce}
