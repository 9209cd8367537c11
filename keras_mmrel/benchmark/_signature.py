"""What a constructor takes."""

import inspect
from typing import Any


def parameters(cls: Any) -> list[str]:
    """Names of the arguments of a class, without `self` and `**kwargs`."""
    return [
        name
        for name, p in inspect.signature(cls).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    ]
