"""Optional packages, loaded where they are used."""

import importlib
from typing import Any

# Module -> the name of its package, and the extra that brings it.
PACKAGES = {
    "matplotlib": ("matplotlib", "report"),
    "pandas": ("pandas", "report"),
    "sklearn": ("scikit-learn", "data"),
    "scipy": ("SciPy", "data"),
    "yaml": ("PyYAML", "report"),
}


def needs(module: str, user: str) -> Any:
    """Import an optional module, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        name, extra = PACKAGES[package]
        raise ImportError(
            f"`{user}` needs {name}: `pip install keras-mmrel[{extra}]`"
        ) from error
