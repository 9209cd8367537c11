"""Which modalities of which samples are missing."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array


def with_missing(x: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays with a mask, in which a modality with NaN is missing.

    Args:
        x: Modality name -> array, or -> a dict of such; maybe with a mask,
            of which every modality that is missing stays so.
    """
    arrays = {name: value for name, value in x.items() if name != MASK}
    whole = np.stack([_is_whole(value) for value in arrays.values()], axis=1)
    mask = whole.astype("float32")
    if MASK in x:
        mask = mask * x[MASK]
    emptied = {
        name: keras.tree.map_structure(
            lambda v, rows=whole[:, index]: _emptied(v, rows), value
        )
        for index, (name, value) in enumerate(arrays.items())
    }
    return {**emptied, MASK: mask}


def _is_whole(value: Any) -> Array:
    parts = [
        ~np.isnan(leaf).reshape(len(leaf), -1).any(axis=1)
        for leaf in keras.tree.flatten(value)
    ]
    return np.logical_and.reduce(parts)


def _emptied(values: Array, rows: Array) -> Array:
    """An array with 0 in all rows but these."""
    if rows.all():
        return values
    kept = values.copy()
    kept[~rows] = 0
    return kept
