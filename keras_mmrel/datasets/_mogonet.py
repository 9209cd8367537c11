"""Read multi-omics data in the file layout of MOGONET.

A folder holds, for the modalities 1, 2 and 3, `1_tr.csv` and `1_te.csv`
(one row a sample, comma-separated, no header) and `1_featname.csv` (one name
a line), and for the samples `labels_tr.csv` and `labels_te.csv` (one class
number a line).
"""

import os
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.archives import MEBIBYTE
from keras_mmrel.datasets._download import cache_folder
from keras_mmrel.datasets._download import fetch

BASE_URL = "https://raw.githubusercontent.com/txWang/MOGONET/main"
# No number is written with more characters.
CELL = 32
MODALITIES = ("mrna", "methylation", "mirna")


@dataclass(frozen=True)
class Study:
    """What is known of a published data set before it is read.

    Args:
        name: Name of its folder.
        rows: Number of training and of test samples.
        features: Number of features of each modality.
        num_classes: Number of classes.
        sha256: File name -> digest of the published file, where known.
    """

    name: str
    rows: tuple[int, int]
    features: tuple[int, int, int]
    num_classes: int
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        """Number of bytes that none of its files exceeds."""
        return max(self.rows) * max(self.features) * CELL + MEBIBYTE


def load_study(
    study: Study,
    path: str | os.PathLike | None,
    return_feature_names: bool,
    base_url: str = BASE_URL,
) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)` and maybe the names."""
    read = partial(_read, study, path, f"{base_url}/{study.name}")
    columns = dict(zip(MODALITIES, study.features, strict=True))
    splits = []
    for split, rows in zip(("tr", "te"), study.rows, strict=True):
        x = {
            modality: read(
                f"{index}_{split}.csv", partial(_table, rows, columns[modality])
            )
            for index, modality in enumerate(MODALITIES, start=1)
        }
        y = read(
            f"labels_{split}.csv", partial(_labels, rows, study.num_classes)
        )
        splits.append((x, y))
    if not return_feature_names:
        return tuple(splits)
    names = {
        modality: read(
            f"{index}_featname.csv", partial(_names, columns[modality])
        )
        for index, modality in enumerate(MODALITIES, start=1)
    }
    return (*splits, names)


def _read(
    study: Study,
    path: str | os.PathLike | None,
    url: str,
    name: str,
    parse: Callable[[Path], Any],
) -> Any:
    if path is None:
        file = cache_folder(study.name) / name
        digest = study.sha256.get(name)
        fetch(f"{url}/{name}", file, digest, parse, study.limit)
    else:
        file = Path(path).expanduser() / name
        if not file.is_file():
            raise FileNotFoundError(
                f"`path` must be a folder that holds {study.name}'s "
                f"'{name}'; get it from {url}/{name}, or leave `path` out to "
                f"download everything. Received: path={os.fspath(path)!r}"
            )
    try:
        if file.stat().st_size > study.limit:
            raise ValueError(
                f"{file.stat().st_size:,} bytes, not at most {study.limit:,}"
            )
        return parse(file)
    except ValueError as error:
        raise ValueError(
            f"The file {file} must be as published, and is truncated or "
            f"altered: replace it by {url}/{name}. Received: {error}"
        ) from None


def _text(file: Path) -> str:
    """Return the text of a file whose last line is whole."""
    text = file.read_text(encoding="utf-8")
    if not text.strip():
        raise ValueError("an empty file")
    if not text.endswith("\n"):
        raise ValueError("no line end after the last row")
    return text


def _table(rows: int, columns: int, file: Path) -> np.ndarray:
    lines = _text(file).splitlines()
    values = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
    if values.shape != (rows, columns):
        raise ValueError(f"shape {values.shape}, not {(rows, columns)}")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ValueError(f"{bad} NaN or infinite values")
    return values.astype("float32")


def _labels(rows: int, num_classes: int, file: Path) -> np.ndarray:
    values = _table(rows, 1, file)[:, 0]
    bad = sorted(set(values.tolist()) - set(range(num_classes)))
    if bad:
        raise ValueError(
            f"labels {bad[:5]}, not integers in [0, {num_classes})"
        )
    return values.astype("int32")


def _names(columns: int, file: Path) -> list[str]:
    names = [line.strip() for line in _text(file).splitlines()]
    if len(names) != columns or not all(names):
        found = sum(map(bool, names))
        raise ValueError(f"{found} feature names, not {columns}")
    return names
