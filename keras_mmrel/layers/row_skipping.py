"""Skip work on rows that need none, in one graph of static shapes.

Rows are sorted so that those with work come first, cut into a fixed number of
groups, and a group without work is passed over by a conditional. Nothing is
recompiled when the share of rows with work changes.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

GROUPS = 8


def sort_by_depth(depth: Any) -> list[Any]:
    """Row order of falling depth for each modality of `(batch, modalities)`."""
    return [ops.argsort(-depth[:, m]) for m in range(depth.shape[1])]


def run_active_rows(
    function: Callable,
    rows: list[Any],
    active: Any,
    width: int,
) -> Any:
    """Apply `function` to the groups that hold an active row.

    Args:
        function: Takes and returns `(group, 1, ...)`, last axis `width`.
        rows: Tensors `(batch, 1, features)` in an order in which all active
            rows come first.
        active: Boolean `(batch,)` in that order.
        width: Last axis of the result.

    Returns:
        Tensor `(batch, 1, width)`, zero where a row is not active.
    """
    batch = ops.shape(rows[0])[0]
    size = (batch + GROUPS - 1) // GROUPS
    results = []
    for group in range(GROUPS):
        part = slice(group * size, (group + 1) * size)
        members = [r[part] for r in rows]
        flags = active[part]
        shape = (ops.shape(members[0])[0], 1, width)
        results.append(
            ops.cond(
                ops.any(flags),
                lambda members=members, flags=flags: (
                    function(*members)
                    * ops.cast(flags, members[0].dtype)[:, None, None]
                ),
                lambda shape=shape, members=members: ops.zeros(
                    shape, dtype=members[0].dtype
                ),
            )
        )
    return ops.concatenate(results, axis=0)


def unsort(columns: list[Any], orders: list[Any]) -> Any:
    """Put sorted `(batch, 1, ...)` columns back into the batch's order."""
    return ops.concatenate(
        [
            ops.take(column, ops.argsort(order), axis=0)
            for column, order in zip(columns, orders, strict=True)
        ],
        axis=1,
    )
