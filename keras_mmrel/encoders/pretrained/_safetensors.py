"""Tensors in a file of the safetensors format, read without its package.

Eight bytes say how long a header is; this is JSON, from a tensor's name to its
type, shape and place in the bytes that follow.
"""

import json
import math
from typing import Any

import numpy as np

from keras_mmrel.contract import Array

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
LONGEST_HEADER = 1024 * 1024


def read_safetensors(content: bytes) -> dict[str, Array]:
    """Return the tensors by name.

    Args:
        content: What the file holds.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or length > min(LONGEST_HEADER, len(content) - 8):
            raise ValueError("no header")
        header = json.loads(content[8 : 8 + length])
        data = memoryview(content)[8 + length :]
        return {
            name: _tensor(data, entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ArithmeticError, AttributeError, LookupError, RecursionError,
            TypeError, ValueError) as error:  # fmt: skip
        raise ValueError(
            "`content` must be tensors in the safetensors format. Received: "
            f"{type(error).__name__} ({error})"
        ) from error


def _tensor(data: memoryview, entry: dict[str, Any]) -> Array:
    dtype = np.dtype(DTYPES[entry["dtype"]])
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, end)):
        raise ValueError("a shape or place that is no number")
    if end > len(data) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a place that does not fit the shape")
    return np.frombuffer(data[start:end], dtype).reshape(shape)
