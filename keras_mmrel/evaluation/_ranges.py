"""The range that each feature has on clean data."""

from collections.abc import Mapping

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import to_numpy
from keras_mmrel.corruptions._inputs import is_text


class Ranges:
    """Lowest and highest clean value of each feature, where it is present.

    Args:
        *inputs: Dicts of modality name -> array `(samples, ...)`, maybe with
            a mask: the clean data. The first names the modalities. Texts and
            dicts of arrays have no range, so nothing leaves it.
    """

    def __init__(self, *inputs: Modalities) -> None:
        self.low: dict[str, Array] = {}
        self.high: dict[str, Array] = {}
        for data in inputs:
            for name, values in _present(data).items():
                if name in inputs[0] and len(values):
                    self._add(name, values)

    def _add(self, name: str, values: Array) -> None:
        low, high = values.min(axis=0), values.max(axis=0)
        if name in self.low:
            if low.shape != self.low[name].shape:
                raise ValueError(
                    f"`training` must hold '{name}' in the shape that it has "
                    f"in `x`, {self.low[name].shape}. Received: {low.shape}"
                )
            low = low.clip(max=self.low[name])
            high = high.clip(min=self.high[name])
        self.low[name], self.high[name] = low, high

    def hold(self, inputs: Modalities) -> bool:
        """Whether no feature that is present leaves its range, nor is NaN."""
        return all(
            bool((values >= self.low[name].astype(values.dtype)).all())
            and bool((values <= self.high[name].astype(values.dtype)).all())
            for name, values in _present(inputs).items()
            if name in self.low
        )


def _present(inputs: Modalities) -> dict[str, Array]:
    """Modalities of one array, without the samples that lack them.

    Texts, and what is a dict of arrays, have no range.
    """
    present = None
    if inputs.get(MASK) is not None:
        present = check_mask_values(inputs[MASK])
    found = {}
    for column, (name, given) in enumerate(modality_arrays(inputs).items()):
        if isinstance(given, Mapping) or is_text(given):
            continue
        values = to_numpy(given)
        # A missing text is none of strings alone.
        if values.dtype.kind != "O":
            found[name] = (
                values if present is None else values[present[:, column]]
            )
    return found
