"""What corruptions of one kind of medium have in common."""

from typing import Any

from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.corruptions._inputs import is_numbers
from keras_mmrel.corruptions.corruption import Corruption


class MediaCorruption(Corruption):
    """Base: acts on modalities of the shape of one medium."""

    def fits(self, values: Array) -> bool:
        """Whether an array `(samples, ...)` has the shape of the medium."""
        raise NotImplementedError

    def takes(self, values: Any) -> bool:
        return is_numbers(values) and self.fits(values)

    def check_values(self, name: str, values: Array) -> None:
        """Refuse values of the samples that are there, by an error."""

    def _read(
        self, inputs: Modalities, labels: Labels | None
    ) -> tuple[dict[str, Any], Array, Labels | None]:
        arrays, present, labels = super()._read(inputs, labels)
        names = list(arrays)
        for name in self._targeted(names):
            values = arrays[name]
            if self.takes(values):
                values = values[present[:, names.index(name)]]
                if len(values):
                    self.check_values(name, values)
        return arrays, present, labels
