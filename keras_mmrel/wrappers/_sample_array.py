"""One array of samples with all their modalities, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import number_array


def sample_array(x: Modalities) -> Array:
    """One array, a sample an item, of a dict of arrays.

    scikit-learn takes folds of rows, and a dict of arrays has no rows to it.
    This is NumPy's structured array, one field a modality: it can be indexed
    by rows and by the name of a modality, and `MultimodalClassifier` takes
    it as it takes the dict.

    Args:
        x: Dict of modality name -> array of numbers `(samples, ...)`, or ->
            a dict of such; `"modality_mask"` may be one of them.

    Returns:
        Array of shape `(samples,)`, a copy.

    Raises:
        ValueError: If `x` holds anything else, or arrays of different
            lengths.

    Example:

    >>> x = {"audio": np.zeros((5, 3)), "image": np.ones((5, 2, 2))}
    >>> samples = keras_mmrel.wrappers.sample_array(x)
    >>> samples.shape, samples[:2]["image"].shape
    ((5,), (2, 2, 2))
    """
    arrays = plain_arrays(x)
    samples = np.empty(count_of(arrays), _dtype_of(arrays))
    _fill(samples, arrays)
    return samples


def plain_arrays(x: Modalities, within: str = "") -> dict[str, Any]:
    """Arrays of numbers of what may be tensors or tables."""
    if not isinstance(x, Mapping) or not x:
        raise ValueError(
            "`x` must be a dict of modality name -> array. Received: "
            f"{type(x).__name__}{' without items' * isinstance(x, Mapping)}"
        )
    arrays: dict[str, Any] = {}
    for name, value in x.items():
        if isinstance(value, Mapping):
            arrays[name] = plain_arrays(value, f"{name}.")
            continue
        arrays[name] = number_array(value, f"Modality '{within}{name}'")
        if not arrays[name].ndim:
            raise ValueError(
                f"Modality '{within}{name}' must have an axis of samples. "
                "Received: one number"
            )
    return arrays


def _leaves(arrays: Mapping[str, Any]) -> dict[str, Array]:
    found = {}
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            inner = _leaves(value)
            found.update({f"{name}.{key}": v for key, v in inner.items()})
        else:
            found[name] = value
    return found


def count_of(arrays: Mapping[str, Any]) -> int:
    """Number of samples, which all arrays must have."""
    counts = {name: len(value) for name, value in _leaves(arrays).items()}
    if len(set(counts.values())) != 1:
        raise ValueError(
            "All modalities must have the same number of samples. Received: "
            f"{counts}"
        )
    return next(iter(counts.values()))


def _dtype_of(arrays: Mapping[str, Any]) -> np.dtype:
    fields: list[Any] = []
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            fields.append((name, _dtype_of(value)))
        else:
            fields.append((name, value.dtype, value.shape[1:]))
    return np.dtype(fields)


def _fill(samples: Array, arrays: Mapping[str, Any]) -> None:
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            _fill(samples[name], value)
        else:
            samples[name] = value


def is_sample_array(x: Any) -> bool:
    """Whether it is one that `sample_array` could have made."""
    return isinstance(x, np.ndarray) and x.dtype.names is not None


def by_modality(samples: Array) -> dict[str, Any]:
    """The dict that `sample_array` was given."""
    found: dict[str, Any] = {}
    for name in samples.dtype.names or ():
        value = samples[name]
        inner = is_sample_array(value)
        found[name] = (
            by_modality(value) if inner else np.ascontiguousarray(value)
        )
    return found
