from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame


@keras.saving.register_keras_serializable(package="keras_mmrel")
class Medium:
    """Base: how a modality is read from columns of a table.

    Use `keras_mmrel.media.FileMedium` as the base of a format of your own,
    whose cells name files that are read batch by batch. A medium that reads
    the cells themselves, as `Text` and `Tabular` do, has `read_cells`, and
    is read once, when the table is made.

    Args:
        columns: Names of the columns that it reads.

    Example:

    >>> from keras_mmrel import media
    >>> image = media.Image("file", size=(32, 48))
    >>> image.columns, image.shape, image.dtype
    (('file',), (32, 48, 3), 'float32')
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)

    # -- What a subclass says ------------------------------------------------

    def blank(self) -> Any:
        """Return what stands where a modality is missing: zeros.

        Returns:
            An array without a batch axis, or a dict of them. Every sample has
            its shape and its dtype.
        """
        raise NotImplementedError

    def read_cells(self, table: Frame, paths: Sequence[Any]) -> Any:
        """Return arrays of all rows of a table, and which have any.

        What learns from rows, a vocabulary say, learns from those of the
        first table.

        Args:
            table: Rows to read.
            paths: File that a row names in the first column, or `None`.

        Returns:
            Array `(rows, ...)` or a dict of them, booleans `(rows,)`, and a
            dict of row -> why its file could not be read.
        """
        raise NotImplementedError

    # -- What follows --------------------------------------------------------

    @property
    def shape(self) -> Any:
        """Shape of a sample, or a dict of them, for a model's `modalities`."""
        return each(lambda array: tuple(array.shape), self.blank())

    @property
    def dtype(self) -> Any:
        """Name of the dtype of a sample, or a dict of them."""
        return each(lambda array: array.dtype.name, self.blank())

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict) -> "Medium":
        return cls(**keras.saving.deserialize_keras_object(config))


def each(function: Any, arrays: Any) -> Any:
    """Apply a function to an array, or to each one of a dict."""
    if isinstance(arrays, Mapping):
        return {name: function(array) for name, array in arrays.items()}
    return function(arrays)


def zeros(shape: Sequence[int], dtype: str = "float32") -> Array:
    """An array that takes no memory to speak of, whatever its shape is."""
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))
