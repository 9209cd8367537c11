"""What a decision is given, on the host: modalities, mask and group."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.absent import with_absent
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Shape
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy

# Beside the modalities: (batch,), which group each sample is of.
GROUP = "group"
# Of a sample whose group is not known.
NO_GROUP = -1
LARGEST_GROUP = 2**31 - 1

# Shape without the batch axis, or a dict of such.
Shapes = Mapping[str, Any]


def read_arrays(argument: str, x: DataSource) -> dict[str, Any]:
    """Return a dict of arrays, one row a sample, without its group.

    Args:
        argument: Name of the argument, for the message.
        x: What was given.
    """
    if not isinstance(x, Mapping) or not set(x) - {MASK, GROUP}:
        raise ValueError(
            f"`{argument}` must be a dict of modality names to arrays; a "
            "`MediaTable` makes one by `arrays()`. Received: "
            f"{type(x).__name__}"
        )
    rest = {name: value for name, value in x.items() if name != GROUP}
    arrays, _, _ = read_tables(rest)
    leaves = keras.tree.flatten(arrays)
    plain = [leaf for leaf in leaves if not hasattr(leaf, "shape")]
    if plain:
        raise ValueError(
            f"`{argument}` must hold arrays or tensors. Received: a "
            f"{type(plain[0]).__name__}"
        )
    counts = {tuple(leaf.shape)[:1] for leaf in leaves}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError(
            f"`{argument}` must hold the same positive number of samples in "
            "every entry. Received: "
            f"{ {n: _shape(v) for n, v in arrays.items()} }"
        )
    return dict(arrays)


def complete(
    argument: str,
    x: DataSource,
    shapes: Shapes,
    groups: Sequence[int | str],
    masked: bool,
) -> DataSource:
    """Return inputs with every modality, a mask, and a group if there are any.

    Args:
        argument: Name of the argument, for the message.
        x: Dict of arrays, or a pipeline, which is returned as it is.
        shapes: Modality name -> shape of a sample.
        groups: Those that the decision knows.
        masked: Whether the model takes a mask. Otherwise none is added.

    Raises:
        ValueError: If something is there that the decision does not know.
    """
    if not isinstance(x, Mapping):
        return x
    known = {*shapes, MASK, *([GROUP] if groups else [])}
    unknown = [name for name in x if name not in known]
    if unknown:
        raise ValueError(
            f"`{argument}` must hold the modalities {list(shapes)}"
            + (f", and maybe '{GROUP}'" if groups else "")
            + f". Received: {unknown}"
        )
    arrays = read_arrays(argument, x)
    count = len(keras.tree.flatten(arrays)[0])
    arrays = with_absent(arrays, shapes)
    if arrays.get(MASK) is not None:
        missing = ~check_mask_values(arrays[MASK])
        if not masked and missing.any():
            raise ValueError(
                f"`{argument}` must hold every modality of every sample: the "
                f"model takes no '{MASK}'. Received: {missing.sum()} that are "
                "missing"
            )
    if not masked:
        arrays.pop(MASK, None)
    elif arrays.get(MASK) is None:
        arrays[MASK] = np.ones((count, len(shapes)), "float32")
    if groups:
        given = x.get(GROUP)
        numbers = np.full(count, NO_GROUP, "int32")
        if given is not None:
            numbers = group_numbers(given, groups, count)
        arrays[GROUP] = numbers
    return arrays


def read_groups(values: ArrayLike, count: int) -> tuple[Array, list[int | str]]:
    """Return the group of each calibration sample, and all of them, sorted.

    Raises:
        ValueError: If they are neither whole numbers nor strings.
    """
    found = _group_array("groups", values, count)
    groups = np.unique(found).tolist()
    if len(groups) < 2:
        raise ValueError(
            "`groups` must hold two groups at least, or be None. Received: "
            f"only {groups}"
        )
    return found, groups


def group_codes(groups: Sequence[int | str]) -> list[int]:
    """What stands for a group in a tensor: its number, or a string's place."""
    if groups and isinstance(groups[0], str):
        return list(range(len(groups)))
    return [int(group) for group in groups]


def group_numbers(
    values: ArrayLike, groups: Sequence[int | str], count: int
) -> Array:
    """Return `group_codes` of each sample, `NO_GROUP` for an unknown group."""
    found = _group_array(f"'{GROUP}'", values, count)
    strings = isinstance(groups[0], str)
    if not strings and found.dtype.kind == "U":
        raise ValueError(
            f"'{GROUP}' must hold whole numbers, as in `fit`. Received: strings"
        )
    codes = group_codes(groups)
    # Numbers stand for strings as they do in a tensor.
    names = groups if found.dtype.kind == "U" else codes
    table = dict(zip(names, codes, strict=True))
    return np.array([table.get(g, NO_GROUP) for g in found.tolist()], "int32")


def _group_array(name: str, values: ArrayLike, count: int) -> Array:
    quoted = name if name.startswith("'") else f"`{name}`"
    found = to_numpy(values, quoted)
    if found.dtype.kind == "O" and all(isinstance(g, str) for g in found.flat):
        found = found.astype(str)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.shape != (count,):
        raise ValueError(
            f"{quoted} must hold one group a sample, of shape ({count},). "
            f"Received: shape={found.shape}"
        )
    whole = found.dtype.kind in "iu"
    if whole and (found.min() < NO_GROUP or found.max() > LARGEST_GROUP):
        whole = False
    if not whole and found.dtype.kind != "U":
        raise ValueError(
            f"{quoted} must hold strings, or whole numbers in [0, 2**31). "
            f"Received: dtype={found.dtype}"
        )
    return found


def sample_shapes(arrays: Modalities) -> dict[str, Any]:
    """Modality name -> shape of a sample, as JSON has it."""
    return {
        name: keras.tree.map_structure(lambda v: list(v.shape[1:]), value)
        if not isinstance(value, Mapping)
        else {key: list(part.shape[1:]) for key, part in value.items()}
        for name, value in modality_arrays(arrays).items()
    }


def one_sample(sample: DataSource, shapes: Shapes) -> dict[str, Any]:
    """Return a batch of the one sample that was given, with a batch axis or no.

    Args:
        sample: Dict of arrays, maybe with a mask and a group.
        shapes: Modality name -> shape of a sample.
    """
    if not isinstance(sample, Mapping):
        raise ValueError(
            "`sample` must be a dict of modality names to arrays. Received: "
            f"{type(sample).__name__}"
        )
    return {name: _row(name, v, shapes) for name, v in sample.items()}


def _row(name: str, value: Any, shapes: Shapes) -> Any:
    shape = shapes.get(name)
    if isinstance(value, Mapping) and isinstance(shape, Mapping):
        return {key: _row(key, part, shape) for key, part in value.items()}
    array = to_numpy(value, f"Modality '{name}'")
    axes = {MASK: 1, GROUP: 0}.get(name)
    if isinstance(shape, Sequence):
        axes = len(shape)
    if axes is None:
        return array
    if array.ndim == axes:
        return array[None]
    if array.ndim == axes + 1 and len(array) == 1:
        return array
    raise ValueError(
        f"`sample` must hold one sample. Received: '{name}' of shape "
        f"{array.shape}"
    )


def _shape(value: Any) -> Any:
    shapes: Shape | list = [
        tuple(leaf.shape) for leaf in keras.tree.flatten(value)
    ]
    return shapes[0] if len(shapes) == 1 else shapes
