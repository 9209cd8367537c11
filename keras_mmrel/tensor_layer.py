"""Layers, and the one sentence about what they cannot take."""

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.backend import upstream
from keras_mmrel.contract import is_number
from keras_mmrel.contract import to_numpy

# What tells such an error from one that Keras has put its lines round.
_OURS = "of_keras_mmrel"


def refused(expected: str, received: str) -> ValueError:
    """Return the error of one sentence about what a layer cannot take."""
    error = upstream.plain(ValueError(f"{expected}. Received: {received}"))
    setattr(error, _OURS, True)
    return error


def own_error(error: BaseException | None) -> BaseException | None:
    """Return the error of `refused` that led to another one, if any did."""
    while error is not None and not hasattr(error, _OURS):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def refusing(expected: str, received: str) -> Iterator[None]:
    """Say in one sentence that layers inside do not take what they get.

    Args:
        expected: As in `refused`.
        received: Likewise.
    """
    try:
        yield
    except Exception as error:
        own = own_error(error)
        if own is not None:
            raise own from None
        if isinstance(
            error, ValueError | TypeError | LookupError
        ) or backend.is_about_inputs(error):
            raise refused(expected, received) from error
        raise


def describe(value: Any) -> str:
    """What was received, short."""
    if isinstance(value, Mapping):
        return f"the keys {list(value)}"
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"shape={tuple(shape)}"


class TensorLayer(keras.layers.Layer):
    """Base of layers that say in one sentence what they cannot take.

    Keras takes numbers in lists for arguments in the wrong place, and what a
    layer does with the shape of none or of text differs.

    Attributes:
        shapes: Axes of the one tensor that a call begins with, each shape a
            tuple of names, in which `...` is any number of axes. A layer that
            takes something else has none, and sees to it by itself.
    """

    shapes: tuple[tuple, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        names = self.call_signature_parameters
        given = dict(zip(names, args, strict=False))
        first = names[0]
        if first in kwargs:
            given[first] = kwargs[first]
        for name, value in given.items():
            if name == first or value is not None:
                _check_tensors(name, value)
        if self.shapes and first in given:
            _check_axes(first, given[first], self.shapes)
        return super().__call__(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().compute_output_spec(*args, **kwargs)
        except Exception as error:
            # Keras makes another one of it, of many lines.
            own = own_error(error)
            if own is not None:
                raise own from None
            raise


def _check_tensors(name: str, value: Any) -> None:
    if ops.is_tensor(value):
        return
    leaves = [x for x in keras.tree.flatten(value) if x is not None]
    if not leaves or not all(hasattr(x, "shape") for x in leaves):
        raise refused(
            f"`{name}` must be a tensor, or a structure of tensors",
            f"{describe(value)} of {type(leaves[0]).__name__}"
            if leaves and leaves[0] is not value
            else describe(value),
        )
    for leaf in leaves:
        if isinstance(leaf, keras.KerasTensor) or ops.is_tensor(leaf):
            continue
        dtype = getattr(leaf, "dtype", None)
        if hasattr(dtype, "kind") and not is_number(to_numpy(leaf).dtype):
            raise refused(f"`{name}` must hold numbers", f"dtype={dtype}")


def _check_axes(name: str, value: Any, shapes: tuple[tuple, ...]) -> None:
    axes = getattr(value, "shape", None)
    fits = axes is not None and any(
        len(axes) >= len(shape) - 1 if ... in shape else len(axes) == len(shape)
        for shape in shapes
    )
    if not fits:
        texts = (
            ", ".join("..." if axis is ... else axis for axis in shape)
            for shape in shapes
        )
        raise refused(
            f"`{name}` must have the shape ({') or ('.join(texts)})",
            describe(value),
        )
