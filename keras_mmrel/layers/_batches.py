"""Batches of a data set of any framework, for layers that `adapt` to it."""

from collections.abc import Iterator

import keras

from keras_mmrel.contract import DataSource


def batches_of(data: DataSource) -> Iterator[tuple]:
    """Yield `(inputs, y, modality_mask)` of every batch."""
    if isinstance(data, keras.utils.PyDataset):
        # It has a length and no end of its own.
        data = map(data.__getitem__, range(len(data)))
    for inputs, y, *mask in data:
        yield inputs, y, mask[0] if mask else None


def first_batch(data: DataSource) -> tuple:
    """Return the first batch of a data set that can be read twice."""
    if iter(data) is data:
        raise ValueError(
            "`data` must be arrays with `y`, or a data set that can be read "
            f"twice. Received: {type(data).__name__}"
        )
    batch = next(batches_of(data), None)
    if batch is None:
        raise ValueError(f"`data` must hold samples. Received: data={data!r}")
    return batch
