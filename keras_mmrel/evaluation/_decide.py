"""What a decision computes: operations with static shapes that export.

There is no `argmax`: on TensorFlow Keras' has a bitcast, which a saved model
does not take. Everything is a comparison, a sum or a choice.
"""

from collections.abc import Sequence

import keras
from keras import ops

from keras_mmrel.contract import LARGEST
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor


def missing_modalities(inputs: Modalities, names: Sequence[str]) -> Tensor:
    """Say what is masked, or holds what is no number, `(batch, modalities)`."""
    columns = []
    for index, name in enumerate(names):
        missing = None
        if inputs.get(MASK) is not None:
            mask = ops.convert_to_tensor(inputs[MASK])
            missing = mask[:, index] <= 0
        for leaf in keras.tree.flatten(inputs[name]):
            leaf = ops.convert_to_tensor(leaf)
            axes = tuple(range(1, len(leaf.shape)))
            if keras.backend.is_float_dtype(
                keras.backend.standardize_dtype(leaf.dtype)
            ):
                small = ops.abs(ops.cast(leaf, "float32")) <= LARGEST
                broken = ops.logical_not(ops.all(small, axis=axes))
            else:
                broken = ops.any(ops.zeros_like(leaf) > 0, axis=axes)
            missing = (
                broken if missing is None else ops.logical_or(missing, broken)
            )
        columns.append(missing)
    return ops.stack(columns, axis=1)


def class_probabilities(
    logits: Tensor, temperature: float, answered: Tensor
) -> Tensor:
    """Calibrated probabilities `(batch, classes)`, in float32.

    Args:
        logits: `(batch, classes)`.
        temperature: What they are divided by.
        answered: `(batch,)`, whether any modality is there. What a model says
            without one is the class prior, which is as sure as it is.
    """
    logits = ops.cast(logits, "float32")
    scaled = logits / temperature
    return ops.softmax(ops.where(answered[:, None], scaled, logits), axis=-1)


def most_likely(p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the most likely class, the first of several.

    Args:
        p: Probabilities `(batch, classes)`.

    Returns:
        Its number `(batch,)` in int32; its probability `(batch,)`; the
        probability that is left to all others `(batch,)`, which keeps samples
        apart where the former is rounded to 1; and whether each class is it,
        `(batch, classes)`.
    """
    count = p.shape[-1]
    numbers = ops.arange(0, count, dtype="int32")
    largest = ops.max(p, axis=-1, keepdims=True)
    label = ops.min(ops.where(p >= largest, numbers, count - 1), axis=-1)
    is_label = numbers == label[:, None]
    left = ops.sum(ops.where(is_label, 0.0, p), axis=-1)
    return label, largest[:, 0], left, is_label


def row_of_group(group: Tensor, codes: Sequence[int]) -> Tensor:
    """Place of a group's limits in a table, `(batch,)`; 0 is for all samples.

    Args:
        group: `(batch,)`, numbers of groups.
        codes: Numbers of the groups that are known.
    """
    group = ops.reshape(ops.cast(group, "int32"), (-1, 1))
    same = group == ops.convert_to_tensor(list(codes), "int32")
    rows = ops.arange(1, len(codes) + 1, dtype="int32")
    return ops.sum(ops.where(same, rows, 0), axis=1)
