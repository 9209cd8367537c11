"""A modality that is not among the inputs is a missing one."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import to_numpy


def with_absent(x: DataSource, shapes: Mapping[str, Any]) -> DataSource:
    """Return inputs in which what is absent is a missing modality.

    Args:
        x: Dict of arrays that may lack modalities, or anything else, which is
            returned as it is. Its mask may have columns of those alone that
            are there.
        shapes: Modality name -> input shape without the batch axis, or a dict
            of such; `None` where nobody knows it.

    Raises:
        ValueError: If a mask says that such a modality is there.
    """
    if not isinstance(x, Mapping):
        return x
    there = [name for name in x if name in shapes]
    absent = [name for name in shapes if name not in x]
    if not there or not absent or any(shapes[n] is None for n in absent):
        return x
    leaf = keras.tree.flatten(x[there[0]])[0]
    if not hasattr(leaf, "shape"):
        return x
    count = leaf.shape[0]
    names = list(shapes)
    columns = [names.index(name) for name in absent]
    mask = x.get(MASK)
    if mask is None:
        mask = np.ones((count, len(names)), "float32")
        mask[:, columns] = 0.0
    elif tuple(np.shape(mask))[1:] == (len(names),):
        _check_missing(absent, to_numpy(mask)[:, columns])
    elif tuple(np.shape(mask)) == (count, len(there)):
        # Of a table that knows no more modalities.
        own = to_numpy(mask)
        mask = np.zeros((count, len(names)), own.dtype)
        mask[:, [names.index(name) for name in there]] = own
        x = {name: x[name] for name in x if name != MASK}
    filled = {name: _zeros(count, shapes[name]) for name in absent}
    # In the order of the mask; what is there in another one beside a mask of
    # the user's stays so, and is refused.
    ordered = there == [name for name in names if name in x] or MASK not in x
    every = {**x, **filled, MASK: mask}
    return {n: every[n] for n in (names if ordered else [*there, *absent])} | {
        name: value for name, value in every.items() if name not in shapes
    }


def _zeros(count: int, shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {name: _zeros(count, part) for name, part in shape.items()}
    return np.zeros((count, *shape), "float32")


def _check_missing(absent: list[str], mask: Any) -> None:
    for name, column in zip(absent, mask.T, strict=True):
        if (column != 0).any():
            raise ValueError(
                f"'{MASK}' must be 0 for the modality '{name}', which is not "
                f"among the inputs. Received: {int((column != 0).sum())} "
                "samples that have it"
            )
