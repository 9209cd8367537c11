"""Shapes of samples: one, or a (nested) dict of them."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any


def map_shapes(function: Callable, shapes: Any) -> Any:
    """Apply `function` to a shape, or to each shape of a (nested) dict."""
    if isinstance(shapes, Mapping):
        return {k: map_shapes(function, s) for k, s in shapes.items()}
    return function(shapes)


def with_batch(shape: Sequence) -> tuple:
    return (None, *shape)
