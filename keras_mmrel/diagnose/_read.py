"""Data as users have them: a NPZ, a CSV table, or the benchmark's settings."""

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mmrel.benchmark._checks import nearest
from keras_mmrel.benchmark._files import read_arrays
from keras_mmrel.benchmark._yaml import read_yaml
from keras_mmrel.benchmark.dataset import LOADERS
from keras_mmrel.benchmark.dataset import as_dataset
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import as_path
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import to_numpy
from keras_mmrel.diagnose._read_csv import read_table
from keras_mmrel.diagnose._table import Table
from keras_mmrel.diagnose._table import floating

TEST = {"test": True, "train": False, "1": True, "0": False,
        "true": True, "false": False, "training": False}  # fmt: skip


def read(
    source: Path | str,
    *,
    labels: str | None = None,
    modalities: Mapping[str, str] | None = None,
    groups: str | None = None,
    split: str | None = None,
    ids: str | None = None,
    data: Path | str | None = None,
) -> Table:
    """Read what is to be diagnosed.

    Args:
        source: Path of a `.npz`, `.csv`, `.tsv` or `.yaml` file, or the name
            of a loader.
        labels: Name of the labels, `"y"` by default; likewise in a file are
            `groups`, `split` (which of the rows are for test) and `ids`.
        modalities: Name -> pattern of the arrays or columns.
        groups: See `labels`.
        split: See `labels`.
        ids: See `labels`.
        data: Folder with the folders of built-in data sets.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read.
    """
    path = as_path("source", source)
    named = {"groups": groups, "split": split, "ids": ids}
    used = [labels or "y", *(name for name in named.values() if name)]
    if len(set(used)) != len(used):
        raise ValueError(
            "`labels`, `groups`, `split` and `ids` must be different arrays "
            f"or columns. Received: {used}"
        )
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml") or str(source) in LOADERS:
        given = {k: v for k, v in (named | {"labels": labels}).items() if v}
        if given or modalities:
            raise ValueError(
                "`source` must be a file of arrays or columns to name some of "
                f"them. Received: {str(source)!r} with "
                f"{[*given, *(['modalities'] if modalities else [])]}"
            )
        return _of_settings(path, data)
    if not path.is_file():
        raise FileNotFoundError(
            "`source` must be a .npz, .csv, .tsv or .yaml file, or a loader "
            f"out of {list(LOADERS)}. Received: source={str(source)!r}, which "
            f"{'is a folder' if path.is_dir() else 'does not exist'}"
        )
    labels = labels or "y"
    if suffix == ".npz":
        return _of_npz(path, labels, modalities, named)
    if suffix in (".csv", ".tsv", ".txt"):
        found = read_table(path, labels, modalities, named)
    else:
        raise ValueError(
            "`source` must be a .npz, .csv, .tsv or .yaml file. Received: "
            f"source={str(source)!r}"
        )
    x, columns, beside = found
    return _table(path.stem, x, beside["labels"], columns, beside)


def _of_settings(path: Path, data: Path | str | None) -> Table:
    """What the benchmark calls a data set."""
    name, folder = path.stem, path.parent
    entry: object = {"source": str(path)}
    if str(path) not in LOADERS:
        if not path.is_file():
            raise FileNotFoundError(
                "`source` must be a file. Received: "
                f"source={str(path)!r}, which is none"
            )
        entry = read_yaml(path)
        if isinstance(entry, Mapping) and "datasets" in entry:
            sets = entry["datasets"]
            if not isinstance(sets, Mapping) or len(sets) != 1:
                raise ValueError(
                    "`source` must have one data set. Received: "
                    f"{list(sets or ())} in {str(path)!r}"
                )
            name, entry = next(iter(sets.items()))
    dataset = as_dataset("source", str(name), entry)
    if dataset.folds:
        raise ValueError(
            "`folds` must be left out, the diagnosis makes its own. Received: "
            f"{list(dataset.folds)}"
        )
    where = None if data is None else as_path("data", data)
    samples = dataset.load(str(name), None, folder, where)
    test = None
    if samples.published is not None:
        test = np.arange(len(samples.y)) >= samples.published
    mask = samples.x.get(MASK)
    return Table(
        str(name),
        {n: floating(v) for n, v in modality_arrays(samples.x).items()},
        samples.y,
        mask=None if mask is None else mask > 0,
        test=test,
    )


