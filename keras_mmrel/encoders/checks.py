"""Argument checks that the encoders share."""

from collections.abc import Sequence
from typing import Any


def check_positive_integers(name: str, values: Any) -> None:
    if (
        not isinstance(values, Sequence)
        or isinstance(values, str)
        or len(values) == 0
        or not all(isinstance(v, int) and v > 0 for v in values)
    ):
        raise ValueError(
            f"`{name}` must be a non-empty sequence of positive integers. "
            f"Received: {name}={values!r}"
        )


def check_rate(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise ValueError(
            f"`{name}` must be a number in [0, 1). Received: {name}={value!r}"
        )
