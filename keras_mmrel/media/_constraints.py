"""Constraints that several media share."""

import codecs
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Constraint
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance


class Column(Constraint):
    """The name of a column."""

    expected = "the name of a column"
    bad = ("", 1.5, None, ("a",))

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value != ""


class Size(Constraint):
    """Height and width, or one number for both."""

    expected = "a height and a width from 1 to 10,000 pixels"
    bad = (0, (0, 1), (1, 2, 3), "ab", None, (1.5, 2), (20_000, 1))

    def accepts(self, value: Any) -> bool:
        pair = value if isinstance(value, Sequence) else (value, value)
        return (
            len(pair) == 2
            and all(isinstance(n, int | np.integer) for n in pair)
            and not any(isinstance(n, bool) for n in pair)
            and all(1 <= n <= 10_000 for n in pair)
        )

    def plain(self, value: Any) -> tuple[int, int]:
        pair = value if isinstance(value, Sequence) else (value, value)
        return int(pair[0]), int(pair[1])


COLUMN = Column()
SIZE = Size()
TRANSFORM = Either(Instance(Callable, "a function of an array"), None)  # type: ignore[arg-type]
FIT = Choice("crop", "pad", "stretch")
PIXELS = Choice("float32", "uint8")


class Channels(Constraint):
    """How many colours a picture has."""

    expected = "1, 3 or 4"
    bad = (0, 2, 5, True, "rgb", None, 3.0)

    def accepts(self, value: Any) -> bool:
        whole = isinstance(value, int | np.integer)
        return whole and not isinstance(value, bool) and value in (1, 3, 4)


CHANNELS = Channels()


class Encoding(Constraint):
    """The name of an encoding of texts."""

    expected = "the name of an encoding, such as 'utf-8'"
    bad = ("no such encoding", 8, None)

    def accepts(self, value: Any) -> bool:
        try:
            return bool(codecs.lookup(value))
        except (LookupError, TypeError):
            return False
