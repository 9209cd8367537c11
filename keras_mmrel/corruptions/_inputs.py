"""What the corruptions take: their target, inputs and labels."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.constraints import Constraint
from keras_mmrel.contract import MASK
from keras_mmrel.contract import WHITE
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import are_pixels_to_white
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import is_pixels
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import number_array
from keras_mmrel.contract import parts_of
from keras_mmrel.contract import read_tables
from keras_mmrel.contract import to_numpy


class Target(Constraint):
    """A string, or a sequence of different names, which becomes a list."""

    expected = (
        "'all', 'one', 'independent', the name of a modality or a non-empty "
        "sequence of different names"
    )
    bad = ("", [], None, 3, ["a", "a"], ["a", 1])

    def accepts(self, value: Any) -> bool:
        if isinstance(value, str):
            return bool(value)
        if not isinstance(value, Sequence):
            return False
        named = all(isinstance(name, str) and name for name in value)
        return named and 0 < len(value) == len(set(value))

    def plain(self, value: Any) -> str | list[str]:
        return value if isinstance(value, str) else list(value)


TARGET = Target()


def read_inputs(
    inputs: Modalities, labels: Labels | None = None
) -> tuple[dict[str, Any], Array, Labels | None]:
    """Return the modalities as new arrays, who is present, and labels.

    Args:
        inputs: Dict of modality name -> array, table, texts, or a dict of
            arrays.
        labels: Labels, or a table of them.

    Returns:
        A dict of modality name -> floating array, array of objects for texts,
        or a dict of arrays of their own dtypes; a boolean array `(samples,
        modalities)`; and the labels as an array.
    """
    if not isinstance(inputs, Mapping) or not set(inputs) - {MASK}:
        raise ValueError(
            "`inputs` must be a non-empty dict of modality names to arrays. "
            f"Received: {type(inputs).__name__}"
        )
    modalities = modality_arrays(inputs)
    names = list(modalities)
    texts = [n for n, v in modalities.items() if is_text(v)]
    check_rows_agree({f"Modality '{n}'": v for n, v in modalities.items()})
    rest = {name: v for name, v in inputs.items() if name not in texts}
    rest, labels, _ = read_tables(rest, labels, names=names)
    arrays = {
        name: as_texts(inputs[name])
        if name in texts
        else _named_parts(name, rest[name])
        if isinstance(rest[name], Mapping)
        else _floating(name, rest[name])
        for name in names
    }
    rows = {
        f"{name}/{part}" if part else name: len(array)
        for name, value in arrays.items()
        for part, array in parts_of(value).items()
    }
    if len(set(rows.values())) != 1:
        raise ValueError(
            "All modalities must have the same number of samples. Received: "
            f"{rows}"
        )
    present = _present(rest, (next(iter(rows.values())), len(names)))
    for column, (name, value) in enumerate(arrays.items()):
        if name in texts:
            present[:, column] &= [isinstance(text, str) for text in value]
            continue
        there = present[:, column]
        bad = 0
        for array in parts_of(value).values():
            if array.dtype.kind == "f":
                bad += int((~np.isfinite(array[there])).sum())
        if bad:
            raise ValueError(
                f"Modality '{name}' must be finite where it is present; set "
                f"'{MASK}' to 0 for a missing one. Received: {bad} NaN or "
                "infinite values"
            )
    return arrays, present, labels


def is_numbers(value: Any) -> bool:
    """Whether what `read_inputs` made of a modality is one array of numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind != "O"


def as_given(values: Any, given: ArrayLike) -> Any:
    """Return corrupted values, as bytes where pixels were given as bytes.

    A model tells bytes from floats, whose scale is another one.
    """
    if hasattr(given, "dtype") and is_pixels(given):  # type: ignore[arg-type]
        return np.clip(np.rint(values), 0, 255).astype("uint8")
    return values


def white_of(given: Any, high: float = 1.0) -> float:
    """Return by what pixels are divided for white to be `high`.

    It is not 1 for those in bytes, and for numbers that plainly go to 255, as
    models take them.
    """
    if not hasattr(given, "dtype") or len(given.shape) < 4:
        return 1.0
    if not is_pixels(given):
        # A missing one may hold NaN.
        array = np.nan_to_num(to_numpy(given))
        largest = float(np.abs(array).max()) if array.size else 0.0
        if not are_pixels_to_white(array, largest):
            return 1.0
    return WHITE / high


def is_text(values: ArrayLike) -> bool:
    """Whether it holds texts and cells without one, and nothing else."""
    if isinstance(values, Mapping) or len(getattr(values, "shape", "n")) != 1:
        return False
    array = _cells(values)
    if array.dtype.kind in "UT":
        return array.ndim == 1 and array.size > 0
    if array.dtype.kind != "O" or array.ndim != 1:
        return False
    known = [isinstance(cell, str) for cell in array]
    return any(known) and all(
        text or _is_empty(cell) for text, cell in zip(known, array, strict=True)
    )


def _cells(values: ArrayLike) -> Array:
    """Return what stands in a list or a column, each thing as it is."""
    listed = isinstance(values, list | tuple)
    return np.array(values, object) if listed else to_numpy(values)


def _is_empty(cell: Any) -> bool:
    """Whether a table's cell has nothing in it: `None`, NaN, `pandas.NA`."""
    return (
        cell is None
        or type(cell).__name__ == "NAType"
        or (isinstance(cell, float) and np.isnan(cell))
    )


def as_texts(values: ArrayLike) -> Array:
    """Return texts as an array of plain strings, with empty cells as such."""
    texts = np.empty(len(values), object)
    texts[:] = [
        str(cell) if isinstance(cell, str) else cell for cell in _cells(values)
    ]
    return texts


def _named_parts(name: str, values: Mapping[str, Any]) -> dict[str, Array]:
    """Return copies of the arrays of a modality that has several."""
    made = {}
    for part, value in values.items():
        array = number_array(value, f"Modality '{name}/{part}'")
        if array.ndim == 0 or array.size == 0:
            raise ValueError(
                f"Modality '{name}/{part}' must be an array of numbers with at "
                "least one sample and one feature. Received: "
                f"shape={array.shape}, dtype={array.dtype}"
            )
        made[part] = array.copy()
    return made


def _floating(name: Any, values: ArrayLike) -> Array:
    if not isinstance(name, str) or not name:
        raise ValueError(
            "`inputs` must be named by non-empty strings. Received: "
            f"name={name!r}"
        )
    array = number_array(values, f"Modality '{name}'")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"Modality '{name}' must be an array of numbers with at least one "
            f"sample and one feature. Received: shape={array.shape}, "
            f"dtype={array.dtype}"
        )
    return array.astype(array.dtype if array.dtype.kind == "f" else "float32")


def _present(inputs: Modalities, shape: tuple[int, int]) -> Array:
    if MASK not in inputs:
        return np.ones(shape, bool)
    mask = to_numpy(inputs[MASK])
    if mask.shape != shape:
        raise ValueError(
            f"'{MASK}' must have the shape {shape}, one row a sample and one "
            f"column a modality. Received: shape={mask.shape}"
        )
    return check_mask_values(mask)


def read_labels(labels: Labels, samples: int) -> Array:
    """Return class numbers `(samples,)`, of as many classes as there are."""
    y = to_numpy(labels)
    rows = y.ndim == 2 and y.shape[1] > 1
    known = y.size > 0 and y.dtype.kind in "iub"
    classes = y.shape[1] if rows else int(y.max()) + 1 if known else 1
    return check_labels(y, classes, samples)
