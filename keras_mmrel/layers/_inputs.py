"""The dict of modalities that a layer before the encoders is called with."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.contract import LARGEST
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import modality_arrays
from keras_mmrel.layers._checks import check_modality_tensors
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import refused


class ModalityShapes:
    """Names of the modalities that a layer was built for, and their shapes.

    Attributes:
        names: All names, in order.
        fixed: Name -> shape without the batch, of tensors alone whose shape
            is known.

    Args:
        input_shape: What `build` is given.

    Raises:
        ValueError: If that is no dict.
    """

    def __init__(self, input_shape: Mapping[str, Any]) -> None:
        if not isinstance(input_shape, Mapping):
            raise ValueError(
                "`inputs` must be a dict of modality names to tensors. "
                f"Received: shape={input_shape}"
            )
        self.names = [name for name in input_shape if name != MASK]
        self.fixed: dict[str, tuple[int, ...]] = {}
        for name in self.names:
            shape = input_shape[name]
            if not isinstance(shape, Mapping) and None not in tuple(shape)[1:]:
                self.fixed[name] = tuple(shape)[1:]

    def check(self, inputs: Modalities) -> None:
        """Refuse what is no dict of the modalities that it was built for."""
        check_modality_tensors(inputs)
        names = [name for name in inputs if name != MASK]
        if not set(names) <= set(self.names):
            raise refused(
                f"`inputs` must hold the modalities {self.names}, as when the "
                "layer was built",
                str(names),
            )
        for name, shape in self.fixed.items():
            if name in names:
                check_shape(f"inputs['{name}']", inputs[name], "batch", *shape)


def check_samples(inputs: Modalities) -> None:
    """Refuse arrays without a sample, and what is not finite but present."""
    mask = inputs.get(MASK)
    present = None if mask is None else check_mask_values(mask)
    for index, (name, x) in enumerate(modality_arrays(inputs).items()):
        check_some(name, x)
        for array in keras.tree.flatten(x):
            there = array if present is None else array[present[:, index]]
            check_values(name, there)


def check_some(name: str, x: Tensor) -> None:
    """Refuse a modality without a sample."""
    for array in keras.tree.flatten(x):
        if not len(array):
            raise ValueError(
                "`inputs` must hold at least one sample. Received: "
                f"shape={tuple(array.shape)} for '{name}'"
            )


def check_values(name: str, x: Array) -> None:
    """Refuse what no training takes."""
    if x.dtype.kind in "biu":
        return
    if x.dtype.kind != "f":
        x = x.astype("float32")  # NumPy does not know bfloat16.
    bad = ~(np.abs(x) <= min(LARGEST, np.finfo(x.dtype).max))
    if bad.any():
        raise ValueError(
            "`inputs` must be finite where a modality is present, and at most "
            f"{LARGEST:g} in size; set '{MASK}' to 0 for a missing one, or "
            f"impute. Received: {x[bad][0]} in '{name}'"
        )


def is_float(x: Tensor) -> bool:
    return not isinstance(x, Mapping) and keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(x.dtype)
    )


def mask_of(inputs: Modalities) -> Tensor:
    """The mask `(batch, modalities)` in float32, ones by default."""
    if inputs.get(MASK) is not None:
        mask = ops.convert_to_tensor(inputs[MASK], "float32")
        return ops.cast(mask > 0, "float32")
    names = [name for name in inputs if name != MASK]
    first = keras.tree.flatten(inputs[names[0]])[0]
    return ops.ones((ops.shape(first)[0], len(names)), "float32")
