"""Weights in an ONNX file, read without its package.

The file is a protobuf message: fields, each a number and a kind, and what
follows. Of the model's message field 7 is the graph, of this field 5 are the
initialisers, and of these the fields below are read. What the graph computes
is not read: layers that do the same are written out where they are made.
"""

import math
from collections.abc import Iterator

import numpy as np

from keras_mmrel.contract import Array

GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
DTYPES = {1: "<f4", 7: "<i8"}
# Kinds of fields: a number, eight bytes, some bytes, four bytes.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_onnx_weights(content: bytes) -> dict[str, Array]:
    """Return the initialisers of a model's graph, by name.

    Args:
        content: What the file holds.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        found = {}
        for graph in _messages(memoryview(content), GRAPH):
            for tensor in _messages(graph, INITIALIZER):
                name, array = _tensor(tensor)
                found[name] = array
        if not found:
            raise ValueError("no weights")
        return found
    except (LookupError, ValueError) as error:
        raise ValueError(
            "`content` must be a model in the ONNX format. Received: "
            f"{type(error).__name__} ({error})"
        ) from error


def _tensor(message: memoryview) -> tuple[str, Array]:
    shape, name, dtype, data = [], "", 0, memoryview(b"")
    for field, value in _fields(message):
        if field == DIMS:
            # One number a field, or all of them in one.
            shape += [value] if isinstance(value, int) else _varints(value)
        elif field == DATA_TYPE and isinstance(value, int):
            dtype = value
        elif field == NAME and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif field == RAW_DATA and isinstance(value, memoryview):
            data = value
    array = np.frombuffer(data, DTYPES[dtype])
    if array.size != math.prod(shape):
        raise ValueError(f"another number of weights than {name} has")
    return name, array.reshape(shape)


def _messages(message: memoryview, number: int) -> Iterator[memoryview]:
    for field, value in _fields(message):
        if field == number:
            if isinstance(value, int):
                raise ValueError("a number in the place of a message")
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield field, value
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if length > len(message) - at:
            raise ValueError("a field that reaches beyond the end")
        yield field, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and what comes after it."""
    number = 0
    for index in range(10):
        byte = message[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise ValueError("a number of more than ten bytes")


def _varints(message: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(message):
        number, at = _varint(message, at)
        numbers.append(number)
    return numbers