def _of_npz(
    path: Path,
    labels: str,
    modalities: Mapping[str, str] | None,
    named: Mapping[str, str | None],
) -> Table:
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(
            "`source` must be an undamaged .npz file of plain arrays. "
            f"Received: {str(path)!r} ({error})"
        ) from error
    wanted = {"labels": labels} | {k: v for k, v in named.items() if v}
    for key, name in wanted.items():
        if name not in arrays:
            raise ValueError(
                f"`{key}` must name an array of the file, {list(arrays)}. "
                f"Received: {key}={name!r}{nearest(name, arrays)}"
            )
    mask = arrays.pop(MASK, None)
    beside = {key: arrays.pop(name) for key, name in wanted.items()}
    if modalities is not None:
        lost = [n for n in modalities.values() if n not in arrays]
        if lost:
            raise ValueError(
                f"`modalities` must name arrays of the file, {list(arrays)}. "
                f"Received: {lost}"
            )
        arrays = {name: arrays[array] for name, array in modalities.items()}
    return _table(path.stem, arrays, beside["labels"], {}, beside, mask)


def _table(
    name: str,
    x: Mapping[str, Array],
    y: Array,
    columns: Mapping[str, list[str]],
    beside: Mapping[str, Array],
    mask: Array | None = None,
) -> Table:
    """Check shapes, and no values: these are what is to be looked at."""
    if not x:
        raise ValueError(
            f"`modalities` must be one or more. Received: none in '{name}'"
        )
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iufb":
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise ValueError(
                "`labels` must be classes, one a sample or one-hot rows. "
                f"Received: an array of shape {y.shape}"
            )
        y = y.argmax(axis=1)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    shapes = {n: v.shape for n, v in x.items()}
    short = [n for n, v in x.items() if v.ndim < 1 or len(v) != len(y)]
    if y.ndim != 1 or not len(y) or short:
        raise ValueError(
            "`source` must hold a row a sample in every modality, and a label "
            f"each. Received: {shapes} and labels of shape {y.shape}"
        )
    texts = [n for n, v in x.items() if v.dtype.kind not in "fiub"]
    if texts:
        raise ValueError(
            "`source` must hold numbers in every modality. Received: "
            f"{ {n: str(x[n].dtype) for n in texts} }; leave others out by "
            "`modalities`"
        )
    arrays = {
        n: floating(v if v.ndim > 1 else v[:, None]) for n, v in x.items()
    }
    for key in ("groups", "split", "ids"):
        if key in beside and beside[key].shape != y.shape:
            raise ValueError(
                f"`{key}` must hold a value a sample, {y.shape}. Received: "
                f"shape={beside[key].shape}"
            )
    if mask is not None and mask.shape != (len(y), len(x)):
        raise ValueError(
            f"'{MASK}' must have the shape {(len(y), len(x))}, a column a "
            f"modality. Received: shape={mask.shape}"
        )
    test = beside.get("split")
    return Table(
        name,
        arrays,
        y,
        columns,
        None if mask is None else check_mask_values(mask),
        beside.get("groups"),
        None if test is None else _test(test),
        beside.get("ids"),
    )


def _test(values: Array) -> Array:
    """Which rows are for test."""
    texts = [str(v).strip().lower() for v in values.tolist()]
    texts = [t.removesuffix(".0") for t in texts]
    unknown = sorted({t for t in texts if t not in TEST})
    found = np.array([TEST.get(t, False) for t in texts])
    if unknown or found.all() or not found.any():
        raise ValueError(
            "`split` must hold 'train' and 'test', or 0 and 1 for test. "
            f"Received: {unknown[:4] or sorted(set(texts))}"
        )
    return found


def as_patterns(texts: Sequence[str] | None) -> dict[str, str] | None:
    """Make name -> pattern of `name=pattern` and of names alone."""
    if not texts:
        return None
    found = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        if not name or name in found:
            raise ValueError(
                "`modalities` must be different name=pattern. Received: "
                f"{list(texts)}"
            )
        found[name] = pattern or name
    return found


def table_of(source: tuple[Mapping[str, Array], Array]) -> Table:
    """Make a table of `(x, y)` in memory."""
    if len(source) != 2 or not isinstance(source[0], Mapping):
        raise ValueError(
            "`source` must be (x, y), a dict of arrays and labels. Received: "
            f"{[type(part).__name__ for part in source]}"
        )
    x = {name: to_numpy(v, f"'{name}'") for name, v in source[0].items()}
    mask = x.pop(MASK, None)
    return _table("data", x, to_numpy(source[1], "labels"), {}, {}, mask)
