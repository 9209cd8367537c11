import dataclasses
import functools
import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel import datasets
from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._checks import imported
from keras_mmrel.benchmark._checks import mapping
from keras_mmrel.benchmark._checks import named
from keras_mmrel.benchmark._checks import number
from keras_mmrel.benchmark._checks import within
from keras_mmrel.benchmark._component import OWN
from keras_mmrel.benchmark._component import plain
from keras_mmrel.benchmark._csv import read_csv
from keras_mmrel.benchmark._files import counting_columns
from keras_mmrel.benchmark._files import read_npz
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._samples import Samples
from keras_mmrel.benchmark.training import overrides
from keras_mmrel.constraints import Flag
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import modality_arrays
from keras_mmrel.contract import parts_of
from keras_mmrel.contract import to_numpy
from keras_mmrel.media import MediaTable
from keras_mmrel.user_warning import warn

TEST_FRACTION = 0.3
LOADERS: dict[str, tuple[str, ...]] = {
    "multiview_digits": ("modalities",),
    "rosmap": ("path",),
    "brca": ("path",),
    "breast_tcga": ("path",),
    "cub": ("path",),
    "wiki": ("path",),
    "handwritten": ("path",),
    "pie": ("path",),
    "scene15": ("path",),
    "av_digits": ("path", "fold", "image_noise", "distractor"),
    "emoji": ("path", "preset", "length"),
}
FILES: dict[str, tuple[str, ...]] = {
    "npz": ("path", "labels", "modalities", "index"),
    "csv": ("modalities", "labels", "header", "index"),
}
SOURCES = {**LOADERS, **FILES}
# Loaders that cannot do without a path.
NOT_DOWNLOADED = ("breast_tcga", "cub", "emoji", "wiki")
# Folder of a loader's files where it is not called like the loader.
FOLDERS = {"av_digits": "fsdd"}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where data come from, how they are split and scaled.

    Args:
        source: A function that returns `((x, y), (x_test, y_test))`, or
            `(x, y)` without a split of its own; the name of a loader
            (`"multiview_digits"`, `"rosmap"`, `"brca"`, `"breast_tcga"`,
            `"cub"`, `"wiki"`, `"handwritten"`, `"pie"`, `"scene15"`,
            `"av_digits"`, `"emoji"`), of a kind of file (`"npz"`, `"csv"`),
            or a path to a function
            (`"my_package.my_module.load"`). `x` is a dict of modality name ->
            array, with or without `"modality_mask"`; `y` holds class numbers,
            one-hot rows, or names of classes. In the place of `(x, y)` there
            may be a `keras_mmrel.media.MediaTable`, which is read into
            memory. A modality may be a dict of arrays, as texts and series of
            a table are; methods need an encoder for one without a default
            encoder, such as tokens.
        options: Dict of arguments of the source: `path`; the `modalities`,
            names of arrays or name -> CSV file; the `labels`, an array's
            name or a CSV file; `header` and `index` of CSV files, see below;
            a loader's own.
        split: `"published"`, that of the source, or `"resampled"`: drawn anew
            with every seed. By default the first where there is one.
        test_fraction: Number in [0.05, 0.95], which asks for resampled
            splits; their default is that of the published split, or 0.3.
        scale: `"minmax"`, each feature to [0, 1] on the training part, so
            that the severity of a noise means the same everywhere; or
            `"none"`. Of a dict of arrays those of floats are scaled, and what
            `"padding_mask"` calls padding stays 0.
        folds: Values of the source's argument `fold`, each of them a data set
            of its own of which the report takes the mean: folds, not runs,
            are the unit of its errors.
        training: Dict of fields of `Training` that these data replace.

    CSV files are separated by commas, semicolons or tabs, with decimal points
    or, where a comma separates nothing, decimal commas. Their first row holds
    names: one that may be a sample is refused unless `header` is `True` or
    `False`. `index` names the column that tells samples apart: rows of all
    files and of the labels are matched by it, in the order of the labels, and
    it is no feature. Without it rows are matched by their place, and what
    looks like an index is refused: a column without a name, as pandas writes
    it, one that only counts the rows, an id. `index: False` says that every
    column is a feature, of `"npz"` too.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> x = {"a": np.random.rand(20, 4), "b": np.random.rand(20, 3)}
    >>> own = keras_mmrel.benchmark.Dataset(lambda: (x, np.arange(20) % 2))
    >>> own.load("own").num_classes
    2
    """

    source: Callable | str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    split: str | None = None
    test_fraction: float | None = None
    scale: str = "minmax"
    folds: Sequence[int | str] = ()
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        if isinstance(self.source, str) and "." in self.source:
            put("source", imported("source", self.source))
        if callable(self.source):
            if not isinstance(self.options, Mapping):
                raise ValueError(
                    "`options` must be a dict of arguments of the source. "
                    f"Received: {self.options!r}"
                )
        else:
            choice("source", self.source, SOURCES)
            put("options", _options(self.source, self.options))
        own = self.source in FILES
        splits = ("resampled",) if own else ("published", "resampled")
        if self.split is not None:
            choice("split", self.split, splits)
        if self.test_fraction is not None:
            if self.split == "published":
                raise ValueError(
                    "`test_fraction` must only stand with a resampled split. "
                    f"Received: {self.test_fraction!r} with a published split"
                )
            put(
                "test_fraction",
                number("test_fraction", self.test_fraction, 0.05, 0.95),
            )
        choice("scale", self.scale, ("minmax", "none"))
        if (
            not isinstance(self.folds, list | tuple)
            or not all(isinstance(fold, int | str) for fold in self.folds)
            or len(set(self.folds)) != len(self.folds)
        ):
            raise ValueError(
                "`folds` must list different integers or texts. Received: "
                f"{self.folds!r}"
            )
        put("training", overrides("training", self.training))

    def load(
        self,
        name: str,
        fold: Any = None,
        folder: Path = Path(),
        data: Path | None = None,
    ) -> Samples:
        """Load all samples.

        Args:
            name: What errors and the report call them.
            fold: One of the `folds`, if there are any.
            folder: Where relative paths of files begin.
            data: Folder with the folders of built-in data sets, or `None`.

        Raises:
            ValueError: If the data are not as they must be.
            FileNotFoundError: If a file is not there.
        """
        options = dict(self.options)
        if self.folds:
            options["fold"] = fold
        with within(f"datasets.{name}"):
            parts = _parts(self._read(options, folder, data))
            x, y = _pooled(parts)
            x, y = _checked(name, x, y)
            if callable(self.source):
                _warn_of_counting(x)
        published = len(parts[0][1]) if len(parts) == 2 else None
        if published is None and self.split == "published":
            raise ValueError(
                f"`datasets.{name}.split` must be 'resampled' for data "
                "without a split of their own. Received: 'published'"
            )
        fraction = self.test_fraction
        if fraction is None:
            fraction = TEST_FRACTION
            if published is not None:
                fraction = 1 - published / len(y)
        if self.split == "resampled" or self.test_fraction is not None:
            published = None
        return Samples(name, x, y, published, fraction, self.scale)

    def _read(
        self, options: dict[str, Any], folder: Path, data: Path | None
    ) -> Any:
        if callable(self.source):
            return self.source(**options)
        source = self.source
        if source == "npz":
            options["path"] = folder / options["path"]
            return read_npz(**options)
        if source == "csv":
            options["labels"] = folder / options["labels"]
            files = options.pop("modalities").items()
            return read_csv({n: folder / f for n, f in files}, **options)
        if source == "multiview_digits":
            options.setdefault("modalities", "all")
        elif "path" in options:
            options["path"] = folder / options["path"]
        elif data is not None:
            options["path"] = data / FOLDERS.get(source, source)
        elif source in NOT_DOWNLOADED:
            raise ValueError(
                f"`path` must say where {source!r} is, or `data` (`--data`) "
                "where the folders of data sets are. Received: path=None"
            )
        return getattr(datasets, f"load_{source}")(**options)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Dataset":
        """Rebuild what `to_dict` described, an own function as a name."""
        source = record["source"]
        return cls(
            **{
                **record,
                "source": Recorded(OWN) if source == OWN else source,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what identifies the data set in a file."""
        own = callable(self.source)
        return {
            "source": OWN if own else self.source,
            "options": plain(self.options),
            "split": self.split,
            "test_fraction": self.test_fraction,
            "scale": self.scale,
            "folds": list(self.folds),
            "training": dict(self.training),
        }


