"""Pictures that are no files of their own: halves, and rows of HDF5 data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.media import Image
from keras_mmrel.media import _pictures
from keras_mmrel.media._constraints import COLUMN
from keras_mmrel.optional import require

# Depths are shares of it: what a Kinect measures ends there.
METRES = 10.0
# Two pictures beside each other are wider than any camera's one.
NARROWEST = 1.5


class _Part:
    """What a picture that some other file holds adds to `Image`."""

    def picture(self, path: Path, cells: Mapping[str, Any]) -> Any:
        """Return a picture of Pillow."""
        raise NotImplementedError

    def decode(
        self: Any,
        path: Path,
        cells: Mapping[str, Any],
        rng: np.random.Generator,
    ) -> Array:
        return _pictures.as_array(
            self.picture(path, cells),
            self.size,
            self.channels,
            self.fit_to_size,
            self.pixels,
        )


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(side=Choice("left", "right"))
class HalfPicture(_Part, Image):
    """The left or the right half of a picture.

    Args:
        column: Name of the column of paths.
        side: `"left"` or `"right"`.
        **options: As in `Image`.
    """

    def __init__(self, column: str, side: str, **options: Any) -> None:
        super().__init__(column, **options)
        self.side = side

    def picture(self, path: Path, cells: Mapping[str, Any]) -> Any:
        both = _pictures.opened(path)
        width, height = both.size
        if width < NARROWEST * height:
            raise ValueError(
                f"{width} x {height} pixels, not two pictures side by side"
            )
        middle = width // 2
        left, right = (0, middle) if self.side == "left" else (middle, width)
        return both.crop((left, 0, right, height))

    def settings(self) -> dict[str, Any]:
        return {"side": self.side, **super().settings()}


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(index=COLUMN, variable=COLUMN)
class StoredPicture(_Part, Image):
    """A picture of NYU Depth V2's HDF5 file, read alone.

    What MATLAB has written has its axes turned round: `(samples, 3, width,
    height)`, or `(samples, width, height)` for metres.

    Args:
        column: Name of the column of paths.
        index: Name of the column of samples' numbers, from 0.
        variable: Name of the data set in the file.
        **options: As in `Image`.
    """

    def __init__(
        self, column: str, index: str, variable: str, **options: Any
    ) -> None:
        super().__init__(column, **options)
        self.columns = (column, index)
        self.index = index
        self.variable = variable

    def picture(self, path: Path, cells: Mapping[str, Any]) -> Any:
        with require("h5py", "load_nyud2").File(path, "r") as file:
            values = np.asarray(file[self.variable][int(cells[self.index])])
        if values.ndim == 2:
            # Pillow's picture of floats, which keeps them.
            values = np.float32(values / METRES).clip(0, 1)
        upright = np.ascontiguousarray(values.T)
        return require("PIL.Image", "load_nyud2").fromarray(upright)

    def settings(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "variable": self.variable,
            **super().settings(),
        }
