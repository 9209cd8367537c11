"""What corruptions of text have in common."""

from collections.abc import Mapping

import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import read_tables
from keras_mmrel.corruptions._inputs import is_text
from keras_mmrel.corruptions._inputs import read_inputs
from keras_mmrel.corruptions.corruption import Corruption


class TextCorruption(Corruption):
    """Base: acts on strings `(samples,)`, each by `corrupt_text`.

    They come back as an array of objects. An empty cell of a table (`None`,
    NaN) is a missing text, and stays. Other modalities of the inputs may hold
    numbers, unless they are targeted.
    """

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

    def _read(
        self, inputs: Modalities, labels: Labels | None
    ) -> tuple[dict[str, Array], Array, Labels | None]:
        if not isinstance(inputs, Mapping) or not set(inputs) - {MASK}:
            # What is no dict of modalities is refused there.
            return super()._read(inputs, labels)
        names = list(modality_arrays(inputs))
        texts = [name for name in names if is_text(inputs[name])]
        for name in self._targeted(names):
            if name not in texts:
                self._refuse(name, inputs[name])
        check_rows_agree({f"Modality '{name}'": inputs[name] for name in names})
        rest = {name: v for name, v in inputs.items() if name not in texts}
        rest, labels, _ = read_tables(rest, labels, names=names)
        whole = {name: rest.get(name, inputs[name]) for name in inputs}
        return *read_inputs(whole, texts), labels

    def _refuse(self, name: str, values: ArrayLike) -> None:
        received = f"a {type(values).__name__}"
        if hasattr(values, "dtype"):
            received = f"dtype={values.dtype}, shape={tuple(values.shape)}"
        raise ValueError(
            f"`target` of `{type(self).__name__}` must name modalities of "
            "strings (samples,), as a table holds them before they become "
            f"token numbers. Received: target={self.target!r}, which takes in "
            f"'{name}', {received}"
        )


def share_of(places: Array, share: float, rng: np.random.Generator) -> Array:
    """Return random ones of some places: a share, rounded, at least one.

    A larger share with the same stream includes what a smaller one chose.
    """
    count = max(1, round(share * len(places)))
    return rng.permutation(places)[:count]
