"""Prototypes found by asking the network what a class looks like."""

from typing import Any

import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders.block_encoder import mean_over_positions

STEPS = 50
LEARNING_RATE = 0.05
PULL = 0.01


def inject_prototypes(model: Any, seed: int = 0) -> None:
    """Replace the prototypes of an `AIM` model at every depth.

    For each depth, one non-negative vector of channels a class and modality
    is sent on from there, the same at every position, through the rest of the
    frozen network in inference mode, and 50 steps of Adam make the network
    answer with the class. A pull of 0.01 keeps the vectors near the mean
    feature of the depth. Encoders of different depths meet at the same
    relative depth.

    Args:
        model: A built `keras_mmrel.AIM`.
        seed: Integer, seed of where the search begins.
    """
    rng = np.random.default_rng(seed)
    deepest = max(len(encoder.blocks) for encoder in model.encoders)
    for step in range(1, deepest + 1):
        depths = [
            -(-step * len(encoder.blocks) // deepest) - 1
            for encoder in model.encoders
        ]
        initial = [
            0.1 * rng.normal(size=encoder.statistics[d].prototypes.shape)
            for encoder, d in zip(model.encoders, depths, strict=True)
        ]
        prototypes = _minimise(model, depths, initial)
        for encoder, d, values in zip(
            model.encoders, depths, prototypes, strict=True
        ):
            encoder.statistics[d].prototypes.assign(ops.softplus(values))


def prototype_loss(
    model: Any, depths: list[int], values: list[Tensor]
) -> Tensor:
    """Cross-entropy of the classes that the prototypes stand for, and pull."""
    features, pull = [], 0.0
    for encoder, depth, value in zip(
        model.encoders, depths, values, strict=True
    ):
        prototypes = ops.softplus(value)
        center = ops.convert_to_tensor(encoder.statistics[depth].center)
        pull = pull + ops.mean(ops.square(prototypes - center))
        shape = encoder.block_shapes[depth]
        classes, channels = value.shape
        x = ops.reshape(
            prototypes, (classes, *[1] * (len(shape) - 1), channels)
        )
        x = ops.broadcast_to(x, (classes, *shape))
        for block in encoder.blocks[depth + 1 :]:
            x = block(x, training=False)
        features.append(mean_over_positions(x))
    logits = ops.sum(model.classify(features), axis=1) + model.bias
    log_p = ops.log_softmax(logits, axis=-1)
    classes = log_p.shape[0]
    own = -ops.mean(ops.sum(log_p * ops.eye(classes), axis=-1))
    return own + PULL * classes * pull / len(features)


def _minimise(
    model: Any, depths: list[int], initial: list[Tensor]
) -> list[Tensor]:
    """Adam on the prototypes alone."""
    values = [ops.convert_to_tensor(g, dtype="float32") for g in initial]
    first = [ops.zeros_like(v) for v in values]
    second = [ops.zeros_like(v) for v in values]
    for step in range(1, STEPS + 1):
        _, gradients = backend.value_and_gradients(
            lambda v: prototype_loss(model, depths, v), values
        )
        first = [
            0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)
        ]
        second = [
            0.999 * s + 0.001 * ops.square(g)
            for s, g in zip(second, gradients, strict=True)
        ]
        rate = LEARNING_RATE * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        values = [
            v - rate * m / (ops.sqrt(s) + 1e-8)
            for v, m, s in zip(values, first, second, strict=True)
        ]
    return values
