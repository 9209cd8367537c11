"""What a preset of keras-hub holds, by its name or the folder it lies in."""

import os
from collections.abc import Callable
from typing import Any

from keras_mmrel.constraints import Constraint
from keras_mmrel.optional import require

USER = "a preset's name"


class _Preset(Constraint):
    """A string that is not empty, or the path of a folder."""

    expected = "the name or the folder of a preset of keras-hub"
    bad = ("", 1.5, None, ("a",))

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str | os.PathLike) and os.fspath(value) != ""

    def plain(self, value: Any) -> str:
        return os.fspath(value)


PRESET = _Preset()


def from_preset(
    argument: str, otherwise: str, preset: str, load: Callable[[Any], Any]
) -> Any:
    """Return what `load` makes of keras-hub.

    Args:
        argument: Name of the user's argument.
        otherwise: What else it may be.
        preset: What it is.
        load: Function of the package.

    Raises:
        ValueError: If the preset cannot be had.
        ImportError: If keras-hub is not installed.
    """
    hub = require("keras_hub", USER)
    try:
        return load(hub)
    # Downloads, files and presets fail in many ways.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:120]
        raise ValueError(
            f"`{argument}` must be {otherwise}, or a preset of keras-hub that "
            "lies in a folder or can be downloaded. Received: "
            f"{argument}={preset!r} ({type(error).__name__}: {first})"
        ) from error
