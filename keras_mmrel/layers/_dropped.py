"""Dropout whose rate is a tensor: what a schedule needs."""

import keras
from keras import ops

from keras_mmrel.contract import Tensor


def keep_rate(rate: Tensor | float, scale: Tensor | None = None) -> Tensor:
    """Fraction that is left of a dropout of `rate`, times `scale`."""
    return 1.0 - (rate if scale is None else rate * scale)


def dropped(
    x: Tensor, keep: Tensor, seed_generator: keras.random.SeedGenerator
) -> Tensor:
    """Drop entries of `x` and scale the others up, as `Dropout` does.

    Args:
        x: Float tensor; the result is float32.
        keep: Fraction that is left, broadcast against `x`.
        seed_generator: What is drawn from.
    """
    x = ops.cast(x, "float32")
    chance = keras.random.uniform(
        ops.shape(x), dtype="float32", seed=seed_generator
    )
    keep = ops.cast(keep, "float32")
    return ops.where(chance < keep, x / keep, 0.0)
