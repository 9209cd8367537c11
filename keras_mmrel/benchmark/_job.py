"""One run of a comparison."""

import dataclasses
import re
import zlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Job:
    """What a run is of; `fold` is `None` where data have no folds."""

    seed: int
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
        text = re.sub(r"\W+", "_", "-".join(names)).strip("_").lower()
        return f"{text[:80]}-{crc:08x}"
