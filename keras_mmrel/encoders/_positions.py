"""How many steps of an input a backbone has positions for."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel.tensor_layer import refused

# Inputs of backbones of keras-hub -> the attribute that says it. Shapes alone
# do not tell on every backend: TensorFlow finds out in a step.
LIMITS = {
    "token_ids": "max_sequence_length",
    "encoder_token_ids": "max_sequence_length",
    "decoder_token_ids": "max_decoder_sequence_length",
    "encoder_features": "max_encoder_sequence_length",
}


def positions(backbone: keras.layers.Layer, name: str) -> int | None:
    """Return the most steps of an input, `None` where nobody knows it."""
    limit = getattr(backbone, LIMITS.get(name, ""), None)
    return limit if isinstance(limit, int) else None


def check_steps(limit: int | None, shape: Any, argument: str) -> None:
    """Refuse an argument that has more steps than there are positions.

    Args:
        limit: What `positions` returns.
        shape: Shape of a sample, which begins with its steps.
        argument: Name of what says so.
    """
    steps = next(iter(shape), None)
    if limit is not None and steps is not None and steps > limit:
        raise refused(
            f"`{argument}` must have at most {limit} steps, the positions of "
            "the backbone",
            f"{steps} steps",
        )


def check_inputs(backbone: keras.layers.Layer, shapes: Any) -> None:
    """Refuse shapes of the inputs of a backbone, batch axis included."""
    for name, shape in shapes.items() if isinstance(shapes, Mapping) else ():
        check_steps(positions(backbone, name), shape[1:], f"inputs['{name}']")
