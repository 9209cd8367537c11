"""NumPy under the names that `keras.ops` has."""

from types import SimpleNamespace

import numpy as np

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
            "reshape",
            "stack",
            "sum",
            "where",
        )
    },
    cast=lambda x, dtype: x.astype(dtype),
    convert_to_tensor=np.asarray,
)
