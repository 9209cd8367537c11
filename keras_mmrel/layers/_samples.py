"""The clean samples that a judge of inputs learns from."""

import math
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy
from keras_mmrel.layers._checks import check_modality_tensors
from keras_mmrel.layers._inputs import check_some
from keras_mmrel.layers._inputs import check_values
from keras_mmrel.layers._inputs import is_float


class DrawnSamples(NamedTuple):
    """Samples of what a layer judges, drawn at random and checked.

    Attributes:
        inputs: Name -> rows of a judged modality that holds floats.
        present: Name -> booleans, which rows have the modality.
        chosen: Numbers of the rows, in order.
        rng: The generator that drew them.
    """

    inputs: dict[str, Array]
    present: dict[str, Array]
    chosen: Array
    rng: np.random.Generator

    def vectors(self) -> Iterator[tuple[str, Array, Array]]:
        """Yield a name, its present rows `(n, d)` in float64, and `present`."""
        for name, x in self.inputs.items():
            there = self.present[name]
            size = math.prod(x.shape[1:])
            rows = x[there].reshape(int(there.sum()), size)
            yield name, rows.astype("float64"), there


def draw_samples(layer: Any, inputs: Modalities) -> DrawnSamples:
    """Build a layer with `judged` and `samples`, and draw what it learns from.

    Only the rows that are drawn are read, and only of what is judged.

    Args:
        layer: The layer.
        inputs: What its `adapt` is given.

    Raises:
        ValueError: If anything is not as `adapt` says.
    """
    check_modality_tensors(inputs)
    inputs, _, _ = read_tables(dict(inputs))
    rows = len(keras.tree.flatten(inputs)[0])
    if not layer.built:
        layer.build(keras.tree.map_structure(lambda a: a.shape, inputs))
    layer.modality_shapes.check(inputs)
    rng = np.random.default_rng(layer.seed)
    chosen = np.sort(rng.permutation(rows)[: layer.samples])
    mask = inputs.get(MASK)
    if mask is not None:
        mask = check_mask_values(to_numpy(mask)[chosen])
    values, present = {}, {}
    for index, (name, x) in enumerate(modality_arrays(inputs).items()):
        check_some(name, x)
        if name in layer.judged and is_float(x):
            there = np.ones(len(chosen), bool)
            present[name] = there if mask is None else mask[:, index]
            values[name] = to_numpy(x)[chosen]
            check_values(name, values[name][present[name]])
    return DrawnSamples(values, present, chosen, rng)


def label_numbers(inputs: Modalities, y: Labels) -> Array:
    """Class numbers `(samples,)`, of numbers or of rows, one a sample."""
    check_modality_tensors(inputs)
    inputs, y, _ = read_tables(dict(inputs), y)
    rows = len(keras.tree.flatten(inputs)[0])
    y = to_numpy(y, "`y`")
    if y.ndim == 2 and y.shape[1] > 1:
        return check_labels(y, y.shape[1], rows, soft=True)
    count = int(y.max(initial=0)) + 1 if y.dtype.kind in "iub" else 1
    return check_labels(y, count, rows)
