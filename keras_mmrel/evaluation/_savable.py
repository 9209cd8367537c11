"""Fitted host-side objects as small JSON files."""

import json
import os
from typing import Any
from typing import Self

import keras

from keras_mmrel.contract import as_path


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

        Raises:
            FileNotFoundError: If its folder is not there.
            ValueError: If it is no path, or a folder.
        """
        target = as_path("path", path)
        if target.is_dir():
            raise ValueError(
                "`path` must be the name of a file. Received: "
                f"path={str(target)!r}, which is a folder"
            )
        if not target.parent.is_dir():
            raise FileNotFoundError(
                "`path` must be in a folder that exists. Received: "
                f"path={str(target)!r}"
            )
        config = keras.saving.serialize_keras_object(self)
        target.write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote.

        Args:
            path: File to read.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no path, or the file is damaged.
            TypeError: If it holds something else.
        """
        source = as_path("path", path)
        if not source.is_file():
            raise FileNotFoundError(
                f"`path` must be a file that `{cls.__name__}.save` wrote. "
                f"Received: path={str(path)!r}, which is no file"
            )
        try:
            config = json.loads(source.read_text())
            loaded = keras.saving.deserialize_keras_object(config)
        except Exception as error:
            raise ValueError(
                f"`path` must be a file that `{cls.__name__}.save` wrote. "
                f"Received: path={str(path)!r}, which could not be read "
                f"({type(error).__name__}: {_one_line(error)})"
            ) from error
        if not isinstance(loaded, cls):
            raise TypeError(
                f"`path` must hold a {cls.__name__}. Received: "
                f"path={str(path)!r}, which holds a {type(loaded).__name__}"
            )
        return loaded


def _one_line(error: Exception) -> str:
    """What an error says first: Keras adds whole configs below."""
    return (str(error).splitlines() or [""])[0][:200]