def as_dataset(where: str, name: str, entry: Any) -> Dataset:
    """Take a data set, a function, a name, or fields and options in one."""
    if isinstance(entry, Dataset):
        return entry
    if callable(entry) or isinstance(entry, str):
        with within(where):
            return Dataset(entry)
    fields = [
        f.name for f in dataclasses.fields(Dataset) if f.name != "options"
    ]
    every = {key for keys in SOURCES.values() for key in keys}
    given = mapping(where, entry, [*fields, *sorted(every), "options"])
    given.setdefault("source", name)
    if isinstance(given["source"], str) and "." not in given["source"]:
        choice(f"{where}.source", given["source"], SOURCES)
        known = SOURCES[given["source"]]
        mapping(where, given, [*fields, *known, "options"])
        options = {key: given.pop(key) for key in known if key in given}
        given["options"] = {**given.get("options", {}), **options}
    with within(where):
        return Dataset(**given)


def _options(source: Any, options: Any) -> dict[str, Any]:
    """Checked options of a loader or a kind of file."""
    options = mapping("options", options, SOURCES[source])
    needed = {"npz": ("path",), "csv": ("modalities", "labels")}
    for key in needed.get(source, ()):
        if not options.get(key):
            raise ValueError(
                f"`{key}` must say where the data are. Received: "
                f"{key}={options.get(key)!r}"
            )
    for key in ("path", "labels"):
        if options.get(key) is not None:
            options[key] = _text(key, options[key])
    if source == "csv":
        options["modalities"] = {
            name: _text(f"modalities.{name}", file)
            for name, file in named("modalities", options["modalities"]).items()
        }
    elif source == "npz" and "modalities" in options:
        options["modalities"] = list(named("modalities", options["modalities"]))
    if options.get("header") is not None:
        options["header"] = Flag()("header", options["header"])
    index = options.get("index")
    if index is not None and index is not False:
        if source == "npz":
            choice("index", repr(index), ("False",))
        _check_index(index, options.get("header"))
    return options


