"""Data that come batch by batch: what they are, and what is beside them."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import DataSource

# Classes of other libraries that Keras draws batches from, by their names.
_DATASETS = (
    "DatasetV2", "DistributedDataset", "DistributedDatasetsFromFunction",
    "DataLoader", "MapDataset", "IterDataset",
)  # fmt: skip
# Those that Keras can weight by class.
_WEIGHTABLE = _DATASETS[:3]


# -- What is a pipeline ------------------------------------------------------


def is_pipeline(data: DataSource) -> bool:
    """Whether the data come batch by batch."""
    in_memory = isinstance(data, Mapping | Sequence) or hasattr(data, "shape")
    iterable = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    return iterable and not in_memory


def is_iterator(data: DataSource) -> bool:
    """Whether it is used up by being read, as a generator is."""
    return hasattr(data, "__next__")


def is_rewritten(data: DataSource) -> bool:
    """Whether other batches can be drawn in the place of its own."""
    return is_iterator(data) or isinstance(data, keras.utils.PyDataset)


def _is_one_of(data: DataSource, names: Sequence[str]) -> bool:
    return any(parent.__name__ in names for parent in type(data).__mro__)


def has_workers(data: DataSource) -> bool:
    """Whether Keras lets threads or processes draw batches ahead."""
    if not isinstance(data, keras.utils.PyDataset):
        return False
    return data.workers > (0 if data.use_multiprocessing else 1)


def check_source(data: DataSource) -> None:
    """Refuse a pipeline that Keras draws no batches from."""
    if (
        is_pipeline(data)
        and not is_iterator(data)
        and not isinstance(data, keras.utils.PyDataset)
        and not _is_one_of(data, _DATASETS)
    ):
        raise ValueError(
            "Inputs must be a dict of modality names to arrays, or batches "
            "from a `PyDataset`, `tf.data.Dataset`, `DataLoader`, grain data "
            f"set or generator. Received: {type(data).__name__}"
        )


def check_beside(
    data: DataSource, class_weight: dict | None = None, **arguments: Any
) -> None:
    """Refuse arguments that are for data in memory only.

    Keras ignores some of them without a word.

    Args:
        data: A data source.
        class_weight: As in `fit`.
        **arguments: Others, by name.
    """
    if not is_pipeline(data):
        return
    for name, value in arguments.items():
        if value is not None and not (
            name == "validation_split" and value == 0
        ):
            received = type(value).__name__ if np.ndim(value) else repr(value)
            raise ValueError(
                f"`{name}` must not be given beside data that come in "
                f"batches, as from a {type(data).__name__}. Received: "
                f"{name}={received}"
            )
    if (
        class_weight is not None
        and not isinstance(data, keras.utils.PyDataset)
        and not _is_one_of(data, _WEIGHTABLE)
    ):
        raise ValueError(
            "`class_weight` must be None for batches of a "
            f"{type(data).__name__}: let them have sample weights. Received: "
            f"class_weight={class_weight!r}"
        )


def unpacked(batch: Any) -> tuple:
    """Return `(x, y, sample_weight)` of what a pipeline yields."""
    parts = tuple(batch) if isinstance(batch, list | tuple) else (batch,)
    if len(parts) not in (1, 2, 3):
        raise ValueError(
            "A batch must be (inputs, labels), maybe with sample weights. "
            f"Received: {type(batch).__name__} of {len(parts)}"
        )
    x, y, sample_weight = (*parts, None, None)[:3]
    return x, y, sample_weight


def first_batch(data: DataSource) -> tuple | None:
    """Return the first `(x, y, sample_weight)` of a source to read twice.

    In-memory data and an iterator give `None`: looking at the iterator would
    consume it.
    """
    if not is_pipeline(data) or is_iterator(data):
        return None
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0] if data.num_batches != 0 else None
    elif hasattr(data, "element_spec") and hasattr(data, "take"):
        batch = next(iter(data.take(1)), None)
    else:
        batch = next(iter(data), None)
    if batch is None:
        raise ValueError(
            "Inputs must hold at least one sample. Received: an empty dataset"
        )
    return unpacked(batch)


def data_shapes(data: DataSource, names: Sequence[str]) -> dict[str, Any]:
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
