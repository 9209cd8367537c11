"""Batches of a data set of any framework, for layers that `adapt` to it."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

import keras

from keras_mmrel.contract import DataSource
from keras_mmrel.tensor_layer import describe


def batches_of(data: DataSource) -> Iterator[tuple]:
    """Yield `(inputs, y, modality_mask)` of every batch."""
    if isinstance(data, keras.utils.PyDataset):
        # It has a length and no end of its own.
        data = map(data.__getitem__, range(len(data)))
    for batch in data:
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            raise ValueError(
                "`data` must hold batches (inputs, y) or (inputs, y, "
                f"modality_mask). Received: {describe(batch)}"
            )
        inputs, y, *mask = batch
        yield inputs, y, mask[0] if mask else None


def first_batch(data: DataSource) -> tuple:
    """Return the first batch of a data set that can be read twice."""
    whole = isinstance(data, Mapping | str) or hasattr(data, "shape")
    readable = isinstance(data, Iterable | keras.utils.PyDataset)
    if whole or not readable or iter(data) is data:
        raise ValueError(
            "`data` must be arrays with `y`, or a data set that can be read "
            f"twice. Received: {type(data).__name__}"
        )
    batch = next(batches_of(data), None)
    if batch is None:
        raise ValueError(f"`data` must hold samples. Received: data={data!r}")
    return batch
