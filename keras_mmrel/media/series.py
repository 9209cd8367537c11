from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array as Values
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media._npy import read_npy
from keras_mmrel.media.file_medium import FileMedium


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    features=Integer(1, 10**6),
    length=Integer(1, 10**6),
    transform=TRANSFORM,
)
class Series(FileMedium):
    """Sequences of any length from `.npy` files, padded to one length.

    A file holds `(time, features)`; steps beyond `length` are cut off. A
    sample is a dict of `"values"`, `(length, features)` in float32, zero
    where nothing stands, and `"padding_mask"`, `(length,)` as booleans, False
    there. A file of no steps is one that cannot be read. The default encoder
    of such a modality is `keras_mmrel.encoders.SequenceEncoder`, in which
    padding takes no part.

    Args:
        column: Name of the column of paths.
        features: Numbers of a step.
        length: Steps of a sample.
        transform: As in `keras_mmrel.media.FileMedium`, of the padded values;
            it keeps the steps.

    Example:

    >>> from keras_mmrel import media
    >>> media.Series("gait", features=6, length=100).shape
    {'values': (100, 6), 'padding_mask': (100,)}
    """

    def __init__(
        self,
        column: str,
        *,
        features: int,
        length: int,
        transform: Callable[[Values], Values] | None = None,
    ) -> None:
        super().__init__(column, transform=transform)
        self.features = features
        self.length = length
        # The last number of a step says whether it is there.
        self.decoded_shape = (length, features + 1)

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Values:
        found = read_npy(path, (None, self.features), self.decoded_dtype)
        if not len(found):
            raise ValueError("a sequence of no steps")
        some = found[: self.length]
        decoded = np.zeros(self.decoded_shape, self.decoded_dtype)
        decoded[: len(some), :-1] = some
        decoded[: len(some), -1] = 1
        return decoded

    def transformed(self, decoded: Values) -> dict[str, Values]:
        values = super().transformed(decoded[:, :-1])
        return {"values": values, "padding_mask": decoded[:, -1] > 0}

    def settings(self) -> dict[str, Any]:
        return {"features": self.features, "length": self.length}
