"""Checks of the entries of a config, each with one sentence."""

import difflib
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any


def nearest(name: Any, known: Iterable[Any]) -> str:
    close = difflib.get_close_matches(str(name), [str(k) for k in known], 1, 0)
    return f"; the nearest is '{close[0]}'" if close else ""


def section(where: str, entry: Any, known: Iterable[str]) -> dict:
    """A mapping with known keys only; the nearest valid key is suggested."""
    known = list(known)
    entry = {} if entry is None else entry
    if not isinstance(entry, dict):
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
    return entry


def named(where: str, entry: Any) -> dict:
    """Names -> entries; a list of names stands for empty entries."""
    names = list(entry) if isinstance(entry, list | dict) else []
    plain = not any(isinstance(name, list | dict) for name in names)
    if not names or not plain:
        raise ValueError(
            f"`{where}` must be a list of names or a mapping of names to "
            f"their settings. Received: {entry!r}"
        )
    # YAML reads some names as numbers.
    texts = [str(name) for name in names]
    if len(set(texts)) != len(texts):
        raise ValueError(
            f"`{where}` must have different names. Received: {texts}"
        )
    if isinstance(entry, list):
        return {name: {} for name in texts}
    return dict(zip(texts, entry.values(), strict=True))


def choice(where: str, value: Any, known: Iterable[Any]) -> Any:
    known = list(known)
    if value not in known:
        raise ValueError(
            f"`{where}` must be one of {known}. Received: "
            f"{value!r}{nearest(value, known)}"
        )
    return value


def number(where: str, value: Any, low: float, high: float = 1e12) -> float:
    """A number; YAML takes 1e-3 for a text, people do not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not low <= found <= high:
        raise ValueError(
            f"`{where}` must be a number of at least {low:g}"
            + (f" and at most {high:g}" if high < 1e12 else "")
            + f". Received: {value!r}"
        )
    return found


def count(where: str, value: Any, instead: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{where}` must be a positive integer{instead}. "
            f"Received: {value!r}"
        )
    return value


def attempt(where: str, make: Callable[[], Any], received: Any) -> Any:
    """Make something of an entry, or name the entry in its error."""
    try:
        return make()
    except TypeError as error:
        raise ValueError(
            f"`{where}` cannot be made: {error}. Received: {received!r}"
        ) from error
    except ValueError as error:
        raise ValueError(f"`{where}` cannot be made: {error}") from error
