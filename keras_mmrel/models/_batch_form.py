"""Every batch of a pipeline is like the first one.

Keras draws batches where nobody looks at them any more: a later one with
other modalities, rows or forms would fail inside a framework, or be read in
the wrong order. Each batch that is drawn on the host (of a `PyDataset`, a
`DataLoader`, an iterator) is checked here; a `tf.data.Dataset` has the same
structure throughout. What is wrong with values is counted in the step, by
`BatchWatch`.
"""

import contextlib
import copy
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.absent import with_absent
from keras_mmrel.contract import MASK
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import check_columns
from keras_mmrel.contract import column_labels
from keras_mmrel.contract import read_tables
from keras_mmrel.models import pipelines
from keras_mmrel.models import validation
from keras_mmrel.models.token_numbers import TokenNumbers


class BatchForm:
    """What each batch of a pipeline must look like: as the first does.

    It holds no model, so that processes that draw batches can have a copy.

    Args:
        names: Modalities, in the order of the mask's columns.
        shapes: As in `validation.check_structure`.
        side_names: Inputs beside them.
        columns: Names of the columns of the training data's tables.
        tokens: What modalities of tokens may hold.
    """

    def __init__(
        self,
        names: Sequence[str],
        shapes: validation.Shapes,
        side_names: Sequence[str] = (),
        columns: Mapping[str, Sequence[str]] | None = None,
        tokens: TokenNumbers | None = None,
    ) -> None:
        self.names = list(names)
        self.shapes = dict(shapes)
        self.side_names = list(side_names)
        self.columns = dict(columns or {})
        self.tokens = tokens or TokenNumbers({})
        self.parts: list[str] = []
        self.fills = False
        # What was raised while a batch was drawn. TensorFlow would make it
        # one of its own, of many lines.
        self.errors: list[Exception] = []

    def of_another_source(self, fills: bool = False) -> "BatchForm":
        """Return one that knows no first batch, and keeps errors with this.

        Args:
            fills: Whether a modality that is not in a batch is a missing one.
        """
        form = copy.copy(self)
        form.parts = []
        form.fills = fills
        return form

    def read(self, batch: Any) -> Any:
        """Return a batch with arrays in the place of tables.

        Raises:
            ValueError: If it is not like the first one.
        """
        x, y, sample_weight = pipelines.unpacked(batch)
        columns = column_labels(x)
        check_columns(columns, self.columns)
        x, y, sample_weight = read_tables(x, y, sample_weight, self.names)
        if self.fills:
            x = with_absent(x, self.shapes)
        self._check(x, y, sample_weight)
        self.columns = {**columns, **self.columns}
        if not isinstance(batch, list | tuple):
            return x
        return (x, y, sample_weight)[: len(batch)]

    def _check(self, x: Any, y: Labels, sample_weight: Any) -> None:
        plain = x
        if isinstance(x, Mapping):
            plain = {k: v for k, v in x.items() if k not in self.side_names}
        validation.check_structure(plain, self.shapes)
        validation.check_order(plain, self.names)
        self.tokens.check(plain)
        rows = np.shape(keras.tree.flatten(plain[self.names[0]])[0])[0]
        self._check_parts(x, y, sample_weight)
        for name in self.side_names:
            shape = tuple(np.shape(x.get(name)))
            if x.get(name) is not None and shape not in ((rows,), (rows, 1)):
                raise ValueError(
                    f"'{name}' must hold one value a sample, of shape "
                    f"({rows},). Received: shape={shape}"
                )
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            shape = tuple(np.shape(value))
            if value is not None and shape[:1] != (rows,):
                raise ValueError(
                    f"`{name}` must have one row a sample, {rows}. Received: "
                    f"shape={shape}"
                )

    def _check_parts(self, x: Any, y: Labels, sample_weight: Any) -> None:
        parts = [k for k in (*self.names, MASK, *self.side_names) if k in x]
        if y is not None:
            parts.append(_form_of("y", y))
        if sample_weight is not None:
            parts.append(_form_of("sample_weight", sample_weight))
        self.parts = self.parts or parts
        if parts != self.parts:
            raise ValueError(
                f"Every batch must hold what the first one does, {self.parts}. "
                f"Received: {parts}"
            )

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is raised inside."""
        try:
            yield
        except Exception as error:
            self.errors.append(error)
            raise

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raise what was kept, whatever a framework has made of it."""
        try:
            yield
        except Exception as error:
            if self.errors and error is not self.errors[0]:
                raise self.errors[0] from None
            raise


