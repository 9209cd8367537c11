"""Weights that hold what a layer has estimated, not what it learns."""

from typing import Any


def add_state(
    layer: Any, name: str, shape: tuple = (), initializer: Any = "zeros"
) -> Any:
    """Add a float32 weight to `layer` that no optimizer touches.

    It stays in float32 under mixed precision, and replicas keep it equal by
    computing it from sums over all of them.
    """
    return layer.add_weight(
        shape=shape,
        initializer=initializer,
        trainable=False,
        dtype="float32",
        autocast=False,
        aggregation="only_first_replica",
        name=name,
    )
