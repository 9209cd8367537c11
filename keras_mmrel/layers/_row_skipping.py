"""Skip work on rows that need none, in one graph of static shapes.

Rows are sorted by the depth they need and cut into a fixed number of groups;
each group runs as deep as its deepest row. Nothing is recompiled when the
depths change.
"""

from collections.abc import Callable

from keras import ops

from keras_mmrel.contract import Tensor

GROUPS = 4


def run_by_depth(
    function: Callable,
    tensors: list[Tensor],
    depth: Tensor,
    shape: tuple[int, int],
) -> Tensor:
    """Apply `function` to groups of rows of similar depth.

    Args:
        function: Takes a Python integer `blocks` and the rows of `tensors`,
            and returns `(rows, blocks, width)`.
        tensors: Tensors `(batch, features)`.
        depth: `(batch,)` whole numbers, the blocks that each row needs.
        shape: `(max_depth, width)`.

    Returns:
        Tensor `(batch, max_depth, width)` whose first `depth` entries of each
        row are right; the others are zero or what deeper rows of the group
        needed.
    """
    max_depth, width = shape
    order = ops.argsort(-depth)
    tensors = [ops.take(t, order, axis=0) for t in tensors]
    depth = ops.cast(ops.take(depth, order, axis=0), "int32")
    size = (ops.shape(depth)[0] + GROUPS - 1) // GROUPS

    def branch(blocks: int) -> Callable:
        def run(*rows: Tensor) -> Tensor:
            rest = (ops.shape(rows[0])[0], max_depth - blocks, width)
            zeros = ops.zeros(rest, dtype=rows[0].dtype)
            if blocks == 0:
                return zeros
            return ops.concatenate([function(blocks, *rows), zeros], axis=1)

        return run

    branches = [branch(blocks) for blocks in range(max_depth + 1)]
    results = []
    for group in range(GROUPS):
        part = slice(group * size, (group + 1) * size)
        deepest = ops.max(depth[part], initial=0)
        results.append(
            ops.switch(deepest, branches, *[t[part] for t in tensors])
        )
    result = ops.concatenate(results, axis=0)
    return ops.take(result, ops.argsort(order), axis=0)
