"""Streaming counts, means and squared deviations that merge exactly."""

from typing import Any

from keras import ops


def merge_moments(old: tuple, new: tuple) -> tuple:
    """Merge two `(count, mean, squared_deviations)` triples.

    The pairwise update keeps its precision where a sum of squares would lose
    it (a large mean with a small spread). Shapes broadcast; a count of zero
    is the neutral element.
    """
    count_a, mean_a, squares_a = old
    count_b, mean_b, squares_b = new
    count = count_a + count_b
    safe = ops.maximum(count, 1e-12)
    delta = mean_b - mean_a
    mean = mean_a + delta * count_b / safe
    squares = (
        squares_a + squares_b + ops.square(delta) * count_a * count_b / safe
    )
    return count, mean, squares


def class_moments(x: Any, labels: Any, mask: Any, all_reduce_sum: Any) -> tuple:
    """Moments of `(batch, modalities, features)` by modality and class.

    Args:
        x: `(batch, modalities, features)`.
        labels: One-hot `(batch, classes)`.
        mask: `(batch, modalities)`; rows with 0 count nothing.
        all_reduce_sum: Function that sums over the replicas.

    Returns:
        Counts `(modalities, classes, 1)`, means and squared deviations
        `(modalities, classes, features)`.
    """
    weights = mask[:, :, None] * labels[:, None, :]
    count = all_reduce_sum(ops.sum(weights, axis=0))[:, :, None]
    total = all_reduce_sum(ops.einsum("bmk,bmd->mkd", weights, x))
    mean = total / ops.maximum(count, 1.0)
    # Squares are taken around the batch's own class means.
    centre = ops.einsum("bmk,mkd->bmd", weights, mean)
    deviation = (x - centre) * mask[:, :, None]
    squares = all_reduce_sum(
        ops.einsum("bmk,bmd->mkd", weights, ops.square(deviation))
    )
    return count, mean, squares
