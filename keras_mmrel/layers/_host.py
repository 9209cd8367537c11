"""NumPy under the names that `keras.ops` has."""

from types import SimpleNamespace

import numpy as np

from keras_mmrel.contract import to_numpy

HOST = SimpleNamespace(
    **{
        name: getattr(np, name)
        for name in (
            "any",
            "clip",
            "diagonal",
            "log",
            "matmul",
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
            "where",
        )
    },
    cast=lambda x, dtype: x.astype(dtype),
    convert_to_tensor=to_numpy,
)
