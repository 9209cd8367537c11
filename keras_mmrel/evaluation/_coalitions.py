"""Inputs from which all modalities but those of a coalition are taken."""

from collections.abc import Callable
from collections.abc import Mapping

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import to_numpy

BASELINE = Choice("mean", "zeros")


def masked(
    arrays: dict[str, ArrayLike],
    names: list[str],
    coalition: Array,
    samples: int,
) -> dict[str, ArrayLike]:
    """Inputs whose other modalities are announced as missing."""
    mask = np.tile(coalition.astype("float32"), (samples, 1))
    if MASK in arrays:
        if arrays[MASK].shape != mask.shape:
            raise ValueError(
                f"'{MASK}' must have the shape {mask.shape}, one column a "
                f"modality. Received: shape={arrays[MASK].shape}"
            )
        mask = mask * arrays[MASK].astype("float32")
    return {**{name: arrays[name] for name in names}, MASK: mask}


def replaced(baseline: str | Modalities) -> Callable:
    """Return a function like `masked` that fills in a baseline instead."""
    if not isinstance(baseline, Mapping):
        BASELINE("baseline", baseline)

    def inputs_of(
        arrays: dict[str, ArrayLike],
        names: list[str],
        coalition: Array,
        samples: int,
    ) -> dict[str, ArrayLike]:
        if isinstance(baseline, Mapping) and set(baseline) != set(names):
            raise ValueError(
                f"`baseline` must have the modalities {names}. Received: "
                f"{list(baseline)}"
            )
        return {
            name: arrays[name]
            if present
            else _fill(name, arrays[name], baseline)
            for name, present in zip(names, coalition, strict=True)
        }

    return inputs_of


def _fill(name: str, value: ArrayLike, baseline: str | Modalities) -> ArrayLike:
    if isinstance(baseline, Mapping):

        def fill(array: Array, one: ArrayLike) -> Array:
            one = to_numpy(one)
            if one.shape != array.shape[1:]:
                raise ValueError(
                    f"`baseline['{name}']` must have the shape of one sample, "
                    f"{array.shape[1:]}. Received: shape={one.shape}"
                )
            return np.broadcast_to(one, array.shape).astype(array.dtype)

        return keras.tree.map_structure(fill, value, baseline[name])
    if baseline == "zeros":
        return keras.tree.map_structure(np.zeros_like, value)

    def mean(array: Array) -> Array:
        if array.dtype.kind != "f":
            raise ValueError(
                "`baseline` must be 'zeros' or a dict where a modality does "
                "not hold floating numbers. Received: baseline='mean' and "
                f"modality '{name}' of dtype {array.dtype}"
            )
        centre = array.mean(axis=0, dtype="float64")
        return np.broadcast_to(centre, array.shape).astype(array.dtype)

    return keras.tree.map_structure(mean, value)
