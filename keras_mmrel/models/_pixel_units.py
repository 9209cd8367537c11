"""Floats of images that go up to 255 are pixels, as bytes are."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import WHITE
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import are_pixels_to_white
from keras_mmrel.contract import is_pixels
from keras_mmrel.encoders._pixel_scaling import unit_pixels
from keras_mmrel.models.modality_encoders import pixel_modalities
from keras_mmrel.state import add_state
from keras_mmrel.user_warning import warn


class PixelUnits:
    """What the pixels of each modality of images are divided by.

    Encoders of images take [0, 1]. Bytes are divided by 255, and so are
    floats where those of the first training are no smaller than 0 and reach
    beyond 100, but not beyond 255: `keras.utils.image_dataset_from_directory`
    gives such. The unit is a weight of the model and stays what it is.

    Args:
        model: The model, with its encoders.

    Attributes:
        names: Its modalities of images.
    """

    def __init__(self, model: Any) -> None:
        names = pixel_modalities(model.modality_names, model.encoders)
        self.names = names
        # 0 for what is not known yet.
        self.units = (
            add_state(model, "pixel_units", (len(names),)) if names else None
        )
        self.judged: dict[str, float] = {}

    def known(self) -> dict[str, float]:
        """Modality -> its unit, 0 where it is not known yet."""
        if self.units is None:
            return {}
        units = ops.convert_to_numpy(self.units).tolist()
        return dict(zip(self.names, units, strict=True))

    def unit_of(
        self, name: str, rows: Array, largest: float, learns: bool = False
    ) -> float:
        """Return the unit of some data.

        Args:
            name: Name of any modality.
            rows: Samples that have it, some of them.
            largest: Size of the largest value of all.
            learns: Whether a training begins with them.
        """
        unit = 1.0
        if is_pixels(rows) or (
            name in self.names and are_pixels_to_white(rows, largest)
        ):
            unit = WHITE
        if rows.dtype.name == "uint8":
            # Bytes are divided whatever floats are.
            if learns:
                self.judged[name] = 1.0
            return unit
        if learns:
            self.judged[name] = unit
        return self.known().get(name) or unit

    def keep(self) -> None:
        """Remember what was judged, once a training begins."""
        if self.units is None:
            return
        known = self.known()
        new = {n: u for n, u in self.judged.items() if known.get(n) == 0.0}
        if not new:
            return
        pixels = [name for name, unit in new.items() if unit != 1.0]
        if pixels:
            warn(
                f"Modalities {pixels} hold numbers up to 255: they are taken "
                "for pixels, and divided by 255 whenever this model gets them."
            )
        units = [new.get(name, known[name]) for name in self.names]
        # Each of several processes has seen its own part of the data.
        units = backend.of_first_process(ops.convert_to_tensor(units))
        self.units.assign(units)

    def scaled(self, name: str, x: Any) -> Any:
        """Return tensors of a modality as its encoder takes them."""
        if name not in self.names:
            return x
        units = ops.convert_to_tensor(self.units)
        unit = units[self.names.index(name)]
        unit = ops.where(unit > 0, unit, 1.0)
        return keras.tree.map_structure(lambda v: _scaled(v, unit), x)

    def scaled_array(self, name: str, x: Array) -> Array:
        """The same of an array of samples, which is not copied in vain."""
        if name not in self.names:
            return x
        unit = self.known()[name]
        if is_pixels(x):
            return np.asarray(x, "float32") / WHITE
        return x if unit in (0.0, 1.0) else np.asarray(x, "float32") / unit


def _scaled(x: Tensor, unit: Tensor) -> Tensor:
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype == "uint8":
        return unit_pixels(x, "float32")
    if not keras.backend.is_float_dtype(dtype):
        dtype = "float32"
    return ops.cast(x, dtype) / ops.cast(unit, dtype)
