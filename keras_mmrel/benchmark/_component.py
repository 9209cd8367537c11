"""A part of a method that each of its runs makes anew."""

import dataclasses
import zlib
from collections.abc import Callable
from collections.abc import Mapping
from types import CodeType
from types import ModuleType
from typing import Any

from keras_mmrel.benchmark._checks import attempt
from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._checks import imported
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import named
from keras_mmrel.benchmark._checks import parameters
from keras_mmrel.benchmark._recorded import Recorded

OWN = "own"


def own(function: Callable) -> str:
    """What identifies somebody's own function or class: its name and code.

    So that a folder does not take a changed one for the old one.
    """
    if isinstance(function, Recorded):
        return function.identity
    name = getattr(function, "__qualname__", type(function).__name__)
    code = getattr(function, "__code__", None)
    crc = 0 if code is None else zlib.crc32(_instructions(code))
    return f"{OWN} {name} {crc:08x}"


def _instructions(code: CodeType) -> bytes:
    """What a function does, wherever its text stands."""
    parts = [code.co_code, repr(code.co_names).encode()]
    for constant in code.co_consts:
        nested = isinstance(constant, CodeType)
        parts.append(
            _instructions(constant) if nested else repr(constant).encode()
        )
    return b"/".join(parts)


@dataclasses.dataclass(frozen=True)
class Component:
    """How to make a part, and what identifies it in a file."""

    make: Callable[[], Any]
    identity: Any

    @classmethod
    def recorded(cls, identity: Any) -> "Component | None":
        """Return the part of a file, which nobody can make."""
        if identity is None:
            return None
        return cls(Recorded(str(identity)), identity)


def recorded(value: Any) -> Any:
    """Return options of a file; somebody's own function is a name there."""
    return Recorded(value) if isinstance(value, str) else value


def as_component(where: str, value: Any, module: ModuleType) -> Component:
    """Take an object, a function that makes one, or a name and options.

    Args:
        where: What an error calls it.
        value: An object with a config, of which each run gets a copy; a
            function without arguments; the name of a class of `module`, or a
            path to any other; or a dict of such a name to options.
        module: Where names are looked up.
    """
    if isinstance(value, Component):
        return value
    if isinstance(value, str | list | tuple | Mapping):
        return _of_name(where, value, module)
    if hasattr(value, "get_config") and not isinstance(value, type):
        config = value.get_config()
        kind = type(value)
        return Component(
            lambda: kind.from_config(config), {kind.__name__: plain(config)}
        )
    if callable(value):
        return Component(value, own(value))
    raise ValueError(
        f"`{where}` must be an object, a function that makes one, or a name "
        f"with options. Received: {value!r}"
    )


def _of_name(where: str, value: Any, module: ModuleType) -> Component:
    chosen = named(where, [value] if isinstance(value, str) else value)
    if len(chosen) != 1:
        raise ValueError(f"`{where}` must be one. Received: {list(chosen)}")
    kind, given = next(iter(chosen.items()))
    if "." in kind:
        cls = imported(where, kind)
    else:
        cls = getattr(module, choice(where, kind, module.__all__))
    options = mapping(f"{where}.{kind}", given, parameters(cls))
    component = Component(lambda: cls(**options), {kind: options})
    attempt(f"{where}.{kind}", component.make, options)
    return component


def plain(value: Any) -> Any:
    """What JSON takes."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)
