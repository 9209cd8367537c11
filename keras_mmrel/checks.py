"""Argument checks that layers, models and modulations share."""

import math
from typing import Any


def check_strength(name: str, value: Any) -> None:
    """Refuse anything but a finite, non-negative number."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < math.inf
    ):
        raise ValueError(
            f"`{name}` must be a finite, non-negative number. Received: "
            f"{name}={value!r}"
        )


def check_share(name: str, value: Any) -> None:
    """Refuse anything but a number in [0, 1]."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= 1
    ):
        raise ValueError(
            f"`{name}` must be a number in [0, 1]. Received: {name}={value!r}"
        )


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Refuse anything but one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {choices}. Received: {name}={value!r}"
        )


def check_flag(name: str, value: Any) -> None:
    """Refuse anything but `True` and `False`."""
    if not isinstance(value, bool):
        raise ValueError(
            f"`{name}` must be True or False. Received: {name}={value!r}"
        )


def check_positive_integer(name: str, value: Any) -> None:
    """Refuse anything but an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}"
        )
