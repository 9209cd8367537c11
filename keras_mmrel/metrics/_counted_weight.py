"""Weights of samples, and what a metric does with a broken prediction."""

import numpy as np
from keras import ops

from keras_mmrel.class_scores import are_made_usable
from keras_mmrel.class_scores import as_tensor
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values


def counted_weight(
    valid: Tensor, sample_weight: Tensor | None = None
) -> Tensor:
    """Weight of each prediction in float32, NaN for one that is broken.

    A NaN weight goes through sums, merges and results, so that no metric
    averages a broken prediction away. What has weight 0 may hold anything.

    Args:
        valid: Booleans, one a prediction.
        sample_weight: `None`, or non-negative weights of the shape of `valid`
            or of its leading axes. A weight that is negative or not finite
            breaks its prediction in a compiled step.

    Returns:
        Tensor of the shape of `valid`.

    Raises:
        ValueError: If the shape of `sample_weight` does not fit, or its
            values, if they are at hand.
    """
    if sample_weight is None:
        return ops.cast(ops.where(valid, 1.0, float("nan")), "float32")
    given = as_tensor(sample_weight, "`sample_weight`")
    given = ops.cast(given, "float32")
    _refuse_broken(given)
    weight = ops.cast(ops.ones_like(valid), "float32")
    weight = weight * _aligned(given, tuple(valid.shape))
    counts = ops.logical_and(weight > 0, ops.isfinite(weight))
    counts = ops.logical_and(counts, valid)
    broken = ops.full_like(weight, float("nan"))
    weight = ops.where(
        ops.equal(weight, 0), 0.0, ops.where(counts, weight, broken)
    )
    return ops.cast(weight, "float32")


def _refuse_broken(weight: Tensor) -> None:
    values = None if are_made_usable() else known_values(weight)
    if values is None:
        return
    wrong = values[~(np.isfinite(values) & (values >= 0))]
    if wrong.size:
        raise ValueError(
            "`sample_weight` must be finite and not negative. Received: "
            f"{wrong.size} others, such as {wrong[0]}"
        )


def _aligned(weight: Tensor, shape: tuple) -> Tensor:
    """Weights with as many axes as the predictions."""
    given = tuple(weight.shape)
    while len(weight.shape) > len(shape) and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, axis=-1)
    while len(weight.shape) < len(shape):
        weight = ops.expand_dims(weight, axis=-1)
    fits = len(weight.shape) == len(shape) and all(
        own in (1, None) or other in (own, None)
        for own, other in zip(weight.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            "`sample_weight` must have the shape of the predictions "
            f"{shape}, or of their leading axes. Received: "
            f"sample_weight.shape={given}"
        )
    return weight
