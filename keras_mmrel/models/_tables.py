"""Data frames, series and odd arrays in `fit` and its like."""

import functools
import inspect
from collections.abc import Callable
from typing import Any
from typing import TypeVar

from keras_mmrel.contract import check_columns
from keras_mmrel.contract import column_labels
from keras_mmrel.contract import read_tables

Method = TypeVar("Method", bound=Callable)


def reads_tables(method: Method) -> Method:
    """Let a method of a model take tables: see `contract.read_tables`.

    `fit` remembers the names of the columns; every method refuses others.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        given = bound.arguments
        names = self.modality_names
        known = self.modality_inputs.columns
        columns = column_labels(given.get("x"))
        check_columns(columns, known)
        held = given.get("validation_data")
        if isinstance(held, list | tuple) and len(held) in (2, 3):
            check_columns(column_labels(held[0]), {**known, **columns})
            x, y, weight = [*held, None][:3]
            parts = read_tables(x, y, weight, names)
            given["validation_data"] = parts[: len(held)]
        # Where a signature ends in `**kwargs`, a weight may be there.
        places = [given, given.get("kwargs", {})]
        keys = ("x", "y", "sample_weight")
        x, y, weight = (
            next((p[k] for p in places if k in p), None) for k in keys
        )
        parts = read_tables(x, y, weight, names)
        for key, value in zip(keys, parts, strict=True):
            for place in places:
                if key in place:
                    place[key] = value
        if method.__name__ == "fit":
            self.modality_inputs.columns = {**known, **columns}
        try:
            return method(*bound.args, **bound.kwargs)
        except ValueError:
            # Nothing was learnt from refused data.
            self.modality_inputs.columns = known
            raise

    return call  # type: ignore[return-value]


def read_tables_in(*methods: str) -> Callable:
    """Let methods of a class take tables, each by `reads_tables`."""

    def decorate(cls: type) -> type:
        for name in methods:
            setattr(cls, name, reads_tables(vars(cls)[name]))
        return cls

    return decorate
