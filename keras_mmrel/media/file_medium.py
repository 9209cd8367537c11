from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.media._constraints import TRANSFORM
from keras_mmrel.media.medium import Medium
from keras_mmrel.media.medium import each
from keras_mmrel.media.medium import zeros


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(column=COLUMN, transform=TRANSFORM)
class FileMedium(Medium):
    """Base: a modality whose cells name files, read batch by batch.

    A subclass says what a file holds in `decoded_shape`, `decoded_dtype` and
    `decode`, and lists its arguments in `settings`, which are saved and are
    part of the key of a cache.

    Args:
        column: Name of the column of paths.
        transform: `None`, or a function of a decoded array that returns
            another array, always of one shape: a spectrogram of a sound, say.
            It runs after the cache, on every sample, in the thread or
            process that decodes; a process must be able to pickle it.

    Example:

    >>> from keras_mmrel import media
    >>> class Bytes(media.FileMedium):
    ...     decoded_shape, decoded_dtype = (8,), "uint8"
    ...     def decode(self, path, cells, rng):
    ...         return np.frombuffer(path.read_bytes()[:8], "uint8")
    >>> Bytes("file", transform=lambda values: values[:4] / 255).shape
    (4,)
    """

    decoded_shape: tuple[int, ...] = ()
    decoded_dtype = "float32"
    # Whether two calls of `decode` may differ; a cache would freeze it.
    is_random = False
    # Whether a cell may name a folder of files, too.
    takes_folders = False

    def __init__(
        self,
        column: str,
        *,
        transform: Callable[[Array], Array] | None = None,
    ) -> None:
        super().__init__((column,))
        self.column = column
        self.transform = transform
        self._blank: Any = None

    def decode(
        self, path: Path, cells: Mapping[str, Any], rng: np.random.Generator
    ) -> Array:
        """Return what a file holds, of `decoded_shape`.

        Args:
            path: The file, which exists.
            cells: The row's cells of `columns`.
            rng: For what is drawn; it depends on the seed of the table, the
                epoch and the row alone.

        Raises:
            ValueError: If it cannot be read.
        """
        raise NotImplementedError

    def transformed(self, decoded: Array) -> Any:
        """Return what a sample has of a decoded array: an array, or a dict."""
        if self.transform is None:
            return decoded
        return np.asarray(self.transform(decoded))

    def blank(self) -> Any:
        if self._blank is None:
            decoded = np.zeros(self.decoded_shape, self.decoded_dtype)
            made = self.transformed(decoded)
            self._blank = each(
                lambda array: zeros(array.shape, array.dtype.name), made
            )
        return self._blank

    def settings(self) -> dict[str, Any]:
        """Return the arguments that what is decoded depends on."""
        return {}

    def get_config(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "transform": keras.saving.serialize_keras_object(self.transform),
            **self.settings(),
        }
