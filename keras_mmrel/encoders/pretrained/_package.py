"""Files of weights inside packages, which are read and never imported."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance

FOLDER = Either(Instance((str, Path), "a path"), None)
# Far above any of them.
LARGEST_FILE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Package:
    """A package that carries weights.

    Args:
        module: Name of its module.
        name: What it is called where packages are had.
        command: What installs it.
    """

    module: str
    name: str
    command: str

    def read(
        self,
        file: str,
        user: str,
        folder: str | Path | None = None,
        sha256: str | None = None,
    ) -> bytes:
        """Return what a file of the package holds.

        Args:
            file: Path of the file inside the module.
            user: What needs it, for messages.
            folder: Where the package lies, `None` for where it is installed.
            sha256: What the file must hash to, if that is known.

        Raises:
            ImportError: If the package, or the file in it, is not there.
            ValueError: If it is not in `folder`, or is another file.
        """
        for place in self._places(folder):
            path = place / file
            if path.is_file():
                return _read(path, user, sha256)
        if folder is not None:
            raise ValueError(
                f"`folder` must hold {self.module}/{file}, as "
                f"`{self.command} --target folder` puts it there. Received: "
                f"folder={str(folder)!r}"
            )
        raise ImportError(f"`{user}` needs {self.name}: `{self.command}`")

    def _places(self, folder: str | Path | None) -> list[Path]:
        if folder is not None:
            return [Path(folder) / self.module]
        # The package is found, not run.
        found = importlib.util.find_spec(self.module)
        places = found.submodule_search_locations if found else None
        return [Path(place) for place in places or ()]


def _read(path: Path, user: str, sha256: str | None) -> bytes:
    with open(path, "rb") as opened:
        content = opened.read(LARGEST_FILE + 1)
    known = sha256 in (None, hashlib.sha256(content).hexdigest())
    if len(content) > LARGEST_FILE or not known:
        raise ValueError(
            f"`{user}` must find the file that it was checked with. Received: "
            f"another one, {str(path)!r}"
        )
    return content
