from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.corruptions.corruption import FRACTION
from keras_mmrel.corruptions.corruption import Corruption


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(severity=FRACTION)
class SwappedModalities(Corruption):
    """Exchange two modalities of one shape, as swapped cables or files do.

    Each of the two holds what belongs to the other one, where a sample has
    both. What is exchanged are the values as a model sees them: where the two
    are on different scales, they leave the range of the data.

    Args:
        severity: Fraction of the samples that have both, in [0, 1], rounded
            to whole samples.
        target: Names of the two.

    Raises:
        ValueError: If `target` does not name two modalities or, in a call,
            two of one shape.

    Example:

    >>> swapped = keras_mmrel.corruptions.SwappedModalities(1.0, ["a", "b"])
    >>> swapped({"a": np.zeros(2), "b": np.ones(2), "c": np.ones(2)})["a"]
    array([1., 1.])
    """

    def __init__(self, severity: float, target: Sequence[str]) -> None:
        super().__init__(severity, target)
        if isinstance(target, str) or len(target) != 2:
            raise ValueError(
                "`target` of `SwappedModalities` must name two modalities. "
                f"Received: target={target!r}"
            )

    def corrupted_fraction(self) -> float:
        return self.severity

    def __call__(
        self, inputs: Modalities, seed: int = 0, labels: Labels | None = None
    ) -> dict[str, Array]:
        arrays, present, labels = self._read(inputs, labels)
        self._labels(labels, len(present))
        a, b = list(self.target)
        chosen = self._select(list(arrays), present, seed)
        rows = chosen[:, list(arrays).index(a)]
        arrays[a][rows], arrays[b][rows] = (
            arrays[b][rows],
            arrays[a][rows].copy(),
        )
        return self._results(arrays, inputs)

    def _read(
        self, inputs: Modalities, labels: Labels | None
    ) -> tuple[dict[str, Any], Array, Labels | None]:
        arrays, present, labels = super()._read(inputs, labels)
        shapes = {name: arrays[name].shape[1:] for name in self.target}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "`target` of `SwappedModalities` must name modalities of one "
                f"shape. Received: target={self.target!r} of shapes {shapes}"
            )
        return arrays, present, labels

    def _select(
        self,
        names: list[str],
        present: Array,
        seed: int,
        labels: Array | None = None,
    ) -> Array:
        columns = [names.index(name) for name in self._known(names)]
        both = np.asarray(present[:, columns].all(axis=1))
        return super()._select(names, present & both[:, None], seed)

    def get_config(self) -> dict[str, Any]:
        return {"severity": self.severity, "target": self.target}
