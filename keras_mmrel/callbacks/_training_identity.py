"""Which training a state belongs to."""

import json
import re
import sys
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel.contract import Model
from keras_mmrel.contract import to_numpy

# Keras numbers the names of layers, and a file of a script calls it
# `__main__` or by its name. Seeds are compared by themselves.
IGNORED = ("module", "name", "registered_name", "seed", "build_config")


def _is_rate(key: str) -> bool:
    return key.startswith("compile.optimizer") and key.endswith(
        ".learning_rate"
    )


def identity(model: Model) -> dict[str, Any]:
    """Describe a compiled model: versions, class, arguments and `compile`."""
    package = sys.modules[__name__.partition(".")[0]]
    config = {
        "keras_mmrel": package.__version__,
        "keras": keras.__version__,
        "backend": keras.config.backend(),
        "class": type(model).__name__,
        "model": _config_of(lambda: _arguments(model)),
        "compile": _config_of(model.get_compile_config),
    }
    return dict(_flat("", json.loads(json.dumps(config, default=str))))


def _arguments(model: Model) -> dict[str, Any]:
    """A model's config without what it remembers of a training's data."""
    config = model.get_config()
    return {name: config[name] for name in config if name != "largest"}


def _config_of(function: Any) -> Any:
    # An encoder or a loss of one's own may have no config.
    try:
        return function()
    except (NotImplementedError, TypeError, ValueError):
        return None


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a config with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in IGNORED:
                yield from _flat(f"{path}.{key}" if path else key, item)
    elif isinstance(value, list):
        yield f"{path}.length", len(value)
        for index, item in enumerate(value):
            yield from _flat(f"{path}.{index}", item)
    elif isinstance(value, str):
        yield path, re.sub(r"_\d+$", "", value)
    else:
        yield path, value


def learning_rate(model: Model) -> float | None:
    """Return the optimizer's rate as it is, `None` for one without."""
    rate = getattr(model.optimizer, "learning_rate", None)
    return None if rate is None else float(to_numpy(rate))


def difference(
    saved: dict[str, Any], here: dict[str, Any], rate: float | None
) -> str | None:
    """Say what differs first between two trainings, `None` for nothing.

    Args:
        saved: Identity of the training that was saved.
        here: Identity of the one that begins.
        rate: Learning rate that the saved one had come to. A model that
            trained already has it.
    """
    for key in [*here, *(key for key in saved if key not in here)]:
        if saved.get(key) == here.get(key):
            continue
        if _is_rate(key) and here.get(key) == rate:
            continue
        return f"{key}={saved.get(key)!r} there and {here.get(key)!r} here"
    return None
