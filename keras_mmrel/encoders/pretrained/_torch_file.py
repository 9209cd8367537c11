"""Tensors in a file of PyTorch, read without it and without running code.

A file of `torch.save` from before version 1.6 is five pickles (a number that
marks it, a version, facts on the machine, the object, and the keys of its
storages), followed by the storages: eight bytes for how many numbers there
are, then these.
"""

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_mmrel.contract import Array

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
# All that a dict of tensors needs; what is left out makes objects of classes
# that the file names, in one way or another.
OPCODES = set(
    """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE LONG1 BININT BININT1 BININT2
    BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    SETITEM SETITEMS APPEND APPENDS BINPUT LONG_BINPUT BINGET LONG_BINGET
    BINPERSID GLOBAL REDUCE BUILD
    """.split()
)


class _Storage(NamedTuple):
    """Numbers that tensors share."""

    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    """A place in a storage."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _MakeTensor:
    """Stands for PyTorch's own function; nothing can be set on it."""

    __slots__ = ()

    def __call__(
        self, storage: Any, start: Any, shape: Any, strides: Any, *rest: Any
    ) -> _Tensor:
        sizes = [start, *shape, *strides]
        if not isinstance(storage, _Storage) or not all(
            isinstance(n, int) and n >= 0 for n in sizes
        ):
            raise ValueError("no tensor")
        last = start + sum(
            (n - 1) * step for n, step in zip(shape, strides, strict=True)
        )
        if (
            0 in shape
            or last >= storage.size
            or (math.prod(shape) > storage.size)
        ):
            raise ValueError("a tensor that reaches beyond its numbers")
        return _Tensor(storage, start, tuple(shape), tuple(strides))


NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _MakeTensor(),
    **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Knows four names, and storages."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise ValueError(f"the name {module}.{name}")
        return NAMES[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, view = pid
        if kind != "storage" or view is not None or size < 0:
            raise ValueError("no storage")
        if dtype not in DTYPES.values():
            raise ValueError("numbers of another kind")
        return _Storage(str(key), dtype, int(size))


def read_torch_file(content: bytes) -> dict[str, Array]:
    """Return the tensors of a dict, by name.

    Args:
        content: What the file holds.

    Raises:
        ValueError: If it is no such file, or holds anything but tensors.
    """
    try:
        return _read(io.BytesIO(content), len(content))
    # What is broken, or hostile, fails in many ways.
    except Exception as error:
        raise ValueError(
            "`content` must be a dict of tensors as `torch.save` wrote it "
            f"before version 1.6. Received: {type(error).__name__} ({error})"
        ) from error


def _read(stream: io.BytesIO, total: int) -> dict[str, Array]:
    if _unpickle(stream) != MAGIC or _unpickle(stream) != PROTOCOL:
        raise ValueError("another kind of file")
    if _unpickle(stream)["little_endian"] is not True:
        raise ValueError("another order of bytes")
    tensors = _unpickle(stream)
    if not isinstance(tensors, dict) or not all(
        isinstance(t, _Tensor) for t in tensors.values()
    ):
        raise ValueError("something else than tensors by name")
    storages = {t.storage.key: t.storage for t in tensors.values()}
    arrays = {}
    for key in _unpickle(stream):
        storage = storages[key]
        size = int(np.frombuffer(stream.read(8), "<i8")[0])
        length = size * np.dtype(storage.dtype).itemsize
        if size != storage.size or length > total - stream.tell():
            raise ValueError("too few numbers")
        arrays[key] = np.frombuffer(stream.read(length), storage.dtype)
    return {str(n): _view(arrays[t.storage.key], t) for n, t in tensors.items()}


def _view(numbers: Array, tensor: _Tensor) -> Array:
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.start :],
        tensor.shape,
        [step * numbers.itemsize for step in tensor.strides],
        writeable=False,
    )


def _unpickle(stream: io.BytesIO) -> Any:
    """Return the next object, once each of its opcodes is known to be safe."""
    start = stream.tell()
    for opcode, _, _ in pickletools.genops(stream):
        if opcode.name not in OPCODES:
            raise ValueError(f"the opcode {opcode.name}")
    end = stream.tell()
    stream.seek(start)
    made = _Unpickler(io.BytesIO(stream.read(end - start))).load()
    return made
