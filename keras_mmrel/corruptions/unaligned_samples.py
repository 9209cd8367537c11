from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.corruptions.checks import check_share
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
class UnalignedSamples(Corruption):
    """Give a share of the samples another sample's features.

    The samples that are hit in a modality pass their features round a random
    circle, so none keeps its own and nothing is lost from the modality. If
    only one sample is hit, it takes the features of a random other sample in
    which the modality is present. If there is no such sample (`n == 1`, say),
    it is not hit. The other sample may be of the same class, or hold the same
    features.

    Args:
        severity: Share of the samples in [0, 1], rounded to whole samples;
            samples in which no targeted modality is present do not count.
        target: Which modalities of these samples are hit, as in `Corruption`;
            with `"all"` each modality has a circle of its own.
        probability: Number in [0, 1] for `target="independent"`.

    Example:

    >>> unaligned = keras_mmrel.corruptions.UnalignedSamples(0.5, target="a")
    >>> x = unaligned({"a": np.arange(4.0), "b": np.arange(4.0)})
    >>> int((x["a"] != x["b"]).sum())
    2
    """

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "one",
        probability: float = 0.5,
    ) -> None:
        check_share("severity", severity)
        super().__init__(severity, target, probability)

    def samples_hit(self) -> float:
        return self.severity

    def _select(
        self, names: list[str], present: np.ndarray, seed: int
    ) -> np.ndarray:
        hits = super()._select(names, present, seed)
        return hits & (present.sum(axis=0) > 1)

    def corrupt(
        self,
        values: np.ndarray,
        hit: np.ndarray,
        present: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        takers = rng.permutation(np.flatnonzero(hit))
        givers = np.roll(takers, 1)
        if len(takers) == 1:
            givers = rng.choice(np.flatnonzero(present & ~hit), size=1)
        values[takers] = values[givers]
        return values
