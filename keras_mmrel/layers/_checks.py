"""Checks of what a layer is called with, made while it is traced."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refused


def check_shape(name: str, value: Tensor, *axes: int | str) -> None:
    """Refuse a tensor of another shape.

    Args:
        name: Name of the argument.
        value: The tensor, or what was given in its place.
        *axes: Size of every axis, or a name for one that may have any.
    """
    shape = _shape_of(value)
    sizes = tuple(shape) if shape is not None else ()
    if (
        shape is None
        or len(sizes) != len(axes)
        or any(
            isinstance(axis, int) and size not in (axis, None)
            for size, axis in zip(sizes, axes, strict=True)
        )
    ):
        raise refused(
            f"`{name}` must have the shape ({', '.join(map(str, axes))})",
            f"shape={sizes}" if shape is not None else describe(value),
        )


def _shape_of(value: Any) -> Any:
    """Shape of a tensor or of a regular list, or `None`."""
    if isinstance(value, list | tuple):
        try:
            return np.shape(value)
        except (ValueError, TypeError):
            return None
    return getattr(value, "shape", None)


def presence(modality_mask: Tensor | None, rows: Tensor) -> Tensor:
    """Return which modalities are there: 0 and 1 in float32.

    Args:
        modality_mask: `None`, or a mask of any dtype; what is not above 0,
            NaN too, is missing.
        rows: Tensor `(batch, modalities, ...)` that the mask belongs to.
    """
    batch, modalities = rows.shape[:2]
    if modality_mask is None:
        flat = rows[(..., *[0] * (len(rows.shape) - 2))]
        return ops.ones_like(flat, dtype="float32")
    batch = "batch" if batch is None else batch
    check_shape(MASK, modality_mask, batch, modalities)
    mask = ops.convert_to_tensor(modality_mask, "float32")
    return ops.cast(mask > 0, "float32")


def check_modality_tensors(inputs: Any, count: int | None = None) -> Modalities:
    """Refuse anything but a dict of tensors, with a mask maybe.

    Args:
        inputs: What a layer was called with.
        count: Number of modalities that the layer was built for.

    Returns:
        The inputs.
    """
    names = []
    if isinstance(inputs, Mapping):
        names = [name for name in inputs if name != MASK]
    if not names:
        raise refused(_DICT_OF_TENSORS, describe(inputs))
    rows: int | None = None
    for name in names:
        # Rows of a modality may be nested tensors: each has the batch first.
        for x in keras.tree.flatten(inputs[name]) or [None]:
            if not getattr(x, "shape", None):
                raise refused(
                    _DICT_OF_TENSORS, f"{describe(inputs[name])} for '{name}'"
                )
            if None not in (rows, x.shape[0]) and rows != x.shape[0]:
                raise refused(
                    "`inputs` must hold the same number of samples of every "
                    "modality",
                    f"{x.shape[0]} of '{name}' and {rows} of '{names[0]}'",
                )
            rows = x.shape[0] if rows is None else rows
    if count is not None and len(names) != count:
        raise refused(
            f"`inputs` must hold {count} modalities, as when the layer was "
            "built",
            str(names),
        )
    if inputs.get(MASK) is not None:
        batch = "batch" if rows is None else rows
        check_shape(MASK, inputs[MASK], batch, len(names))
    return inputs


_DICT_OF_TENSORS = (
    "`inputs` must be a dict of modality names to tensors with the batch "
    f"first, with or without '{MASK}'"
)
