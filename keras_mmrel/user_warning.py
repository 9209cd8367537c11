"""Warnings at the line of the user, however deep the library has found them."""

import os
import sys
import warnings
from pathlib import Path
from types import FrameType

import keras

# Decorators, checks and Keras' own methods stand between.
INSIDE = tuple(f"{Path(f).parent}{os.sep}" for f in (__file__, keras.__file__))
# Files that Python itself puts between: made code, and context managers.
BETWEEN = ("<", "contextlib.py", "functools.py")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn where the user's code called the library.

    Args:
        message: The sentence.
        category: Kind of the warning.
    """
    level, frame = 2, sys._getframe(1)
    found: FrameType | None = frame
    while found is not None and _is_inside(found.f_code.co_filename):
        found, level = found.f_back, level + 1
    # A thread of the library's own has no line of the user's.
    warnings.warn(message, category, stacklevel=level if found else 2)


def _is_inside(file: str) -> bool:
    return (
        file.startswith(INSIDE)
        or file.startswith(BETWEEN[:1])
        or Path(file).name in BETWEEN[1:]
    )
