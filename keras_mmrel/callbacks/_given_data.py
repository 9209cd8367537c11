"""Data that a callback is given, and what an encoder makes of it."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy


def modalities_of(callback: str, model: Any, data: Mapping) -> list[str]:
    """Names of the model's modalities, which all of `data` must hold.

    Args:
        callback: Name of the callback's class, for messages.
        model: What `fit` was called on.
        data: Name of an argument -> dict of arrays.
    """
    names = getattr(model, "modality_names", None)
    if names is None:
        raise ValueError(
            f"`{callback}` must be given to `fit` of a model of keras_mmrel. "
            f"Received: model={type(model).__name__}"
        )
    for argument, arrays in data.items():
        if set(arrays) != set(names):
            raise ValueError(
                f"`{argument}` must hold the modalities {list(names)} of "
                f"the model. Received: {list(arrays)}"
            )
    return list(names)


def read_data(
    argument: str, x: Modalities, y: Labels
) -> tuple[dict[str, Any], Array]:
    """Arrays of the modalities, and the labels of as many samples."""
    if not isinstance(x, Mapping) or not x:
        raise ValueError(
            f"`{argument}` must be a non-empty dict of modality names to "
            f"arrays. Received: {kind_of(x)}"
        )
    x, y, _ = read_tables(x, y)
    if MASK in x:
        raise ValueError(
            f"`{argument}` must hold complete samples. Received: an '{MASK}'"
        )
    sizes = {
        name: {sum(np.shape(v)[:1]) for v in keras.tree.flatten(value)}
        for name, value in x.items()
    }
    labels = np.zeros(0) if y is None else np.atleast_1d(to_numpy(y))
    if any(n != len(labels) for parts in sizes.values() for n in parts):
        raise ValueError(
            f"`{argument}` must hold as many samples in every modality as "
            f"there are labels. Received: {sizes} samples and {len(labels)} "
            "labels"
        )
    return dict(x), labels


def kind_of(value: Any) -> str:
    """`a tuple of 1`, or the name of another type."""
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{size}"