def _form_of(name: str, value: Any) -> str:
    """What is to be the same of labels or weights in all batches."""
    if not hasattr(value, "dtype"):
        return f"{name} as a {type(value).__name__}"
    if len(np.shape(value)) > 1:
        return f"{name} as rows"
    kind = getattr(value.dtype, "kind", "") or str(value.dtype)
    if kind in "OSU":
        return f"{name} as text"
    floats = kind == "f" or "float" in kind
    return "y as floats" if name == "y" and floats else name


class ReadDataset(keras.utils.PyDataset):
    """A `PyDataset`, each batch of which is read by a `BatchForm`."""

    def __init__(self, source: keras.utils.PyDataset, form: BatchForm) -> None:
        super().__init__(
            workers=source.workers,
            use_multiprocessing=source.use_multiprocessing,
            max_queue_size=source.max_queue_size,
        )
        self.source = source
        self.form = form
        self.class_names = getattr(source, "class_names", None)

    def __getitem__(self, index: int) -> Any:
        with self.form.kept():
            return self.form.read(self.source[index])

    @property
    def num_batches(self) -> int | None:
        return self.source.num_batches

    def on_epoch_begin(self) -> None:
        self.source.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.source.on_epoch_end()


def _read_iterator(source: Iterator, form: BatchForm, check: Any) -> Iterator:
    """Pass an iterator on, as the generator that Keras takes.

    Args:
        source: Iterator of what `fit` takes.
        form: What each batch must look like.
        check: Function of `(x, y, sample_weight)`, for the first one, which
            Keras draws before the first step.
    """
    with form.kept():
        batch = None
        for index, batch in enumerate(source):
            batch = form.read(batch)
            if index == 0:
                check(*pipelines.unpacked(batch))
            yield batch if isinstance(batch, tuple) else (batch,)
        if batch is None:
            raise ValueError(
                "Inputs must hold at least one sample. Received: an empty "
                "dataset"
            )


def _read_loader(loader: Any, form: BatchForm) -> Any:
    """Return a `DataLoader` like another one, whose batches are checked.

    Keras takes it for one by its class, and it may be of one of the user's.
    """
    kind: Any = type(loader)

    class ReadLoader(kind):
        def __iter__(self) -> Iterator:
            for batch in kind.__iter__(self):
                with form.kept():
                    form.read(batch)
                yield batch

    loader = copy.copy(loader)
    loader.__class__ = ReadLoader
    return loader


def read_by(
    data: DataSource, form: BatchForm, check: Any, fills: bool = False
) -> DataSource:
    """Return a data source whose batches are read by `form`.

    Args:
        data: A data source. Data in memory are returned as they are, and what
            has one structure throughout.
        form: What each batch must look like.
        check: Function of `(x, y, sample_weight)`, for the first batch of an
            iterator, which nobody has seen before.
        fills: Whether a modality that is not in a batch is a missing one.
    """
    if isinstance(data, ReadDataset) or not pipelines.is_pipeline(data):
        return data
    form = form.of_another_source(fills and pipelines.is_rewritten(data))
    if pipelines.is_iterator(data):
        return _read_iterator(data, form, check)
    if isinstance(data, keras.utils.PyDataset):
        return ReadDataset(data, form)
    if hasattr(data, "collate_fn"):
        return _read_loader(data, form)
    return data
