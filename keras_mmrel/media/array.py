from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array as Values
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media._npy import read_npy
from keras_mmrel.media.file_medium import FileMedium

DTYPES = ("float32", "float16", "uint8", "int8", "int16", "int32", "bool")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    column=COLUMN,
    shape=Every(Integer(1)),
    dtype=Choice(*DTYPES),
    transform=TRANSFORM,
)
class Array(FileMedium):
    """Arrays of numbers from `.npy` files, features of a frozen model say.

    A file must hold an array of the declared shape, which is looked at before
    anything else is read. Pickled objects are never loaded.

    Args:
        column: Name of the column of paths.
        shape: Shape of each array.
        dtype: What it is converted to; float64 may become float32, but no
            fraction becomes a whole number.
        transform: As in `keras_mmrel.media.FileMedium`.

    Example:

    >>> from keras_mmrel import media
    >>> media.Array("features", shape=(16, 512)).shape
    (16, 512)
    """

    def __init__(
        self,
        column: str,
        *,
        shape: Sequence[int],
        dtype: str = "float32",
        transform: Callable[[Values], Values] | None = None,
    ) -> None:
        super().__init__(column, transform=transform)
        self.decoded_shape = tuple(shape)
        self.decoded_dtype = dtype

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Values:
        return read_npy(path, self.decoded_shape, self.decoded_dtype)

    def settings(self) -> dict[str, Any]:
        return {
            "shape": list(self.decoded_shape),
            "dtype": self.decoded_dtype,
        }
