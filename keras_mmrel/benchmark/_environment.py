"""What a run was made with."""

import json
import os
import platform
import sys
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import numpy as np


def environment() -> dict[str, Any]:
    """Return a record of versions, with a checksum as its `id`."""
    backend = keras.config.backend()
    package = sys.modules[__name__.partition(".")[0]]
    found = {
        "python": platform.python_version(),
        "keras_mmrel": getattr(package, "__version__", "unknown"),
        "source": _source_checksum(),
        "keras": keras.__version__,
        "backend": backend,
        backend: _version(backend),
        "numpy": np.__version__,
        "scikit-learn": _version("scikit-learn"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
    crc = zlib.crc32(json.dumps(found).encode())
    return {"kind": "environment", "id": f"{crc:08x}", **found}


def _source_checksum() -> str:
    """Changes with any line of the library."""
    crc = 0
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        crc = zlib.crc32(path.relative_to(root).as_posix().encode(), crc)
        crc = zlib.crc32(path.read_bytes(), crc)
    return f"{crc:08x}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
