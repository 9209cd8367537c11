"""The data of a diagnosis, as they were given."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mmrel.contract import Array


@dataclasses.dataclass(frozen=True)
class Table:
    """Modalities and labels as read, with all their faults.

    Args:
        name: What the data are called.
        x: Modality name -> floating array `(samples, ...)`, NaN for what is
            not a number.
        y: Labels `(samples,)` of any kind.
        columns: Modality name -> names of its features, where there are any.
        mask: Boolean `(samples, modalities)`, what is announced as present;
            `None` for all.
        groups: Rows of one group must not be parted; `None` if none are.
        test: Boolean `(samples,)`, the test part of the data's own; `None`
            if there is none.
        ids: Names of the samples, `None` for their numbers.
    """

    name: str
    x: Mapping[str, Array]
    y: Array
    columns: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    mask: Array | None = None
    groups: Array | None = None
    test: Array | None = None
    ids: Array | None = None

    @property
    def samples(self) -> int:
        return len(self.y)

    def flat(self, modality: str) -> Array:
        """Return a modality as `(samples, features)`."""
        values = self.x[modality]
        return values.reshape(len(values), -1)

    def column(self, modality: str, place: int) -> str:
        """Return what a feature is called."""
        names = self.columns.get(modality)
        return names[place] if names else str(place)

    def row(self, number: int) -> str:
        """Return what a sample is called."""
        return str(number) if self.ids is None else str(self.ids[number])

    def take(self, rows: Array) -> "Table":
        """Return some of the rows."""
        parts: dict[str, Any] = {
            name: None
            if getattr(self, name) is None
            else getattr(self, name)[rows]
            for name in ("y", "mask", "groups", "test", "ids")
        }
        x = {name: values[rows] for name, values in self.x.items()}
        return dataclasses.replace(self, x=x, **parts)


def floating(values: Array) -> Array:
    """Numbers as float32, NaN for what is too large."""
    with np.errstate(over="ignore"):
        return values.astype("float32")
