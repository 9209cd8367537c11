"""YAML files in which no name stands twice."""

from pathlib import Path
from typing import Any

from keras_mmrel.evaluation._imports import needs


def read_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ImportError: If PyYAML is not there.
        ValueError: If the file is no YAML or has a name twice.
    """
    yaml = needs("yaml", "keras_mmrel.benchmark")

    class Loader(yaml.SafeLoader):
        """A later entry of a name would silently replace the first."""

    def mapping(loader: Any, node: Any) -> dict:
        loader.flatten_mapping(node)
        pairs = loader.construct_pairs(node, deep=True)
        names = [name for name, _ in pairs]
        twice = sorted({str(n) for n in names if names.count(n) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{twice} must stand once in its section",
                node.start_mark,
            )
        return dict(pairs)

    Loader.add_constructor(
        yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping
    )
    try:
        # `Loader` is a SafeLoader: it makes plain data only.
        return yaml.load(path.read_text(), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(
            f"`config` must be a YAML file. Received: {path} ({error})"
        ) from error
