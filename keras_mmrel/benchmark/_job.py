"""One run of a comparison."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

from keras_mmrel.benchmark._names import file_stem


@dataclasses.dataclass(frozen=True)
class Job:
    """What a run is of; `fold` is `None` where data have no folds."""

    # A number; of a choice that all seeds share, a text.
    seed: Any
    dataset: str
    fold: Any
    regime: str
    method: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Job":
        """Return the job of a record."""
        return cls(*(record[f.name] for f in dataclasses.fields(cls)))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def id(self) -> str:
        """A name for files: readable, and no other run's."""
        names = [self.dataset, self.regime, self.method, str(self.seed)]
        names += [] if self.fold is None else [str(self.fold)]
        crc = zlib.crc32(repr((*names, self.fold)).encode())
        return f"{file_stem('-'.join(names))}-{crc:08x}"
