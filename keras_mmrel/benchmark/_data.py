"""Data sets of a comparison, and their splits."""

import dataclasses
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel import datasets
from keras_mmrel.optional import require

TEST_SHARE = 0.3
Part = tuple[dict[str, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """All samples of a data set; the first `published` are for training.

    `published` is `None` for data without a split of their own.
    """

    name: str
    x: dict[str, np.ndarray]
    y: np.ndarray
    published: int | None
    split: str
    test_share: float
    scale: str

    @property
    def classes(self) -> int:
        return int(self.y.max()) + 1

    @property
    def fingerprint(self) -> str:
        """Changes with any value of the data."""
        crc = 0
        for name, values in [*self.x.items(), ("y", self.y)]:
            crc = zlib.crc32(name.encode(), crc)
            crc = zlib.crc32(np.ascontiguousarray(values).tobytes(), crc)
        return f"{crc:08x}"

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training and of the test part."""
        if self.split == "published":
            assert self.published is not None
            rows = np.arange(len(self.y))
            return rows[: self.published], rows[self.published :]
        where = f"datasets.{self.name}.test_share"
        return stratified(self.y, self.test_share, seed, where)

    def parts(self, seed: int) -> tuple[Part, Part]:
        """Training and test part, the same for every method of a seed."""
        first, second = self.rows(seed)
        return self._part(first, first), self._part(first, second)

    def _part(self, training: np.ndarray, rows: np.ndarray) -> Part:
        x = {name: values[rows] for name, values in self.x.items()}
        if self.scale == "minmax":
            x = {
                name: scaled(self.x[name][training], values)
                for name, values in x.items()
            }
        return x, self.y[rows]


def stratified(
    y: np.ndarray, share: float, seed: int, where: str = "share"
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two parts with the same shares of the classes.

    Raises:
        ValueError: If the first part would lack a class, or the second is
            too small; it calls the share `where`.
    """
    from sklearn.model_selection import train_test_split

    try:
        parts = train_test_split(
            np.arange(len(y)), test_size=share, stratify=y, random_state=seed
        )
    except ValueError:
        parts = ()
    if not parts or len(set(y[parts[0]])) < len(set(y)):
        counts = np.unique(y, return_counts=True)[1].tolist()
        key = where.rsplit(".", 1)[-1]
        raise ValueError(
            f"`{where}` must leave samples of every class to train on, and as "
            f"many samples as classes to score. Received: {key}={share:g} of "
            f"{counts} samples a class"
        )
    return parts[0], parts[1]


def scaled(training: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Scale to [0, 1] on the training part: vectors feature by feature."""
    axis = 0 if training.ndim == 2 else None
    low, high = training.min(axis=axis), training.max(axis=axis)
    span = high - low
    # What is constant in training may not be so elsewhere.
    span = np.where(span > 1e-6, span, 1.0)
    return ((values - low) / span).astype("float32")


def load_dataset(
    name: str, entry: dict, folder: Path, data: Path | None
) -> Dataset:
    """Load a data set of a config.

    Args:
        name: Its name in the config.
        entry: Its checked entry.
        folder: Folder of the config, where relative paths begin.
        data: Folder with the folders of built-in data sets, or `None`.

    Raises:
        ValueError: If a user's own data are not as they must be.
        FileNotFoundError: If a file is not there.
    """
    where = f"datasets.{name}"
    source = entry["source"]
    own = {"npz": _read_npz, "csv": _read_csv}
    published = None
    if source in own:
        x, y = own[source](where, entry, folder)
        y = _class_numbers(where, x, y)
    else:
        x, y, published = _built_in(source, entry, folder, data)
    counts = np.bincount(y)
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError(
            f"`{where}` must hold two or more samples of every class. "
            f"Received: {counts.tolist()} samples a class"
        )
    share = entry.get("test_share")
    if share is None:
        share = TEST_SHARE if published is None else 1 - published / len(y)
    return Dataset(name, x, y, published, entry["split"], share, entry["scale"])


def _built_in(
    source: str, entry: dict, folder: Path, data: Path | None
) -> tuple[dict, np.ndarray, int]:
    options = {
        key: entry[key]
        for key in ("modalities", "fold", "image_noise", "distractor")
        if key in entry
    }
    if source == "multiview_digits":
        options.setdefault("modalities", "all")
    elif entry.get("path"):
        options["path"] = folder / entry["path"]
    elif data is not None:
        options["path"] = data / ("fsdd" if source == "av_digits" else source)
    (x, y), (x_test, y_test) = getattr(datasets, f"load_{source}")(**options)
    pooled = {name: np.concatenate([x[name], x_test[name]]) for name in x}
    return pooled, np.concatenate([y, y_test]).astype("int64"), len(y)


def _read_npz(where: str, entry: dict, folder: Path) -> tuple[dict, Any]:
    path = folder / entry["path"]
    if not path.is_file():
        raise FileNotFoundError(
            f"`{where}.path` must be a `.npz` file. Received: {str(path)!r}, "
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
            f"`{where}.path` must be an undamaged `.npz` file of plain "
            f"arrays. Received: {str(path)!r} ({error})"
        ) from error
    label = entry.get("labels", "y")
    names = entry.get("modalities") or [n for n in arrays if n != label]
    lost = [n for n in [*names, label] if n not in arrays]
    if lost or not names:
        raise ValueError(
            f"`{where}` must name arrays of its file, {list(arrays)}. "
            f"Received: {lost or names}"
        )
    if label in names:
        raise ValueError(
            f"`{where}.modalities` must not hold the labels. Received: {names}"
        )
    return {name: arrays[name] for name in names}, arrays[label]


def _read_csv(where: str, entry: dict, folder: Path) -> tuple[dict, Any]:
    pandas = require("pandas", "keras_mmrel.benchmark")
    header = 0 if entry.get("header", True) else None

    def read(key: str, file: Any) -> Any:
        path = folder / str(file)
        if not path.is_file():
            raise FileNotFoundError(
                f"`{where}.{key}` must be a CSV file. Received: "
                f"{str(path)!r}, which does not exist"
            )
        try:
            return pandas.read_csv(path, header=header)
        except ValueError as error:
            raise ValueError(
                f"`{where}.{key}` must be a CSV file. Received: "
                f"{str(path)!r} ({error})"
            ) from error

    x = {
        name: read(f"modalities.{name}", file).to_numpy()
        for name, file in entry["modalities"].items()
    }
    labels = read("labels", entry["labels"])
    if labels.shape[1] != 1:
        raise ValueError(
            f"`{where}.labels` must have one column. Received: "
            f"{list(labels.columns)}"
        )
    empty = labels.iloc[:, 0].isna().to_numpy()
    if empty.any():
        raise ValueError(
            f"`{where}.labels` must hold a label for each sample. Received: "
            f"{int(empty.sum())} empty labels, the first is row "
            f"{int(empty.argmax())}"
        )
    return x, labels.iloc[:, 0].to_numpy()


def _class_numbers(where: str, x: dict, y: Any) -> np.ndarray:
    """Check a user's arrays; texts and other labels become class numbers."""
    y = np.asarray(y)
    shapes = {**{name: v.shape for name, v in x.items()}, "labels": y.shape}
    if (
        y.ndim != 1
        or any(v.ndim < 2 or v.size == 0 for v in x.values())
        or any(shape[0] != len(y) for shape in shapes.values())
    ):
        raise ValueError(
            f"`{where}` must hold modalities of shape (samples, features) or "
            "(samples, height, width, channels) and labels of shape "
            f"(samples,). Received: {shapes}"
        )
    for name, values in x.items():
        if values.dtype.kind not in "fiub":
            raise ValueError(
                f"`{where}` must hold numbers in modality '{name}'. Received: "
                f"dtype={values.dtype}"
            )
        with np.errstate(over="ignore"):
            x[name] = values = values.astype("float32")
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"`{where}` must hold finite numbers in modality '{name}'. "
                f"Received: NaN or infinite values in {int(bad.sum())} rows, "
                f"the first is row {int(bad.argmax())}"
            )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(
            f"`{where}` must hold a label for each sample. Received: "
            f"{int((~np.isfinite(y)).sum())} labels that are NaN"
        )
    return np.unique(y, return_inverse=True)[1].astype("int64")
