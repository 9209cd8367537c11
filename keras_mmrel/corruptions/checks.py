"""Argument and input checks that the corruptions share."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

MASK = "modality_mask"


def check_number(name: str, value: Any, low: float = -math.inf) -> float:
    """Return `value` as a float if it is a finite number from `low` on."""
    expected = "a finite number"
    if low > -math.inf:
        expected += f" of at least {low:g}"
    if not _is_number(value) or not math.isfinite(value) or value < low:
        raise ValueError(
            f"`{name}` must be {expected}. Received: {name}={value!r}"
        )
    return float(value)


def check_share(name: str, value: Any, zero: bool = True) -> float:
    """Return `value` as a float if it is in [0, 1], or (0, 1]."""
    if not _is_number(value) or not 0 <= value <= 1 or not (value or zero):
        raise ValueError(
            f"`{name}` must be a number in {'[' if zero else '('}0, 1]. "
            f"Received: {name}={value!r}"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    kinds = int | float | np.integer | np.floating
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_seed(seed: Any) -> int:
    if (
        isinstance(seed, bool)
        or not isinstance(seed, int | np.integer)
        or seed < 0
    ):
        raise ValueError(
            f"`seed` must be a non-negative integer. Received: seed={seed!r}"
        )
    return int(seed)


def check_target(target: Any) -> str | list[str]:
    """Return a string as it is, a sequence of different names as a list."""
    if isinstance(target, str) and target:
        return target
    names = list(target) if isinstance(target, Sequence) else []
    if (
        not names
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) != len(names)
    ):
        raise ValueError(
            "`target` must be 'all', 'one', 'independent', the name of a "
            "modality or a non-empty sequence of different names. Received: "
            f"target={target!r}"
        )
    return names


def read_inputs(inputs: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the modalities as new floating arrays, and who is present.

    Returns:
        A dict of modality name -> array, and a boolean array
        `(samples, modalities)`.
    """
    if not isinstance(inputs, Mapping) or not set(inputs) - {MASK}:
        raise ValueError(
            "`inputs` must be a non-empty dict of modality names to arrays. "
            f"Received: inputs={inputs!r}"
        )
    arrays = {k: _floating(k, v) for k, v in inputs.items() if k != MASK}
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(
            "All modalities must have the same number of samples. Received: "
            f"{rows}"
        )
    present = _present(inputs, (next(iter(rows.values())), len(rows)))
    for column, (name, array) in enumerate(arrays.items()):
        values = array[present[:, column]]
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise ValueError(
                f"Modality '{name}' must be finite where it is present; set "
                f"'{MASK}' to 0 for a missing one. Received: {bad} NaN or "
                "infinite values"
            )
    return arrays, present


def _floating(name: Any, values: Any) -> np.ndarray:
    if not isinstance(name, str) or not name:
        raise ValueError(
            "`inputs` must be named by non-empty strings. Received: "
            f"name={name!r}"
        )
    array = np.asarray(values)
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"Modality '{name}' must be an array of numbers with at least one "
            f"sample and one feature. Received: shape={array.shape}, "
            f"dtype={array.dtype}"
        )
    return array.astype(array.dtype if array.dtype.kind == "f" else "float32")


def _present(inputs: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    if MASK not in inputs:
        return np.ones(shape, bool)
    mask = np.asarray(inputs[MASK])
    if mask.shape != shape:
        raise ValueError(
            f"'{MASK}' must have the shape {shape}, one row a sample and one "
            f"column a modality. Received: shape={mask.shape}"
        )
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"'{MASK}' must hold only 0 (missing) and 1 (present). Received: "
            f"values {np.unique(mask)[:5].tolist()}"
        )
    return mask.astype(bool)