def _check_index(index: Any, header: bool | None) -> None:
    if not isinstance(index, str) or not index:
        raise ValueError(
            "`index` must be the name of a column, or false if every column "
            f"is a feature. Received: {index!r}"
        )
    if header is False:
        raise ValueError(
            "`index` must name a column of a header. Received: "
            f"{index!r} with `header: false`"
        )


def _text(where: str, value: Any) -> str:
    """A name or a path, with `~` and variables of the environment."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ValueError(f"`{where}` must be a text. Received: {value!r}")
    return os.path.expandvars(os.path.expanduser(value))


def _parts(loaded: Any) -> list[tuple[dict[str, Any], Any]]:
    """Training part and test part, or the only one."""
    if isinstance(loaded, MediaTable):
        loaded = loaded.arrays()
    try:
        loaded = tuple(
            part.arrays() if isinstance(part, MediaTable) else part
            for part in loaded
        )
        if not isinstance(loaded[0], Mapping):
            if len(loaded) not in (2, 3):
                raise ValueError(f"{len(loaded)} parts")
            # A validation part, the second of three, is for the user's own.
            loaded = (loaded[0], loaded[-1])
            return [(dict(x), y) for x, y in loaded]
        x, y = loaded
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            "`source` must return ((x, y), (x_test, y_test)) or (x, y), with "
            f"dicts of arrays. Received: {type(loaded).__name__} ({error})"
        ) from error
    return [(dict(x), y)]


def _warn_of_counting(x: Mapping[str, Array]) -> None:
    for name, column in counting_columns(modality_arrays(x)).items():
        warn(
            f"Column {column} of modality '{name}' only counts the rows: an "
            "index is no feature, and may tell the classes apart."
        )


def _pooled(parts: list) -> tuple[dict[str, Any], Array]:
    for x, y in parts:
        named = {f"'{name}' of `source`": value for name, value in x.items()}
        check_rows_agree({**named, "labels of `source`": y})
    names = [set(x) for x, _ in parts]
    if names[0] != names[-1]:
        raise ValueError(
            "`source` must return the same modalities for training and test. "
            f"Received: {[sorted(n) for n in names]}"
        )
    for name in names[0]:
        if not isinstance(name, str):
            raise ValueError(
                f"`source` must name modalities by texts. Received: {name!r}"
            )
    x = {
        name: _joined_parts(f"'{name}'", [part[name] for part, _ in parts])
        for name in parts[0][0]
    }
    y = _joined("the labels", [y for _, y in parts])
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and y.dtype.kind in "iufb":
        y = y.argmax(axis=1)
    return x, y


def _joined_parts(where: str, values: list[Any]) -> Any:
    """Both parts of a modality, of each of its arrays where it has several."""
    keys = [sorted(v) if isinstance(v, Mapping) else None for v in values]
    if keys[0] != keys[-1] or keys[0] == []:
        raise ValueError(
            f"`source` must hold the same arrays for {where} in training and "
            f"test. Received: {keys}"
        )
    if keys[0] is None:
        return _joined(where, values)
    return {
        part: _joined(f"{where[:-1]}/{part}'", [v[part] for v in values])
        for part in values[0]
    }


def _joined(where: str, values: list[ArrayLike]) -> Array:
    """Both parts as one array."""
    try:
        arrays = [to_numpy(v) for v in values]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`source` must hold one array for {where}. Received: "
            f"{type(values[0]).__name__} ({' '.join(str(error).split())})"
        ) from error
    kinds = {"n" if a.dtype.kind in "iufb" else a.dtype.kind for a in arrays}
    shapes = {a.shape[1:] for a in arrays}
    empty = len(arrays) > 1 and not all(a.size for a in arrays)
    if len(kinds) > 1 or len(shapes) > 1 or empty:
        raise ValueError(
            f"`source` must hold samples of {where} of the same form for "
            "training and test. Received: "
            f"{[(a.shape, str(a.dtype)) for a in arrays]}"
        )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def _numbered(y: Array) -> Array:
    """Texts and other labels as numbers from 0, in their order."""
    try:
        return np.unique(y, return_inverse=True)[1].astype("int64")
    except TypeError as error:
        raise ValueError(
            "`source` must hold labels that are all texts or all numbers. "
            f"Received: {sorted({type(v).__name__ for v in y.tolist()})}"
        ) from error


def _checked_mask(x: dict[str, Any]) -> None:
    names = [name for name in x if name != MASK]
    mask = x[MASK]
    if mask.dtype.kind not in "iufb" or mask.shape[1:] != (len(names),):
        raise ValueError(
            f"`source` must hold '{MASK}' of numbers, with a column for each "
            f"of {names}. Received: shape {mask.shape}, dtype {mask.dtype}"
        )
    check_mask_values(mask)


def _checked(
    name: str, x: dict[str, Any], y: ArrayLike
) -> tuple[dict[str, Any], Array]:
    """Check arrays; texts and other labels become class numbers."""
    if not modality_arrays(x):
        raise ValueError(
            f"`source` must hold a modality or more. Received: {list(x)}"
        )
    arrays = {
        f"{name}/{part}" if part else name: array
        for name, value in x.items()
        for part, array in parts_of(value).items()
    }
    shapes = {**{n: v.shape for n, v in arrays.items()}, "labels": y.shape}
    if (
        y.ndim != 1
        or any(v.ndim < 2 or v.size == 0 for v in arrays.values())
        or any(shape[0] != len(y) for shape in shapes.values())
    ):
        raise ValueError(
            "`source` must hold modalities of shape (samples, features) or "
            "(samples, height, width, channels) and labels of shape "
            f"(samples,). Received: {shapes}"
        )
    if MASK in x:
        _checked_mask(x)
    for column, (modality, values) in enumerate(modality_arrays(x).items()):
        present = x[MASK][:, column] > 0 if MASK in x else None
        if isinstance(values, Mapping):
            x[modality] = {
                # Truths of a part, as of its padding, stay what they are.
                part: array
                if array.dtype.kind == "b"
                else _numbers(f"{modality}/{part}", array, present)
                for part, array in values.items()
            }
        else:
            x[modality] = _numbers(modality, values, present)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(
            "`source` must hold a label for each sample. Received: "
            f"{int((~np.isfinite(y)).sum())} labels that are NaN"
        )
    y = _numbered(y)
    counts = np.bincount(y)
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError(
            "`source` must hold two or more samples of every class. "
            f"Received: {counts.tolist()} samples a class"
        )
    return x, y


def _numbers(modality: str, values: Array, present: Array | None) -> Array:
    """Finite numbers; a missing modality may hold anything."""
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"`source` must hold numbers in modality '{modality}'. Received: "
            f"dtype={values.dtype}"
        )
    if values.dtype.kind in "fb":
        with np.errstate(over="ignore"):
            values = values.astype("float32")
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if present is not None:
        bad &= present
        values = np.where(np.isfinite(values), values, 0)
    if bad.any():
        raise ValueError(
            "`source` must hold finite numbers in modality "
            f"'{modality}'. Received: NaN or infinite values in "
            f"{int(bad.sum())} rows, the first is row {int(bad.argmax())}"
        )
    return values
