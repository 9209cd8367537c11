"""What corruptions of text have in common."""

from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.corruptions._inputs import is_numbers
from keras_mmrel.corruptions.corruption import Corruption


class TextCorruption(Corruption):
    """Base: acts on strings `(samples,)`, each by `corrupt_text`.

    They come back as an array of objects. An empty cell of a table (`None`,
    NaN) is a missing text, and stays.
    """

    medium = (
        "strings (samples,), as a table holds them before they become token "
        "numbers"
    )

    def takes(self, values: Any) -> bool:
        return isinstance(values, np.ndarray) and not is_numbers(values)

    def corrupt_text(self, text: str, rng: np.random.Generator) -> str:
        """Return one text, corrupted, by a random stream of its own."""
        raise NotImplementedError

    def corrupt(
        self,
        values: Array,
        corrupted: Array,
        present: Array,
        rng: np.random.Generator,
    ) -> Array:
        seeds = rng.integers(2**63, size=len(values))
        for row in np.flatnonzero(corrupted):
            own = np.random.default_rng(seeds[row])
            values[row] = self.corrupt_text(values[row], own)
        return values


def share_of(places: Array, share: float, rng: np.random.Generator) -> Array:
    """Return random ones of some places: a share, rounded, at least one.

    A larger share with the same stream includes what a smaller one chose.
    """
    count = max(1, round(share * len(places)))
    return rng.permutation(places)[:count]
