"""The range that each feature has on clean data."""

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import to_numpy


class Ranges:
    """Lowest and highest clean value of each feature, where it is present.

    Args:
        *inputs: Dicts of modality name -> array `(samples, ...)`, maybe with
            a mask: the clean data. The first names the modalities.
    """

    def __init__(self, *inputs: Modalities) -> None:
        self.low: dict[str, Array] = {}
        self.high: dict[str, Array] = {}
        for data in inputs:
            for name, values in _present(data).items():
                if name in _names(inputs[0]) and len(values):
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


def _names(inputs: Modalities) -> list[str]:
    return [name for name in inputs if name != MASK]


def _present(inputs: Modalities) -> dict[str, Array]:
    """Modalities without the samples that lack them."""
    arrays = modality_arrays({n: to_numpy(v) for n, v in inputs.items()})
    if inputs.get(MASK) is None:
        return dict(arrays)
    present = check_mask_values(inputs[MASK])
    return {
        name: values[present[:, column]]
        for column, (name, values) in enumerate(arrays.items())
    }
