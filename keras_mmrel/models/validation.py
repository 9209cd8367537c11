"""Checks of what a user passes, made on host arrays before the first step.

Every check raises `ValueError` with one sentence that names the argument, what
was expected and what was received.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

MASK = "modality_mask"
LARGEST = 1e15


def check_num_classes(num_classes: Any) -> int:
    if (
        isinstance(num_classes, bool)
        or not isinstance(num_classes, int | np.integer)
        or num_classes < 2
    ):
        raise ValueError(
            "`num_classes` must be an integer of at least 2. Received: "
            f"num_classes={num_classes!r}"
        )
    return int(num_classes)


def check_modalities(modalities: Any) -> None:
    """Refuse anything but a non-empty dict of names to shapes or layers."""
    if not isinstance(modalities, Mapping) or not modalities:
        raise ValueError(
            "`modalities` must be a non-empty dict of modality names to input "
            f"shapes or encoders. Received: modalities={modalities!r}"
        )
    for name, spec in modalities.items():
        if not isinstance(name, str) or not name or name == MASK:
            raise ValueError(
                "`modalities` must be named by non-empty strings other than "
                f"'{MASK}'. Received: name={name!r}"
            )
        if isinstance(spec, keras.layers.Layer) or is_block_list(spec):
            continue
        is_shape = isinstance(spec, Sequence) and not isinstance(spec, str)
        if (
            not is_shape
            or len(spec) == 0
            or not all(isinstance(n, int | np.integer) and n > 0 for n in spec)
        ):
            raise ValueError(
                f"`modalities['{name}']` must be a shape of positive integers "
                "without the batch axis, a Keras layer or model, or a list of "
                "Keras layers. "
                f"Received: {spec!r}"
            )


def is_block_list(spec: Any) -> bool:
    """Whether an encoder is given as a list of blocks."""
    return (
        isinstance(spec, list | tuple)
        and len(spec) > 0
        and all(isinstance(block, keras.layers.Layer) for block in spec)
    )


def check_augmentation(augmentation: Any) -> None:
    if augmentation is not None and not isinstance(
        augmentation, keras.layers.Layer
    ):
        raise ValueError(
            "`augmentation` must be None or a Keras layer, such as "
            "`keras_mmrel.layers.CorruptionAugmentation`. Received: "
            f"{type(augmentation).__name__}"
        )


def check_structure(inputs: Any, shapes: Mapping[str, tuple | None]) -> None:
    """Check names, ranks and sizes of a dict of arrays or tensors.

    Args:
        inputs: What the user passes for the modalities.
        shapes: Modality name -> input shape without the batch axis, or
            `None` where an encoder alone knows it.
    """
    if not isinstance(inputs, Mapping):
        raise ValueError(
            "Inputs must be a dict of modality names to arrays, with the "
            f"modalities {list(shapes)}. Received: {type(inputs).__name__}"
        )
    missing = [name for name in shapes if name not in inputs]
    unknown = [n for n in inputs if n not in shapes and n != MASK]
    if missing or unknown:
        raise ValueError(
            f"Inputs must have exactly the modalities {list(shapes)}, and may "
            f"have '{MASK}' to announce a missing one. Received: "
            f"{list(inputs)} (missing: {missing}, unknown: {unknown})"
        )
    leaves = [leaf for n, s in shapes.items() for leaf in _leaves(n, s, inputs)]
    for name, shape, value in leaves:
        if isinstance(value, list | tuple | str):
            raise ValueError(
                f"Modality '{name}' must be an array or a tensor. Received: "
                f"{type(value).__name__}"
            )
        if shape is None:
            continue
        received = tuple(np.shape(value))
        sizes = zip(received[1:], shape, strict=False)
        if len(received) != len(shape) + 1 or any(
            None not in (r, s) and r != s for r, s in sizes
        ):
            raise ValueError(
                f"Modality '{name}' must have the shape "
                f"(batch, {', '.join(map(str, shape))}). Received: "
                f"shape={received}"
            )
    if inputs.get(MASK) is not None:
        received = tuple(np.shape(inputs[MASK]))
        if len(received) != 2 or received[1] != len(shapes):
            raise ValueError(
                f"'{MASK}' must have the shape (batch, {len(shapes)}), one "
                f"column a modality. Received: shape={received}"
            )


def _leaves(name: str, shape: Any, inputs: Mapping[str, Any]) -> list[tuple]:
    """Name, shape and value of each array of a modality.

    An encoder may take a dict of arrays, such as token ids and their padding.
    """
    value = inputs[name]
    if not isinstance(shape, Mapping):
        return [(name, shape, value)]
    if not isinstance(value, Mapping) or set(value) != set(shape):
        received = (
            list(value) if isinstance(value, Mapping) else type(value).__name__
        )
        raise ValueError(
            f"Modality '{name}' must be a dict with the keys {list(shape)}. "
            f"Received: {received}"
        )
    return [(f"{name}/{key}", shape[key], value[key]) for key in shape]


def check_order(inputs: Mapping[str, Any], names: list[str]) -> None:
    """Refuse a mask beside modalities in another order than the model's.

    Its columns may have been made in either order, and a wrong guess would
    hide good modalities and show missing ones.
    """
    received = [name for name in inputs if name != MASK]
    if (
        inputs.get(MASK) is not None
        and received != names
        and set(received) == set(names)
    ):
        raise ValueError(
            f"Inputs with '{MASK}' must list the modalities in the order of "
            f"its columns, which is {names}. Received: {received}"
        )


def check_arrays(
    inputs: Mapping[str, Any], shapes: Mapping[str, tuple | None]
) -> int:
    """Check the values of in-memory inputs and return the sample count."""
    check_structure(inputs, shapes)
    inputs = {k: v for k, v in inputs.items() if v is not None}
    lengths = {
        f"{name}/{part}" if part else name: len(array)
        for name, value in inputs.items()
        for part, array in enumerate(keras.tree.flatten(value))
    }
    if len(set(lengths.values())) != 1:
        raise ValueError(
            "All modalities must have the same number of samples. Received: "
            f"{lengths}"
        )
    count = next(iter(lengths.values()))
    if count == 0:
        raise ValueError(
            "Inputs must hold at least one sample. Received: an empty dataset"
        )
    mask = np.ones((count, len(shapes)), bool)
    if MASK in inputs:
        values = to_numpy(inputs[MASK])
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"'{MASK}' must hold only 0 (missing) and 1 (present). "
                f"Received: values {np.unique(values)[:5].tolist()}"
            )
        mask = values.astype(bool)
    for index, name in enumerate(shapes):
        for array in keras.tree.flatten(inputs[name]):
            _check_finite(name, to_numpy(array)[mask[:, index]])
    return count


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind in "OSUMm":
        raise ValueError(
            f"Modality '{name}' must hold numbers. Received: "
            f"dtype={array.dtype}"
        )
    if not np.issubdtype(array.dtype, np.floating):
        return
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"Modality '{name}' must be finite where it is present; set "
            f"'{MASK}' to 0 for a missing one. Received: {bad} NaN or "
            "infinite values"
        )
    # Sums of squares must fit into float32.
    if array.size and array.dtype.itemsize > 2:
        largest = max(abs(float(array.min())), abs(float(array.max())))
        if largest > LARGEST:
            raise ValueError(
                f"Modality '{name}' must hold values of at most {LARGEST:g} "
                f"in size; scale it. Received: {largest:.3g}"
            )


def check_labels(
    y: Any, num_classes: int, count: int | None, training: bool
) -> None:
    """Check that in-memory labels are classes of the model.

    Args:
        y: Class numbers `(n,)` or `(n, 1)`, or one-hot rows.
        num_classes: The model's number of classes.
        count: Number of samples that the inputs hold, or `None`.
        training: Whether the labels are trained on, which takes two classes.
    """
    if isinstance(y, list | tuple):
        raise ValueError(
            f"`y` must be an array or a tensor. Received: {type(y).__name__}"
        )
    y = to_numpy(y)
    if count is not None and (y.ndim == 0 or len(y) != count):
        raise ValueError(
            "`y` must have one label a sample. Received: "
            f"{len(y) if y.ndim else 0} labels for {count} samples"
        )
    if y.ndim == 2 and y.shape[1] != 1:
        _check_one_hot(y, num_classes)
        classes = np.unique(np.argmax(y, axis=1))
    elif y.ndim in (1, 2):
        if not np.issubdtype(y.dtype, np.integer) and y.dtype != bool:
            raise ValueError(
                "`y` must hold integer class numbers or one-hot rows of "
                f"width {num_classes}. Received: y.dtype={y.dtype}, "
                f"y.shape={y.shape}"
            )
        if y.size and (y.min() < 0 or y.max() >= num_classes):
            raise ValueError(
                f"`y` must hold class numbers in [0, {num_classes}). "
                f"Received: values from {y.min()} to {y.max()}"
            )
        classes = np.unique(y)
    else:
        raise ValueError(
            "`y` must have the shape (n,) of class numbers or "
            f"(n, {num_classes}) of one-hot rows. Received: y.shape={y.shape}"
        )
    if training and len(classes) < 2:
        raise ValueError(
            "`y` must hold at least two classes to train a classifier. "
            f"Received: only class {classes.tolist()}"
        )


def _check_one_hot(y: np.ndarray, num_classes: int) -> None:
    if y.shape[1] != num_classes:
        raise ValueError(
            f"One-hot `y` must have {num_classes} columns. Received: "
            f"y.shape={y.shape}"
        )
    if (
        not np.isfinite(y).all()
        or (y < 0).any()
        or not np.allclose(y.sum(axis=1), 1.0, atol=1e-3)
    ):
        raise ValueError(
            "One-hot `y` must hold non-negative rows that sum to 1. "
            f"Received: row sums from {y.sum(axis=1).min()} to "
            f"{y.sum(axis=1).max()}, minimum {y.min()}"
        )


def first_batch(data: Any) -> tuple | None:
    """Return the first `(x, y)` of a data source that can be read twice.

    In-memory data and a one-shot generator give `None`: looking at the
    generator would consume it.
    """
    if isinstance(data, Mapping | Sequence) or hasattr(data, "shape"):
        return None
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0] if data.num_batches != 0 else None
    elif hasattr(data, "element_spec") and hasattr(data, "take"):
        batch = next(iter(data.take(1)), None)
    elif hasattr(data, "__iter__") and not hasattr(data, "__next__"):
        batch = next(iter(data), None)
    else:
        return None
    if batch is None:
        raise ValueError(
            "Inputs must hold at least one sample. Received: an empty dataset"
        )
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return x, y


def data_shapes(data: Any, names: Sequence[str]) -> dict[str, Any]:
    """Shapes of the modalities in checked data, empty for a generator."""
    batch = first_batch(data)
    x = data if batch is None else batch[0]
    if not isinstance(x, Mapping):
        return {}
    return {
        name: keras.tree.map_structure(
            lambda value: (None, *value.shape[1:]), x[name]
        )
        for name in names
    }


def to_numpy(array: Any) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    if keras.ops.is_tensor(array):
        return keras.ops.convert_to_numpy(array)
    return np.asarray(array)
