"""One file of plain values and arrays that is whole or not there.

Layout: a first line, the length of the header (8 bytes), the header in JSON,
the arrays' bytes one after the other, and a SHA-256 digest of it all. Nothing
in it is code, and no size that it claims is believed before it fits the file.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.contract import Array

MAGIC = b"keras_mmrel training state 1\n"
DIGEST = 32
PLAIN = (type(None), bool, int, float, str)


# -- Values ------------------------------------------------------------------


def is_plain(value: Any) -> bool:
    """Whether `value` is made of numbers, words, arrays, lists and dicts."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        keys = all(isinstance(key, str) for key in value)
        return keys and all(map(is_plain, value.values()))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biufcV" and not value.dtype.names
    return isinstance(value, PLAIN)


def encode(value: Any, arrays: list[Array]) -> Any:
    """Turn a plain value into JSON, with its arrays added to `arrays`."""
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [encode(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": {k: encode(v, arrays) for k, v in value.items()}}
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return {kind: len(arrays) - 1}
    return value


def decode(value: Any, arrays: list[Array]) -> Any:
    """Undo `encode`."""
    if isinstance(value, PLAIN):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {k: decode(v, arrays) for k, v in content.items()}
    if kind in ("array", "number"):
        return arrays[content] if kind == "array" else arrays[content][()]
    items = [decode(item, arrays) for item in content]
    return {"list": list, "tuple": tuple}[kind](items)


# -- The file ----------------------------------------------------------------


def write(path: Path, value: Any) -> None:
    """Write a plain value to a file and wait until the disk has it."""
    arrays: list[Array] = []
    content = encode(value, arrays)
    manifest = [[array.dtype.name, list(array.shape)] for array in arrays]
    header = json.dumps({"value": content, "arrays": manifest}).encode()
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in (
            MAGIC,
            len(header).to_bytes(8, "little"),
            header,
            *(np.ascontiguousarray(array).tobytes() for array in arrays),
        ):
            file.write(piece)
            digest.update(piece)
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> Any:
    """Return the value that a file holds.

    Raises:
        ValueError: If it is not a whole file of this kind.
    """
    content = path.read_bytes()
    body, digest = content[:-DIGEST], content[-DIGEST:]
    if not body.startswith(MAGIC):
        raise ValueError("it is no training state")
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("it is not whole")
    try:
        start = len(MAGIC) + 8
        end = start + int.from_bytes(body[len(MAGIC) : start], "little")
        header = json.loads(body[start:end])
        return decode(header["value"], _arrays(header["arrays"], body, end))
    except (
        # What a made-up header may lead to.
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError("its header is made up") from error


def _arrays(manifest: list, body: bytes, start: int) -> list[Array]:
    arrays = []
    for name, shape in manifest:
        dtype = np.dtype(name)
        count = math.prod(shape)
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(name, shape)
        end = start + count * dtype.itemsize
        if end > len(body):
            raise ValueError(name, shape)
        flat = np.frombuffer(body[start:end], dtype)
        arrays.append(flat.reshape(shape).copy())
        start = end
    if start != len(body):
        raise ValueError("bytes are left over")
    return arrays
