"""Data sets of a user, as files."""

import zipfile
import zlib
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame
from keras_mmrel.optional import require

Read = tuple[dict[str, Array], Array]


def read_npz(
    path: Path, labels: str = "y", modalities: Sequence[str] | None = None
) -> Read:
    """Read named arrays of a `.npz` file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"`path` must be a `.npz` file. Received: {str(path)!r}, "
            "which does not exist"
        )
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no whole zip file")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (
        ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error
    ) as error:  # fmt: skip
        raise ValueError(
            f"`path` must be an undamaged `.npz` file of plain "
            f"arrays. Received: {str(path)!r} ({error})"
        ) from error
    names = modalities or [n for n in arrays if n != labels]
    lost = [n for n in [*names, labels] if n not in arrays]
    if lost or not names:
        raise ValueError(
            f"`modalities` must name arrays of the file, {list(arrays)}. "
            f"Received: {lost or names}"
        )
    if labels in names:
        raise ValueError(
            f"`modalities` must not hold the labels. Received: {names}"
        )
    return {name: arrays[name] for name in names}, arrays[labels]


def read_csv(
    modalities: Mapping[str, Path], labels: Path, header: bool = True
) -> Read:
    """Read a table a modality, and one column of labels."""
    pandas = require("pandas", "keras_mmrel.benchmark")

    def read(key: str, path: Path) -> Frame:
        if not path.is_file():
            raise FileNotFoundError(
                f"`{key}` must be a CSV file. Received: "
                f"{str(path)!r}, which does not exist"
            )
        try:
            return pandas.read_csv(path, header=0 if header else None)
        except ValueError as error:
            raise ValueError(
                f"`{key}` must be a CSV file. Received: {str(path)!r} ({error})"
            ) from error

    x = {
        name: read(f"modalities.{name}", file).to_numpy()
        for name, file in modalities.items()
    }
    table = read("labels", labels)
    if table.shape[1] != 1:
        raise ValueError(
            f"`labels` must have one column. Received: {list(table.columns)}"
        )
    empty = table.iloc[:, 0].isna().to_numpy()
    if empty.any():
        raise ValueError(
            "`labels` must hold a label for each sample. Received: "
            f"{int(empty.sum())} empty labels, the first is row "
            f"{int(empty.argmax())}"
        )
    return x, table.iloc[:, 0].to_numpy()
