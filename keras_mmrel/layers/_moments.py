"""Streaming counts, means and squared deviations that merge exactly.

Moments are triples `(count, mean, squared_deviations)` whose shapes
broadcast. A count of zero is the neutral element.
"""

from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor


def class_moments(x: Tensor, labels: Labels, weights: Tensor) -> tuple:
    """Moments of a batch by modality and class.

    Args:
        x: `(batch, modalities, features)`.
        labels: One-hot `(batch, classes)`.
        weights: `(batch, modalities)`, 0 for what does not count.

    Returns:
        Counts `(modalities, classes, 1)`, means and squared deviations
        `(modalities, classes, features)`.
    """
    member = weights[:, :, None] * labels[:, None, :]
    count = ops.sum(member, axis=0)[:, :, None]
    mean = ops.einsum("bmk,bmd->mkd", member, x) / ops.maximum(count, 1.0)
    # Around the batch's own class means: sums of squares lose precision.
    own_mean = ops.einsum("bk,mkd->bmd", labels, mean)
    squares = ops.einsum("bmk,bmd->mkd", member, ops.square(x - own_mean))
    return count, mean, squares


def weighted_moments(x: Tensor, weights: Tensor) -> tuple:
    """Moments of `(batch, n)` over the batch, each of shape `(n,)`."""
    count = ops.sum(weights, axis=0)
    mean = ops.sum(weights * x, axis=0) / ops.maximum(count, 1.0)
    squares = ops.sum(weights * ops.square(x - mean), axis=0)
    return count, mean, squares


def reduce_moments(moments: tuple) -> tuple:
    """Merge the moments of all replicas."""
    count, mean, squares = moments
    total = backend.all_reduce_sum(count)
    shared = backend.all_reduce_sum(count * mean) / ops.maximum(total, 1.0)
    squares = squares + count * ops.square(mean - shared)
    return total, shared, backend.all_reduce_sum(squares)


def merge_moments(old: tuple, new: tuple) -> tuple:
    """Merge two triples."""
    count_a, mean_a, squares_a = old
    count_b, mean_b, squares_b = new
    count = count_a + count_b
    fraction = count_b / ops.maximum(count, 1e-12)
    delta = mean_b - mean_a
    squares = squares_a + squares_b + ops.square(delta) * count_a * fraction
    return count, mean_a + delta * fraction, squares
