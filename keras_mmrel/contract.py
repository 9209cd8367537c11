"""What every part of the library agrees on.

The keys of inputs and outputs, the names of their types, labels as class
numbers and as one-hot rows, and the checks of arrays that a user passes.
Checks of constructor arguments are in `keras_mmrel.constraints`.
"""

import os
import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_mmrel.backend import upstream

# -- Keys --------------------------------------------------------------------

# Input and output: (batch, modalities), 1 = present, 0 = missing.
MASK = "modality_mask"

# What a layer given as `quality=` adds to the inputs, and a model then
# returns: (batch, modalities) in [0, 1], how far each is to be believed.
QUALITY = "modality_quality"

# What every model returns.
LOGITS = "logits"  # (batch, classes), fused
PROBABILITIES = "probabilities"  # (batch, classes)
MODALITY_LOGITS = "modality_logits"  # (batch, modalities, classes)
CONFIDENCE = "confidence"  # (batch, modalities) in [0, 1]
OUTPUTS = (LOGITS, PROBABILITIES, MODALITY_LOGITS, CONFIDENCE, MASK)

# What `call(training=True)` hands to losses and statistics. Inference never
# has it.
TRAINING_RECORD = "training_record"

# The largest size of a value: sums of squares must fit into float32.
LARGEST = 1e15
# What float16 cannot hold becomes infinite in the first layer.
LARGEST_HALF = 65504.0


def largest_value(dtype: str) -> float:
    """Return the largest size of a value for a model that computes in it."""
    return LARGEST_HALF if dtype == "float16" else LARGEST


# -- Types -------------------------------------------------------------------

# Keras is untyped: these say what a thing is, not how it is stored.
Tensor: TypeAlias = Any  # a backend's tensor, a `KerasTensor` or an array
Labels: TypeAlias = Tensor  # (batch,) class numbers or (batch, classes) rows
Array: TypeAlias = np.ndarray
ArrayLike: TypeAlias = Any  # what `to_numpy` takes
Shape: TypeAlias = tuple[int | None, ...]
Modalities: TypeAlias = Mapping[str, Any]  # name -> a tensor, or a dict of them
Outputs: TypeAlias = Mapping[str, Any]  # name -> a tensor
Losses: TypeAlias = dict[str, Tensor]  # name -> a scalar
DataSource: TypeAlias = Any  # a dict of arrays, or a pipeline of batches
Layer: TypeAlias = keras.layers.Layer
Model: TypeAlias = Any  # a Keras model of modalities
Variables: TypeAlias = Sequence[Any]  # of `keras.Variable`
Initializer: TypeAlias = Any  # as in `keras.initializers.get`
DType: TypeAlias = Any  # a name, or a `keras.DTypePolicy`
Frame: TypeAlias = Any  # a `pandas.DataFrame`
Figure: TypeAlias = Any  # a `matplotlib.figure.Figure`
Axes: TypeAlias = Any  # a `matplotlib.axes.Axes`
# Name -> an input shape, an encoder, or a list of blocks.
ModalitySpecs: TypeAlias = Mapping[str, Any]


# -- Arrays and labels -------------------------------------------------------


def to_numpy(array: ArrayLike, name: str = "An array") -> Array:
    """Return a tensor, a table, or what NumPy takes, as an array.

    Args:
        array: What to read. An array is returned as it is, unless its bytes
            are in another order than the machine's.
        name: What a message calls it.

    Raises:
        ValueError: If it is sparse, ragged, a masked array with masked
            entries, or a data frame with columns that hold no numbers.
    """
    if isinstance(array, np.ma.MaskedArray):
        hidden = int(np.ma.count_masked(array))
        if hidden:
            advice = "fill them, or leave their samples out"
            if name.startswith("Modality"):
                advice = f"fill them, or set '{MASK}' to 0 where it is missing"
            raise ValueError(
                f"{name} must have no masked entries: {advice}. Received: "
                f"{hidden} masked entries"
            )
        return to_numpy(np.asarray(array.data), name)
    if isinstance(array, np.ndarray):
        native = array.dtype.isnative
        return array if native else array.astype(array.dtype.newbyteorder("="))
    if is_labelled(array):
        return _table_values(array, name)
    if _is_sparse_or_ragged(array):
        raise ValueError(
            f"{name} must be dense, with one row a sample. Received: a "
            f"{type(array).__name__}, which is sparse or ragged"
        )
    if ops.is_tensor(array) or isinstance(array, keras.Variable):
        return np.asarray(ops.convert_to_numpy(array))
    if hasattr(array, "detach"):
        # A tensor of PyTorch under another backend; NumPy has no bfloat16.
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":
            array = array.float()
    try:
        return np.asarray(array)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of one shape. Received: a "
            f"{type(array).__name__} with rows of several"
        ) from error


