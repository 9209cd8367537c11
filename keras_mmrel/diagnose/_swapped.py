from collections.abc import Sequence

import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import to_numpy
from keras_mmrel.corruptions import Corruption


class SwappedModalities(Corruption):
    """Exchange two modalities of one shape, where a sample has both.

    What is exchanged are the values as a model sees them, scaled each on its
    own modality.

    Args:
        severity: 1, or 0 for nothing.
        target: Names of the two.
    """

    in_range = True
    whole = True

    def __init__(
        self,
        severity: float,
        target: str | Sequence[str] = "all",
        probability: float = 0.5,
    ) -> None:
        super().__init__(severity, target, probability)

    def __call__(
        self, inputs: Modalities, seed: int = 0, labels: Labels | None = None
    ) -> dict[str, Array]:
        a, b = list(self.target)
        found = {n: np.array(to_numpy(v)) for n, v in inputs.items()}
        names = [name for name in inputs if name != MASK]
        rows = self.corrupted(inputs, seed, labels)[:, names.index(a)]
        first = found[a][rows].copy()
        found[a][rows] = found[b][rows]
        found[b][rows] = first
        return found

    def corrupted(
        self, inputs: Modalities, seed: int = 0, labels: Labels | None = None
    ) -> Array:
        """Return which modality of which sample is exchanged."""
        found = super().corrupted(inputs, seed, labels)
        names = [name for name in inputs if name != MASK]
        columns = [names.index(n) for n in self.target]
        both = found[:, columns].all(axis=1)
        return np.asarray(found & np.asarray(both)[:, None])
