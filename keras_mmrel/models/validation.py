"""Checks of the data that a user passes, made before the first step.

Every check raises `ValueError` with one sentence that names the argument, what
was expected and what was received. Arrays are read in chunks and never
copied.
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.backend import upstream
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import refuse_unknown
from keras_mmrel.contract import LARGEST
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Shape
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import rows_to_numpy
from keras_mmrel.contract import to_numpy
from keras_mmrel.user_warning import warn

CHUNK_BYTES = 1 << 22
# Values beyond it look like counts, pixels or another raw unit.
RAW = 100.0
# So does what is mostly beyond this, decibels for example.
RAW_MEAN = 10.0
# Samples that are looked at for that.
ROWS_OF_MEAN = 256

# Modality -> input shape without the batch axis, a dict of such shapes, or
# `None` where an encoder alone knows it.
Shapes = Mapping[str, Any]


# -- Constructor arguments ---------------------------------------------------


def check_modalities(modalities: ModalitySpecs) -> None:
    """Refuse anything but a non-empty dict of names to shapes or layers."""
    if not isinstance(modalities, Mapping) or not modalities:
        raise ValueError(
            "`modalities` must be a non-empty dict of modality names to input "
            f"shapes or encoders. Received: modalities={modalities!r}"
        )
    for name, spec in modalities.items():
        taken = name in (MASK, QUALITY)
        if not isinstance(name, str) or not name or taken:
            raise ValueError(
                "`modalities` must be named by non-empty strings other than "
                f"'{MASK}' and '{QUALITY}'. Received: name={name!r}"
            )
        if isinstance(spec, keras.layers.Layer) or is_block_list(spec):
            continue
        shapes = list(spec.values()) if isinstance(spec, Mapping) else [spec]
        if not shapes or not all(map(_is_shape, shapes)):
            raise ValueError(
                f"`modalities['{name}']` must be a shape of positive integers "
                "without the batch axis, a dict of such shapes, a Keras layer "
                "or model, or a list of Keras layers. "
                f"Received: {spec!r}"
            )


def _is_shape(spec: object) -> bool:
    return (
        isinstance(spec, Sequence)
        and not isinstance(spec, str)
        and len(spec) > 0
        and all(isinstance(n, int | np.integer) and n > 0 for n in spec)
    )


def is_block_list(spec: object) -> bool:
    """Whether an encoder is given as a list of blocks."""
    return (
        isinstance(spec, list | tuple)
        and len(spec) > 0
        and all(isinstance(block, keras.layers.Layer) for block in spec)
    )


def check_compute_dtype(dtype: str) -> None:
    """Refuse a model that would compute in anything but floats."""
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            "`dtype` must be a floating one or a policy, such as 'float32' or "
            f"'mixed_float16'. Received: dtype={dtype!r}"
        )


# -- Runs --------------------------------------------------------------------

# What `fit`, `evaluate` and `predict` take beside data.
_COUNT = Either(Integer(1), None)
RUN_ARGUMENTS = {
    "batch_size": _COUNT,
    "steps": _COUNT,
    "epochs": Integer(0),
    "initial_epoch": Integer(0),
    "validation_split": Number(0, 1, high_open=True),
    "shuffle": Flag(),
    "return_dict": Flag(),
    "verbose": Either(Integer(0), Flag(), "auto"),
    "steps_per_epoch": _COUNT,
    "validation_steps": _COUNT,
    "validation_batch_size": _COUNT,
    "validation_freq": Either(Integer(1), Every(Integer(1))),
}

_OTHERS = ("callbacks", upstream.CACHED_EVALUATION)


def check_run(method: str, /, **arguments: Any) -> None:
    """Refuse nonsensical numbers of batches, epochs and steps.

    Args:
        method: Name of the method that was called.
        **arguments: What it was given.
    """
    refuse_unknown(f"`{method}`", arguments, {*RUN_ARGUMENTS, *_OTHERS})
    for name, value in arguments.items():
        if name in RUN_ARGUMENTS:
            RUN_ARGUMENTS[name](name, value)
    epochs = arguments.get("epochs")
    if epochs is not None and arguments.get("initial_epoch", 0) > epochs:
        raise ValueError(
            f"`initial_epoch` must be at most `epochs`, {epochs}. Received: "
            f"initial_epoch={arguments['initial_epoch']}"
        )


def check_compiled(model: Model) -> None:
    """Refuse a model that does not know its loss, and a broken step size."""
    if not model.compiled:
        raise ValueError(
            f"{type(model).__name__} must be compiled to train or be "
            "evaluated. Received: a model without `compile()`"
        )
    if model.optimizer is None:
        raise ValueError(
            "`optimizer` must be an optimizer, its name or 'auto'. Received: "
            "optimizer=None"
        )
    rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
    Number(0)("learning_rate", rate)


def check_weights(model: Model) -> None:
    """Refuse to train weights that a training, or a file, has lost."""
    lost = [
        weight
        for weight in model.weights
        if keras.backend.is_float_dtype(weight.dtype)
        and not bool(ops.all(ops.isfinite(weight)))
    ]
    if lost:
        raise ValueError(
            "Training must begin with finite weights: make the model anew, or "
            f"load them. Received: {len(lost)} of {len(model.weights)} with "
            f"NaN or infinity, such as {lost[0].path}"
        )


def check_split(count: int, validation_split: float) -> None:
    """Refuse a part for validation that leaves nothing."""
    if int(count * (1 - validation_split)) == 0:
        raise ValueError(
            "`validation_split` must leave a sample to train on. Received: "
            f"validation_split={validation_split} of {count} samples"
        )


# -- Names, ranks, sizes: arrays and tensors alike ---------------------------


def check_structure(inputs: Modalities, shapes: Shapes) -> None:
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
            f"have '{MASK}' to announce a missing one, which `predict` and "
            "`evaluate` do for one that is left out. Received: "
            f"{list(inputs)} (missing: {missing}, unknown: {unknown})"
        )
    leaves = [leaf for n, s in shapes.items() for leaf in _leaves(n, s, inputs)]
    for name, shape, value in leaves:
        if value is None or isinstance(value, list | tuple | str):
            raise ValueError(
                f"Modality '{name}' must be an array or a tensor. Received: "
                f"{type(value).__name__}"
            )
        if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
            raise ValueError(
                f"Modality '{name}' must hold numbers. Received: "
                f"dtype={value.dtype}"
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
        if isinstance(inputs[MASK], list | tuple | str | Mapping):
            raise ValueError(
                f"'{MASK}' must be an array or a tensor. Received: "
                f"{type(inputs[MASK]).__name__}"
            )
        received = tuple(np.shape(inputs[MASK]))
        if len(received) != 2 or received[1] != len(shapes):
            raise ValueError(
                f"'{MASK}' must have the shape (batch, {len(shapes)}), one "
                f"column a modality. Received: shape={received}"
            )
    check_rows({name: inputs.get(name) for name in (*shapes, MASK)})


def check_rows(inputs: Modalities) -> None:
    """Refuse arrays of several numbers of samples, where they are known."""
    rows = {
        f"{name}/{part}" if part else name: [*np.shape(array), 0][0]
        for name, value in inputs.items()
        for part, array in enumerate(keras.tree.flatten(value))
        if array is not None
    }
    # An export traces numbers that are symbols.
    known = {count for count in rows.values() if isinstance(count, int)}
    if len(known) > 1:
        raise ValueError(
            "All modalities must have the same number of samples. Received: "
            f"{rows}"
        )


def _leaves(
    name: str, shape: Shape | Shapes | None, inputs: Modalities
) -> list[tuple]:
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
        segments = isinstance(value, Mapping) and "segment_ids" in value
        raise ValueError(
            f"Modality '{name}' must be a dict with the keys {list(shape)}"
            f"{'; `segment_ids=True` of a `TextEncoder` takes them' * segments}"
            f". Received: {received}"
        )
    return [(f"{name}/{key}", shape[key], value[key]) for key in shape]


def check_order(inputs: Modalities, names: list[str]) -> None:
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


# -- Values ------------------------------------------------------------------


def check_arrays(
    inputs: Modalities,
    shapes: Shapes,
    rows: int | None = None,
    hints: Sequence[str] = (),
    limit: float = LARGEST,
    encoded: Sequence[str] = (),
    hint: Callable[[str, float], None] | None = None,
    unit: Callable[[str, Array, float], float] | None = None,
) -> tuple[int, dict[str, float]]:
    """Check the values of in-memory inputs.

    Args:
        inputs: Dict of arrays.
        shapes: As in `check_structure`.
        rows: Number of the first samples whose values are looked at, or
            `None` for all.
        hints: Modalities of which `hint` is told if values look unscaled.
        limit: Largest size of a value.
        encoded: Modalities whose encoder is the user's: what it makes of
            integers (numbers of tokens, say) is its own affair.
        hint: Function of a modality's name and its largest value.
        unit: Function of a modality's name, some of its samples and the
            largest value of all: what a step divides it by.

    Returns:
        The number of samples, and the size of the largest value of each
        modality on the scale that its encoder sees: bytes of an image are
        pixels in [0, 1]. It is 0 for integers of a user's encoder.
    """
    check_structure(inputs, shapes)
    inputs = {k: v for k, v in inputs.items() if v is not None}
    count = len(keras.tree.flatten(inputs)[0])
    if count == 0:
        raise ValueError(
            "Inputs must hold at least one sample. Received: an empty dataset"
        )
    mask = None
    if MASK in inputs:
        mask = check_mask_values(rows_to_numpy(inputs[MASK], slice(rows)))
    sizes = {}
    for index, name in enumerate(shapes):
        present = None if mask is None else mask[:, index]
        sizes[name] = 0.0
        for array in keras.tree.flatten(inputs[name]):
            first = rows_to_numpy(array, slice(1))
            numbers = name in encoded and first.dtype.kind in "biu"
            largest = check_finite(
                name, array, present, LARGEST if numbers else limit, rows
            )
            if numbers:
                continue
            some = _some_present(array, present)
            by = 1.0 if unit is None else unit(name, some, largest)
            if (
                hint is not None
                and name in hints
                and by == 1.0
                and (largest > RAW or _mean_size(some) > RAW_MEAN)
            ):
                hint(name, largest)
            sizes[name] = max(sizes[name], largest / by)
    return count, sizes


def _some_present(array: Array | Tensor, present: Array | None) -> Array:
    """Some samples that are there."""
    some = rows_to_numpy(array, slice(ROWS_OF_MEAN))
    return some if present is None else some[present[:ROWS_OF_MEAN]]


def _mean_size(some: Array) -> float:
    return float(np.abs(some.astype("float32")).mean()) if some.size else 0.0


def check_finite(
    name: str,
    array: Array | Tensor,
    present: Array | None,
    limit: float,
    rows: int | None = None,
) -> float:
    """Refuse NaN, infinity and huge numbers where a modality is present.

    A tensor is read in chunks, too: some backends copy what NumPy gets.

    Returns:
        The largest size of a number.
    """
    first = rows_to_numpy(array, slice(1))
    if first.dtype.kind not in "biuf" and first.dtype.name != "bfloat16":
        raise ValueError(
            f"Modality '{name}' must hold numbers. Received: "
            f"dtype={first.dtype}"
        )
    if first.dtype.kind == "b":
        return 1.0
    bad, largest = 0, 0.0
    row_bytes = first.dtype.itemsize * max(int(np.prod(first.shape[1:])), 1)
    step = max(1, CHUNK_BYTES // row_bytes)
    count = min(len(array), rows or len(array))
    for start in range(0, count, step):
        used = slice(start, min(start + step, count))
        chunk = rows_to_numpy(array, used)
        if present is not None:
            there = present[used]
            chunk = chunk if there.all() else chunk[there]
        if not chunk.size:
            continue
        # NaN and infinity show in the extremes: no second array is made.
        extreme = max(-float(chunk.min()), float(chunk.max()))
        if np.isfinite(extreme) and np.isfinite(chunk.min()):
            largest = max(largest, extreme)
        else:
            bad += int(chunk.size - np.isfinite(chunk).sum())
    if bad:
        raise ValueError(
            f"Modality '{name}' must be finite where it is present; set "
            f"'{MASK}' to 0 for a missing one, or impute. Received: {bad} NaN "
            "or infinite values"
        )
    if largest > limit:
        raise ValueError(
            f"Modality '{name}' must hold values of at most {limit:g} "
            f"in size; scale it. Received: {largest:.3g}"
        )
    return largest


# -- Weights -----------------------------------------------------------------


def check_sample_weight(
    sample_weight: ArrayLike, count: int, whole: bool = False
) -> None:
    """Refuse all but one finite, non-negative weight a sample.

    Args:
        sample_weight: The weights.
        count: Number of samples.
        whole: Whether these are all the data: one must count then.
    """
    weight = None
    if not isinstance(sample_weight, Mapping | list | tuple | str):
        weight = to_numpy(sample_weight)
    if weight is None or weight.dtype.kind not in "iubf":
        kind = type(sample_weight).__name__
        raise ValueError(
            "`sample_weight` must be an array of one number a sample. "
            f"Received: {kind if weight is None else weight.dtype}"
        )
    if weight.shape not in ((count,), (count, 1)):
        raise ValueError(
            "`sample_weight` must hold one weight a sample, of shape "
            f"({count},). Received: shape={weight.shape}"
        )
    wrong = weight[~(np.isfinite(weight) & (weight >= 0))]
    if wrong.size:
        raise ValueError(
            "`sample_weight` must be finite and not negative. Received: "
            f"{wrong.size} others, such as {wrong[0]}"
        )
    if weight.max(initial=0) > LARGEST:
        raise ValueError(
            f"`sample_weight` must be at most {LARGEST:g}. Received: "
            f"{weight.max():g}"
        )
    if whole and not weight.any():
        raise ValueError(
            "`sample_weight` must be above 0 for a sample at least. Received: "
            f"{count} zeros"
        )


def check_class_weight(
    class_weight: Mapping, num_classes: int, classes: Sequence[int] = ()
) -> None:
    """Refuse all but one finite, non-negative weight a class.

    Args:
        class_weight: As in `fit`.
        num_classes: Number of classes.
        classes: Those that occur, where they are known.
    """
    expected = (
        "`class_weight` must be a dict with a finite, non-negative weight for "
        f"each class from 0 to {num_classes - 1}"
    )
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"{expected}. Received: {type(class_weight).__name__}")
    unknown = [k for k in class_weight if k not in range(num_classes)]
    absent = [k for k in range(num_classes) if k not in class_weight]
    if unknown or absent:
        raise ValueError(
            f"{expected}. Received: unknown classes {unknown[:5]}, classes "
            f"without a weight {absent[:5]}"
        )
    weight = Number(0)
    wrong = {k: w for k, w in class_weight.items() if not weight.accepts(w)}
    if wrong or not any(class_weight.values()):
        raise ValueError(f"{expected}. Received: {wrong or 'only zeros'}")
    if len(classes) and not any(class_weight[int(k)] for k in classes):
        raise ValueError(
            "`class_weight` must be above 0 for a class that `y` has. "
            f"Received: 0 for all of them, {[int(k) for k in classes]}"
        )


def check_classes(
    labels: Array,
    sample_weight: ArrayLike | None,
    class_weight: Mapping | None,
    validation_split: float,
) -> None:
    """Refuse to train a classifier on samples of one class.

    Args:
        labels: Class numbers of all samples, `(samples,)`.
        sample_weight: As in `fit`; a sample of weight 0 is none.
        class_weight: Likewise.
        validation_split: Likewise; the last samples are not trained on.
    """
    labels = labels[: math.floor(len(labels) * (1.0 - validation_split))]
    if sample_weight is not None:
        weight = to_numpy(sample_weight).reshape(-1)[: len(labels)]
        labels = labels[weight > 0]
    if class_weight is not None:
        used = [k for k, weight in class_weight.items() if weight > 0]
        labels = labels[np.isin(labels, used)]
    if (labels == labels[:1]).all():
        raise ValueError(
            "`y` must hold at least two classes to train a classifier, "
            "without samples of weight 0 and those of `validation_split`. "
            f"Received: only class {labels[:1].tolist()}"
        )


# -- What a model makes of a pipeline ----------------------------------------


def check_predictions(
    outputs: Outputs,
    informative: Array,
    tokens: Mapping[int, str] | None = None,
) -> None:
    """Refuse predictions of batches without a mask that nobody checked.

    What is no number counts as missing, and nobody has announced it.

    Args:
        outputs: What `predict` returned.
        informative: `(modalities,)`, 0 for one that is never used.
        tokens: Column of a modality of tokens -> what it must hold.
    """
    check_mask_values(outputs[MASK])
    lost = (outputs[MASK] == 0) & (informative > 0)
    for column, expected in (tokens or {}).items():
        rows = np.flatnonzero(lost[:, column])
        if len(rows):
            raise ValueError(
                f"{expected}, or be announced as missing by a 0 in '{MASK}'. "
                f"Received: {len(rows)} samples with others, the first at "
                f"{rows[0]}"
            )
    wrong = lost.any(axis=1)
    if wrong.any():
        raise ValueError(
            "Inputs must be finite; announce a missing modality by a 0 in "
            f"'{MASK}', or impute. Received: {wrong.sum()} samples with NaN, "
            f"infinite or huge values, the first at {wrong.argmax()}"
        )


def warn_of_broken_predictions(outputs: Outputs) -> None:
    """Say that a model cannot predict any more, which no number does."""
    broken = ~np.isfinite(outputs[LOGITS]).all(axis=1)
    if broken.any():
        warn(
            "Predictions must be finite: a training, or a file, has lost "
            f"weights of the model. Received: logits of {broken.sum()} of "
            f"{len(broken)} samples with NaN or infinity"
        )


# -- What a method makes -----------------------------------------------------


def check_feature(name: str, feature: Tensor) -> None:
    """Refuse an encoder's output that is no vector a sample."""
    if len(feature.shape) != 2:
        raise ValueError(
            f"The encoder of modality '{name}' must return (batch, d); wrap a "
            "backbone in `keras_mmrel.encoders.PooledEncoder`. Received: "
            f"shape={tuple(feature.shape)}"
        )


def check_terms(terms: Losses, declared: Iterable[str]) -> None:
    """Refuse loss terms other than the declared ones."""
    if set(terms) != set(declared):
        raise ValueError(
            "`auxiliary_losses` must return the terms named by "
            f"`auxiliary_loss_names` {sorted(declared)}. Received: "
            f"{sorted(terms)}"
        )