def rows_to_numpy(
    array: ArrayLike, rows: slice, name: str = "An array"
) -> Array:
    """Return `to_numpy` of some rows; the others of a tensor are not copied."""
    if (
        is_labelled(array)
        or _is_sparse_or_ragged(array)
        or not hasattr(array, "__getitem__")
    ):
        return to_numpy(array, name)[rows]
    return to_numpy(array[rows], name)


def is_pixels(array: Array | Tensor) -> bool:
    """Whether an array holds bytes of images or videos, 0 to 255."""
    return len(array.shape) > 3 and "uint8" in str(array.dtype)


# A picture's largest value is rarely as small, nor is it ever above white.
BRIGHT, WHITE = 100.0, 255.0
# Channels of a picture at most: more are features.
CHANNELS = 4


def are_pixels_to_white(array: Array, largest: float) -> bool:
    """Whether numbers of images, no bytes, plainly are pixels from 0 to 255.

    Args:
        array: Samples, all or some.
        largest: Size of the largest number of all.
    """
    return (
        array.ndim > 3
        and array.shape[-1] <= CHANNELS
        and BRIGHT < largest <= WHITE
        and array.dtype.name != "uint8"
        and bool((array >= 0).all())
    )


def number_array(array: ArrayLike, name: str = "An array") -> Array:
    """Return `to_numpy` of an array of real numbers, as every backend takes.

    Raises:
        ValueError: If it holds anything else, such as text, dates, complex
            numbers or objects.
    """
    values = to_numpy(array, name)
    if not is_number(values.dtype):
        received = f"dtype={values.dtype}"
        if values.ndim == 0:
            received = f"a {type(array).__name__}"
        raise ValueError(f"{name} must hold numbers. Received: {received}")
    # PyTorch has no uint64, and no backend more than 64 bits.
    if values.dtype.name == "uint64" or values.dtype.itemsize > 8:
        return values.astype("float64")
    return values


def is_number(dtype: DType) -> bool:
    """Whether a NumPy dtype is one of real numbers, bfloat16 among them."""
    return dtype.kind in "biuf" or dtype.name.startswith(("bfloat", "float"))


def _is_sparse_or_ragged(array: ArrayLike) -> bool:
    names = ("SparseTensor", "RaggedTensor", "IndexedSlices")
    return (
        hasattr(array, "todense")  # SciPy, JAX
        or type(array).__name__ in names  # TensorFlow
        or str(getattr(array, "layout", "")).startswith("torch.sparse")
        or getattr(array, "is_nested", False) is True  # PyTorch
    )


# -- Paths ------------------------------------------------------------------


