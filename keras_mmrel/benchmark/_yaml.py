"""YAML files in which no name stands twice."""

import re
from pathlib import Path
from typing import Any

from keras_mmrel.optional import require


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ImportError: If PyYAML is not there.
        ValueError: If the file is no YAML or has a name twice.
    """
    yaml = require("yaml", "keras_mmrel.benchmark")

    # A subclass, so that nobody else's YAML is read in this way.
    loader_class: Any = type("Loader", (yaml.SafeLoader,), {})

    def wrong(problem: str, node: Any) -> Exception:
        return yaml.constructor.ConstructorError(
            None, None, problem, node.start_mark
        )

    def mapping(loader: Any, node: Any) -> dict:
        """A later entry of a name would silently replace the first."""
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise wrong("a name must be a plain text", node)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise wrong(f"{twice} must stand once in its section", node)
        # Only now: an entry may stand in for one that is merged by `<<`.
        loader.flatten_mapping(node)
        return dict(loader.construct_pairs(node, deep=True))

    loader_class.add_constructor(
        yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping
    )
    # YAML 1.1 takes 1e-3 for a text, people do not.
    loader_class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    try:
        # It is a SafeLoader: it makes plain data only.
        return yaml.load(path.read_text("utf-8"), loader_class)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`config` must be a YAML file. Received: {path} "
            f"({' '.join(str(error).split())})"
        ) from error
