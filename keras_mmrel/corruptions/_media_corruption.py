"""What corruptions of one kind of medium have in common."""

from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.corruptions.corruption import Corruption


class MediaCorruption(Corruption):
    """Base: refuses, by name, a targeted modality that is no such medium.

    Attributes:
        medium: What follows "must name modalities of" in the error.
    """

    medium = ""

    def fits(self, values: Array) -> bool:
        """Whether an array `(samples, ...)` has the shape of the medium."""
        raise NotImplementedError

    def check_values(self, name: str, values: Array) -> None:
        """Refuse values of the samples that are there, by an error."""

    def _read(
        self, inputs: Modalities, labels: Labels | None
    ) -> tuple[dict[str, Array], Array, Labels | None]:
        arrays, present, labels = super()._read(inputs, labels)
        names = list(arrays)
        targeted = self._targeted(names)
        unfit = {
            n: arrays[n].shape for n in targeted if not self.fits(arrays[n])
        }
        if unfit:
            raise ValueError(
                f"`target` of `{type(self).__name__}` must name modalities of "
                f"{self.medium}. Received: target={self.target!r}, which takes "
                f"in modalities of other shapes: {unfit}"
            )
        for name in targeted:
            values = arrays[name][present[:, names.index(name)]]
            if len(values):
                self.check_values(name, values)
        return arrays, present, labels
