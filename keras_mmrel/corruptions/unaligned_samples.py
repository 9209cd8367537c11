from collections.abc import Sequence

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class UnalignedSamples(Corruption):
    """Give a fraction of the samples another sample's features.

    The samples that are corrupted in a modality pass their features round a
    random circle, so none keeps its own and nothing is lost from the
    modality. If only one sample is corrupted, it takes the features of a
    random other sample in which the modality is present. If there is no such
    sample (`n == 1`, say), it is left alone. The other sample may be of the
    same class, or hold the same features.

    Args:
        severity: Fraction of the samples in [0, 1], rounded to whole samples;
            samples in which no targeted modality is present do not count.
        target: Which modalities of these samples are corrupted, as in
            `Corruption`; with `"all"` each modality has a circle of its own.
        probability: Number in [0, 1] for `target="independent"`.

    Example:

    >>> unaligned = keras_mmrel.corruptions.UnalignedSamples(0.5, target="a")
    >>> x = unaligned({"a": np.arange(4.0), "b": np.arange(4.0)})
    >>> int((x["a"] != x["b"]).sum())
    2
    """

    in_range = True
    whole = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "one",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def corrupted_fraction(self) -> float:
        return self.severity

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
        takers = rng.permutation(np.flatnonzero(corrupted))
        givers = np.roll(takers, 1)
        if len(takers) == 1:
            givers = rng.choice(np.flatnonzero(present & ~corrupted), size=1)
        values[takers] = values[givers]
        return values
