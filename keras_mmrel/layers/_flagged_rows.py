"""Do costly work for the rows that need it, in one graph of static shapes."""

from collections.abc import Callable

import numpy as np
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values
from keras_mmrel.portable import loops
from keras_mmrel.portable import traces_for_export

# Rows that one turn of the loop takes.
ROWS = 16


def on_flagged_rows(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    flags: Tensor,
    width: int,
) -> Tensor:
    """Apply `function` where flags are set; elsewhere it may be left out.

    Each modality's flagged rows are brought together, and worked on a few at a
    time, for as long as there are some. No gradient flows through it.

    Args:
        function: From `(rows, modalities, d)` to `(rows, modalities, width)`.
            What it finds of a row must not depend on other rows.
        x: `(batch, modalities, d)`.
        flags: `(batch, modalities)` of booleans.
        width: See `function`.

    Returns:
        `(batch, modalities, width)`; where a flag is not set it holds zero or
        what the function returns.
    """
    x = ops.stop_gradient(x)
    known = None if traces_for_export() else known_values(flags)
    if known is not None:
        # A step that runs as it is read: as many rows as there are.
        order = np.argsort(~known, axis=0, kind="stable").astype("int32")
        most = int(known.sum(axis=0).max(initial=0))
        found = function(_rows(x, ops.convert_to_tensor(order[:most])))
        found = ops.pad(found, [[0, len(known) - most], [0, 0], [0, 0]])
        back = np.argsort(order, axis=0).astype("int32")
        return _rows(found, ops.convert_to_tensor(back))
    if not loops():
        return function(x)

    # All different, so that every sort finds the same order.
    count = ops.shape(x)[0]
    place = ops.arange(count, dtype="int32")[:, None]
    order = ops.argsort(ops.where(flags, place, place + count), axis=0)
    most = ops.max(ops.sum(ops.cast(flags, "int32"), axis=0))
    todo = ops.pad(_rows(x, order), [[0, ROWS], [0, 0], [0, 0]])

    def step(start: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        rows = ops.slice(todo, (start, 0, 0), (ROWS, *x.shape[1:]))
        found = function(rows)
        return start + ROWS, ops.slice_update(done, (start, 0, 0), found)

    nothing = ops.zeros((count + ROWS, x.shape[1], width), dtype=x.dtype)
    _, found = ops.while_loop(
        lambda start, done: start < most,
        step,
        (ops.zeros((), dtype="int32"), nothing),
    )
    return _rows(found[:count], ops.argsort(order, axis=0))


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """Rows `(n, modalities, d)` by their numbers, `(n, modalities)`."""
    return ops.take_along_axis(x, order[:, :, None], axis=0)
