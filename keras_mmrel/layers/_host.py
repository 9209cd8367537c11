"""NumPy under the names that `keras.ops` has."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from keras_mmrel import backend
from keras_mmrel.contract import Array


def _value(x: Any) -> Array:
    return x if isinstance(x, np.ndarray) else backend.host_value(x)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


HOST = SimpleNamespace(
    **{
        name: getattr(np, name)
        for name in (
            "abs",
            "any",
            "clip",
            "cumsum",
            "diagonal",
            "einsum",
            "exp",
            "log",
            "matmul",
            "max",
            "maximum",
            "mean",
            "min",
            "minimum",
            "ones_like",
            "reshape",
            "sqrt",
            "square",
            "stack",
            "sum",
            "take",
            "where",
            "zeros_like",
        )
    },
    cast=lambda x, dtype: x.astype(dtype),
    convert_to_tensor=_value,
    inv=np.linalg.inv,
    sigmoid=_sigmoid,
    solve=np.linalg.solve,
    stop_gradient=lambda x: x,
)
