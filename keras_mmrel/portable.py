"""Operations that the runtimes of exported models know, too.

Backends invert matrices by LAPACK, which is the faster way for them; ONNX and
LiteRT know no inverse, and PyTorch's way to ONNX no index of columns. While a
model is exported, sums and products do it.
"""

import contextlib
import contextvars
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.backend import upstream
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import known_values

# Largest batch that NumPy works on where it can.
FEW = 8

_portable = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable_operations() -> Iterator[None]:
    """Trace only what an exported model can run, until it is left."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def traces_for_export() -> bool:
    """Whether what is traced has to run where no backend is."""
    return _portable.get()


def loops() -> bool:
    """Whether a step may hold a loop whose end only values tell.

    Exported models have none, and where the samples of a step lie on several
    devices they would have to be sorted across these.
    """
    return (
        backend.compiles_loops()
        and not _portable.get()
        and not upstream.in_symbolic_scope()
        and keras.distribution.distribution() is None
    )


def nothing_is(found: Iterable[Tensor]) -> bool:
    """Whether flags are known, and none is true.

    Where a step runs as it is read, on PyTorch, what they ask for can then
    be left out. A program that is compiled or exported has to hold it.

    Args:
        found: Tensors of booleans.
    """
    if _portable.get():
        return False
    for flags in found:
        values = known_values(flags)
        if values is None or values.any():
            return False
    return True


def on_host(x: Tensor) -> bool:
    """Whether NumPy may work on a tensor, and is the faster way.

    Of a few rows most of the time is that of calling each operation, and
    NumPy's take a tenth of Keras' on PyTorch.

    Args:
        x: A tensor `(batch, ...)`.
    """
    return (
        not _portable.get()
        and not upstream.in_symbolic_scope()
        and backend.runs_as_read(x)
        and x.shape[0] <= FEW
    )


def pick(x: Tensor, columns: Array | Sequence[int], xp: Any = ops) -> Tensor:
    """Columns of the last axis, by their numbers.

    Args:
        x: `(..., n)`, finite.
        columns: `(k,)`, numbers that are known when the model is traced.
        xp: `keras.ops`, or what stands in for it.
    """
    if xp is ops and _portable.get():
        chosen = np.eye(int(x.shape[-1]), dtype="float32")[:, columns]
        return ops.matmul(x, ops.convert_to_tensor(chosen))
    return xp.take(x, columns, axis=-1)


def power(x: Tensor, exponent: float) -> Tensor:
    """Power of positive numbers, which jax2onnx takes of no free batch."""
    if _portable.get():
        return ops.exp(exponent * ops.log(x))
    return ops.power(x, exponent)


def inverse(a: Tensor, xp: Any = ops) -> Tensor:
    """Inverse of positive definite matrices `(..., n, n)`.

    Args:
        a: The matrices.
        xp: `keras.ops`, or what stands in for it.
    """
    return _sweep(a) if xp is ops and _portable.get() else xp.inv(a)


def solve(a: Tensor, b: Tensor, xp: Any = ops) -> Tensor:
    """Solutions `(..., n)` of positive definite systems.

    Args:
        a: The matrices `(..., n, n)`.
        b: `(..., n)`.
        xp: `keras.ops`, or what stands in for it.
    """
    if xp is ops and _portable.get():
        return ops.sum(_sweep(a) * b[..., None, :], axis=-1)
    return xp.solve(a, b[..., None])[..., 0]


def _sweep(a: Tensor) -> Tensor:
    """Gauss and Jordan's inverse, which needs no pivots here."""
    size = int(a.shape[-1])
    for k in range(size):
        here = np.arange(size) == k
        rows = ops.convert_to_tensor(here[:, None])
        columns = ops.convert_to_tensor(here)
        row, column = a[..., k : k + 1, :], a[..., :, k : k + 1]
        pivot = a[..., k : k + 1, k : k + 1]
        swept = a - column * row / pivot
        swept = ops.where(columns, -column / pivot, swept)
        corner = ops.where(columns, 1.0, row) / pivot
        a = ops.where(rows, corner, swept)
    return a
