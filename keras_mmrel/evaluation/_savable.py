"""Fitted host-side objects as small JSON files."""

import json
import os
import pathlib
from typing import Any
from typing import Self

import keras


class Savable:
    """A registered class whose `get_config` holds all of its state."""

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `get_config`"
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def save(self, path: str | os.PathLike) -> None:
        """Write all of it, what was fitted included, as a JSON file.

        Args:
            path: File to write.
        """
        config = keras.saving.serialize_keras_object(self)
        pathlib.Path(path).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote.

        Args:
            path: File to read.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged.
            TypeError: If it holds something else.
        """
        text = pathlib.Path(path).read_text()
        try:
            loaded = keras.saving.deserialize_keras_object(json.loads(text))
        except Exception as error:
            raise ValueError(
                f"`path` must be a file that `{cls.__name__}.save` wrote. "
                f"Received: path={str(path)!r}, which could not be read "
                f"({type(error).__name__}: {error})"
            ) from error
        if not isinstance(loaded, cls):
            raise TypeError(
                f"`path` must hold a {cls.__name__}. Received: "
                f"path={str(path)!r}, which holds a {type(loaded).__name__}"
            )
        return loaded
