"""Checks of what a user says, each with one sentence."""

import contextlib
import dataclasses
import difflib
import functools
import importlib
import inspect
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import TypeVar

from keras_mmrel.benchmark._names import one_line
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.contract import as_path

Made = TypeVar("Made")
# What `within` gives a further name.
ERRORS = (ValueError, FileNotFoundError)


def nearest(name: object, known: Iterable[object]) -> str:
    close = difflib.get_close_matches(str(name), [str(k) for k in known], 1, 0)
    return f"; the nearest is '{close[0]}'" if close else ""


@contextlib.contextmanager
def within(where: str) -> Iterator[None]:
    """Say in which entry it is that an argument is wrong."""
    try:
        yield
    except ERRORS as error:
        text = str(error)
        where = one_line(where)
        if text.startswith("`"):
            text = f"`{where}.{text[1:]}"
        else:
            text = f"`{where}`: {text}"
        kind = next(k for k in ERRORS if isinstance(error, k))
        raise kind(text) from error


def mapping(where: str, entry: Any, known: Iterable[str]) -> dict[str, Any]:
    """A mapping with known keys only; the nearest valid key is suggested."""
    known = list(known)
    entry = {} if entry is None else entry
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"`{where}` must be a mapping with keys out of {known}. "
            f"Received: {entry!r}"
        )
    for key in entry:
        if key not in known:
            raise ValueError(
                f"`{where}` must have keys out of {known}. Received: "
                f"'{key}'{nearest(key, known)}"
            )
    return dict(entry)


def build(cls: type[Made], where: str, entry: Any) -> Made:
    """Make an object of its fields in a mapping; an object stays as it is."""
    if isinstance(entry, cls):
        return entry
    fields = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    given = mapping(where, entry, fields)
    with within(where):
        return cls(**given)


def named(where: str, entry: Any) -> dict[str, Any]:
    """Names -> entries; a list of names stands for empty entries."""
    names = list(entry) if isinstance(entry, list | tuple | Mapping) else []
    # YAML reads some names as numbers, and a plain `no` as False.
    plain = all(
        isinstance(name, str | int | float) and not isinstance(name, bool)
        for name in names
    )
    if not names or not plain:
        raise ValueError(
            f"`{where}` must be a list of names or a mapping of names to "
            f"their settings. Received: {entry!r}"
        )
    texts = [str(name) for name in names]
    for text in texts:
        if not text.strip() or _unwritable(text):
            raise ValueError(
                f"`{where}` must have names that can be written. Received: "
                f"{text!r}"
            )
    if len(set(texts)) != len(texts):
        raise ValueError(
            f"`{where}` must have different names. Received: {texts}"
        )
    if not isinstance(entry, Mapping):
        return dict.fromkeys(texts)
    return dict(zip(texts, entry.values(), strict=True))


def _unwritable(text: str) -> bool:
    """Whether it has half a character, which no file takes."""
    return any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def folder(where: str, value: Any) -> Path:
    """The path of a folder that is there."""
    found = as_path(where, value)
    if not found.is_dir():
        raise FileNotFoundError(
            f"`{where}` must be a folder. Received: {where}={str(value)!r}, "
            "which is none"
        )
    return found


def different_names(where: str, value: Any) -> None:
    """A non-empty list of different texts."""
    good = isinstance(value, list | tuple) and bool(value)
    if (
        not good
        or not all(isinstance(name, str) for name in value)
        or len(set(value)) != len(value)
    ):
        raise ValueError(
            f"`{where}` must be a list of different names. Received: {value!r}"
        )


def choice(where: str, value: Any, known: Iterable[str]) -> str:
    """One of some names; the nearest one is suggested."""
    known = tuple(known)
    try:
        return Choice(*known)(where, value)
    except ValueError as error:
        raise ValueError(f"{error}{nearest(value, known)}") from None


def number(where: str, value: Any, low: float, high: float = math.inf) -> float:
    """A number; YAML takes 1e-3 for a text, people do not."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    return float(Number(low, high)(where, value))


def attempt(
    where: str, make: Callable[[], Made], received: Any, beside: str = ""
) -> Made:
    """Make something of an entry, or name the entry in its error.

    Args:
        where: Name of the entry.
        make: Function that makes it.
        received: The entry.
        beside: Name of another entry that the error may be about.
    """
    try:
        return make()
    except TypeError as error:
        raise ValueError(
            f"`{where}` must be made of what it takes "
            f"({' '.join(str(error).split())}). Received: {received!r}"
        ) from error
    except ValueError as error:
        text = " ".join(str(error).split())
        if not text.startswith("`"):
            text = f"`{where}`: {text}"
        elif not text.startswith((f"`{where}`", f"`{beside}`")):
            text = f"`{where}.{text[1:]}"
        raise ValueError(text) from error


@functools.cache
def parameters(target: Callable) -> tuple[str, ...]:
    """Names of the arguments that a function or a class takes.

    What a class hands on by `**kwargs` is looked for in its bases.
    """
    # A serialisable Keras class may be wrapped, its bases are not.
    if not inspect.isclass(target):
        return tuple(
            "**" if p.kind is p.VAR_KEYWORD else name
            for name, p in inspect.signature(target).parameters.items()
        )
    names: list[str] = []
    for base in target.__mro__:
        if "__init__" not in vars(base):
            continue
        found = inspect.signature(vars(base)["__init__"]).parameters
        names += [
            name
            for name, p in list(found.items())[1:]
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        if not any(p.kind is p.VAR_KEYWORD for p in found.values()):
            break
    return tuple(dict.fromkeys(names))


def takes(target: Callable, name: str) -> bool:
    """Whether a function or a class takes a keyword argument."""
    known = parameters(target)
    return name in known or "**" in known


def imported(where: str, path: str) -> Any:
    """What a dotted path names, of anybody's module."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"`{where}` must be a name of the library or a path such as "
            f"'my_package.my_module.MyModel'. Received: {path!r} ({error})"
        ) from error
