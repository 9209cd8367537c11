"""Data sets of several views of features, one MATLAB file each.

They are those that RCML was published with, in its repository.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_mmrel.datasets._download import cache_folder
from keras_mmrel.datasets._download import fetch
from keras_mmrel.datasets._matlab import read_views
from keras_mmrel.datasets._published_file import LIMIT
from keras_mmrel.datasets._published_file import read_published
from keras_mmrel.datasets._split import stratified_split

COMMIT = "c9c5ab41e6fe62a85e5f6441a4dc7b568e1fa421"
BASE_URL = f"https://raw.githubusercontent.com/jiajunsi/RCML/{COMMIT}/data"


@dataclass(frozen=True)
class MultiView:
    """What is known of a published file before it is read.

    Args:
        name: Name of the data set.
        file: Name of the file.
        sha256: Digest of the file.
        features: Number of features of each view, in the file's order.
        samples: Number of samples.
        num_classes: Number of classes.
        labels: Name of the class numbers.
        rows: Whether rows of the arrays are samples, not columns.
        first: Number of the first class.
    """

    name: str
    file: str
    sha256: str
    features: Mapping[str, int]
    samples: int
    num_classes: int
    labels: str = "gt"
    rows: bool = False
    first: int = 1

    @property
    def user(self) -> str:
        return f"load_{self.name.lower()}"

    def read(self, content: bytes) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Views and labels of the file's bytes."""
        return read_views(
            content,
            ("X", dict(self.features)),
            (self.labels, self.num_classes),
            self.samples,
            self.user,
            rows=self.rows,
            first=self.first,
        )


def load_multi_view(
    known: MultiView,
    path: str | os.PathLike | None,
    base_url: str = BASE_URL,
) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`, a fifth to test on."""
    if path is None:
        path = cache_folder(known.name) / known.file
        url = f"{base_url}/{known.file}"
        fetch(url, path, known.sha256, lambda file: _check(known, file), LIMIT)
    x, y = read_published(path, known.file, known.name, known.read)
    return stratified_split(x, y, known.samples // 5, known.user)


def _check(known: MultiView, file: Path) -> None:
    known.read(file.read_bytes())