def as_path(name: str, value: Any) -> pathlib.Path:
    """Return a path that a user gave, or say which argument is none."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ValueError(f"`{name}` must be a path. Received: {name}={value!r}")
    return pathlib.Path(value)


# -- Tables ------------------------------------------------------------------


def is_labelled(value: ArrayLike) -> bool:
    """Whether it is a data frame or a series, whose rows have labels."""
    return hasattr(value, "iloc") and hasattr(value, "index")


def _table_values(table: Frame, name: str) -> Array:
    """Numbers of a data frame or a series; what is not there becomes NaN."""
    dtypes = list(table.dtypes) if table.ndim == 2 else [table.dtype]
    kinds = {getattr(dtype, "kind", "O") for dtype in dtypes}
    if table.ndim == 2 and not kinds <= set("biuf"):
        text = {
            str(column): str(dtype)
            for column, dtype in zip(table.columns, dtypes, strict=True)
            if getattr(dtype, "kind", "O") not in "biuf"
        }
        raise ValueError(
            f"{name} must hold numbers in every column. Received: {text}"
        )
    plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
    if plain or not kinds <= set("biuf"):
        return np.asarray(table)
    if np.asarray(table.isna()).any():
        return np.asarray(table.to_numpy(dtype="float64", na_value=np.nan))
    whole = "bool" if kinds == {"b"} else "int64"
    return np.asarray(
        table.to_numpy(dtype="float64" if "f" in kinds else whole)
    )


def check_rows_agree(values: Mapping[str, Any]) -> None:
    """Refuse tables whose rows have different labels.

    Rows are joined by position, which is wrong where labels say otherwise.

    Args:
        values: What a message calls it -> an array, a table, a structure of
            them, or `None`. Only tables have labels.
    """
    first: tuple[str, Any] | None = None
    for name, value in values.items():
        for table in filter(is_labelled, keras.tree.flatten(value)):
            if first is None:
                first = name, table.index
            elif len(table) == len(first[1]) and not table.index.equals(
                first[1]
            ):
                raise ValueError(
                    f"{first[0]} and {name} must have the same row labels in "
                    "the same order, since rows are joined by position: align "
                    "them by `.loc`, or pass `.to_numpy()` if they are. "
                    f"Received: {list(first[1][:3])}... and "
                    f"{list(table.index[:3])}..."
                )


def column_labels(inputs: DataSource) -> dict[str, list[str]]:
    """Return the names of the columns of each modality that has such."""
    if not isinstance(inputs, Mapping):
        return {}
    return {
        name: list(value.columns)
        for name, value in inputs.items()
        if name != MASK
        and is_labelled(value)
        and all(isinstance(c, str) for c in getattr(value, "columns", [0]))
    }


def check_columns(
    received: Mapping[str, Sequence[str]], expected: Mapping[str, Sequence[str]]
) -> None:
    """Refuse tables whose columns are named otherwise than before.

    Args:
        received: What `column_labels` gives for data.
        expected: What it gave for the training data.
    """
    for name, columns in received.items():
        if name in expected and columns != list(expected[name]):
            pairs = zip(columns, expected[name], strict=False)
            place = next(
                (i for i, (own, other) in enumerate(pairs) if own != other),
                min(len(columns), len(expected[name])),
            )
            raise ValueError(
                f"Modality '{name}' must have the columns that the model was "
                "trained with, in their order. Received: "
                f"{columns[place:][:1]} in the place of "
                f"{list(expected[name])[place:][:1]}"
            )


def _check_orders(inputs: Modalities, y: Labels, names: Sequence[str]) -> None:
    """Refuse a mask or one-hot rows whose columns are named otherwise."""
    mask = inputs.get(MASK) if isinstance(inputs, Mapping) else None
    columns = list(getattr(mask, "columns", ())) if is_labelled(mask) else []
    if any(isinstance(c, str) for c in columns) and columns != list(names):
        raise ValueError(
            f"'{MASK}' must have the columns {list(names)}, in this order. "
            f"Received: {columns}"
        )
    columns = list(getattr(y, "columns", ())) if is_labelled(y) else []
    whole = all(isinstance(c, int | np.integer) for c in columns)
    if whole and columns != sorted(columns):
        raise ValueError(
            "One-hot `y` must have its columns in the order of the classes. "
            f"Received: {columns}"
        )


def read_tables(
    inputs: DataSource,
    y: Labels = None,
    sample_weight: Tensor = None,
    names: Sequence[str] = (),
) -> tuple[DataSource, Labels, Tensor]:
    """Return in-memory data as arrays that every backend takes.

    Tensors and plain arrays stay as they are, without a copy. Pipelines and
    what is no dict are returned untouched.

    Args:
        inputs: Dict of modality name -> array, tensor or table.
        y: Labels, `None` or a table of them. A column becomes a row.
        sample_weight: Weights, `None` or a series of them.
        names: Names of the modalities, in the order of the mask's columns.

    Raises:
        ValueError: If the rows or columns of tables have labels that do not
            agree, or something is not dense or holds no numbers.
    """
    titles = {
        name: f"'{name}'" if name == MASK else f"Modality '{name}'"
        for name in (inputs if isinstance(inputs, Mapping) else ())
    }
    named = {title: inputs[name] for name, title in titles.items()}
    mask = named.get(f"'{MASK}'")
    if isinstance(mask, list | tuple):
        raise ValueError(
            f"'{MASK}' must be an array or a tensor. Received: "
            f"{type(mask).__name__}"
        )
    check_rows_agree({**named, "`y`": y, "`sample_weight`": sample_weight})
    if isinstance(inputs, Mapping):
        _check_orders(inputs, y, names or [n for n in inputs if n != MASK])
        inputs = {
            name: keras.tree.map_structure(
                lambda v, title=titles[name]: _fed(v, title), value
            )
            for name, value in inputs.items()
        }
    return inputs, _fed_labels(y), _fed(sample_weight, "`sample_weight`")


def _fed(value: Any, name: str) -> Any:
    """What Keras is fed with instead of a value, mostly the value itself."""
    if value is None or isinstance(value, list | tuple | str | int | float):
        # Refused by name where it does not belong.
        return value
    if ops.is_tensor(value) and not _is_sparse_or_ragged(value):
        return value
    array = number_array(value, name)
    if array.ndim and array.strides and min(array.strides) < 0:
        array = np.ascontiguousarray(array)
    return array


def _fed_labels(y: Labels) -> Labels:
    if isinstance(y, Mapping):
        raise ValueError(
            "`y` must be one array of labels, which all outputs share. "
            f"Received: a dict of {list(y)}"
        )
    if y is None or isinstance(y, list | tuple):
        return y
    if not ops.is_tensor(y) or _is_sparse_or_ragged(y):
        y = to_numpy(y, "`y`")
        if y.dtype.kind in "u" and y.dtype.itemsize > 1:
            # PyTorch has no large unsigned integers to speak of.
            if y.size and y.max() > np.iinfo("int64").max:
                raise ValueError(
                    "`y` must hold class numbers in [0, 2**63). Received: "
                    f"values from {y.min()} to {y.max()}"
                )
            y = y.astype("int64")
    return y[:, 0] if len(y.shape) == 2 and y.shape[1] == 1 else y


def known_values(tensor: Tensor) -> Array | None:
    """Values of a tensor, or `None` in a step that is being compiled."""
    if upstream.in_symbolic_scope():
        return None
    try:
        return to_numpy(tensor)
    # Every backend says in its own way that there are no values yet.
    except Exception:
        return None


def one_hot_labels(y: Labels, num_classes: int) -> Tensor:
    """Turn integer or one-hot labels into `(batch, classes)` in float32.

    Labels of shape `(batch,)` or `(batch, 1)` are class numbers; labels of
    shape `(batch, num_classes)` are (soft) one-hot rows and pass through. A
    number that is no class gives a row of zeros.
    """
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 2 and y.shape[1] == num_classes:
        return ops.convert_to_tensor(y, "float32")
    if len(y.shape) == 2 and y.shape[1] == 1:
        y = ops.squeeze(y, axis=1)
    if len(y.shape) != 1:
        raise ValueError(
            "`y` must be class numbers of shape (batch,) or one-hot rows of "
            f"shape (batch, {num_classes}). Received: y.shape={tuple(y.shape)}"
        )
    # Unlike `one_hot` this is the same everywhere for what is no class.
    classes = ops.arange(num_classes, dtype="int32")
    return ops.cast(
        ops.convert_to_tensor(y, "int32")[:, None] == classes, "float32"
    )


def class_numbers(y: Labels, num_classes: int) -> Tensor:
    """Turn integer or one-hot labels into class numbers `(batch,)`."""
    return ops.argmax(one_hot_labels(y, num_classes), axis=-1)


def check_labels(
    y: Labels,
    num_classes: int,
    samples: int | None = None,
    soft: bool = False,
    rows: int | None = None,
) -> Array:
    """Return the class number of every sample, `(samples,)` in int64.

    Args:
        y: Class numbers `(samples,)` or `(samples, 1)`, or one-hot rows
            `(samples, num_classes)`.
        num_classes: Number of classes.
        samples: Number of samples that the inputs hold, or `None`.
        soft: Whether rows may be soft: not negative, with a sum of 1.
        rows: Number of the first labels that are looked at and returned, or
            `None` for all.

    Raises:
        ValueError: If `y` holds anything else.
    """
    if isinstance(y, list | tuple):
        raise ValueError(
            f"`y` must be an array or a tensor. Received: {type(y).__name__}"
        )
    whole = y if rows else to_numpy(y, "`y`")
    count = [*np.shape(whole), 0][0]
    if samples is not None and count != samples:
        raise ValueError(
            "`y` must have one label a sample. Received: "
            f"{count} labels for {samples} samples"
        )
    y = rows_to_numpy(whole, slice(rows), "`y`") if rows else whole
    if y.ndim == 2 and y.shape[1] != 1:
        _check_rows(y, num_classes, soft)
        return y.argmax(axis=1).astype("int64")
    if y.ndim not in (1, 2) or y.dtype.kind not in "iub":
        raise ValueError(
            "`y` must hold integer class numbers of shape (n,) or one-hot "
            f"rows of shape (n, {num_classes}). Received: y.dtype={y.dtype}, "
            f"y.shape={y.shape}"
        )
    if y.size and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"`y` must hold class numbers in [0, {num_classes}). "
            f"Received: values from {y.min()} to {y.max()}"
        )
    return y.reshape(-1).astype("int64")


def _check_rows(y: Array, num_classes: int, soft: bool) -> None:
    if y.shape[1] != num_classes:
        raise ValueError(
            f"One-hot `y` must have {num_classes} columns. Received: "
            f"y.shape={y.shape}"
        )
    if (
        y.dtype.kind not in "iubf"
        or not np.isfinite(y).all()
        or (y < 0).any()
        or not np.allclose(y.sum(axis=1), 1.0, atol=1e-3)
    ):
        raise ValueError(
            "One-hot `y` must hold non-negative rows that sum to 1. "
            f"Received: y.dtype={y.dtype}, with rows that do not"
        )
    if not soft and not np.isin(y, (0, 1)).all():
        raise ValueError(
            "One-hot `y` must hold rows of zeros and a single one. Received: "
            "soft rows"
        )


# -- Modalities --------------------------------------------------------------


def modality_arrays(inputs: Modalities) -> dict[str, Any]:
    """Return the inputs without their mask and quality."""
    return {n: v for n, v in inputs.items() if n not in (MASK, QUALITY)}


def parts_of(value: Any) -> dict[str, Array]:
    """Return the arrays of a modality by name, `""` for the only one."""
    return dict(value) if isinstance(value, Mapping) else {"": value}


def map_parts(function: Callable[[Array], Any], value: Any) -> Any:
    """Apply a function to the array of a modality, or to each of a dict."""
    if isinstance(value, Mapping):
        return {name: function(array) for name, array in value.items()}
    return function(value)


def rows_of(inputs: Mapping[str, Any], rows: Array | slice) -> dict[str, Any]:
    """Return some samples of arrays, or dicts of arrays, by name."""
    return {
        name: map_parts(lambda array: array[rows], value)
        for name, value in inputs.items()
    }


def check_mask_values(mask: Tensor) -> Array:
    """Return the mask as booleans if it holds only 0 and 1."""
    values = to_numpy(mask)
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"'{MASK}' must hold only 0 (missing) and 1 (present). Received: "
            f"values {np.unique(values)[:5].tolist()}"
        )
    return values.astype(bool)
