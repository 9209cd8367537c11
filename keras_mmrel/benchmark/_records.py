"""Lines of a folder, typed once when they are read."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import Self

from keras_mmrel.benchmark._candidate import Candidate
from keras_mmrel.benchmark._job import Job

Columns = Mapping[str, list]  # name -> a value a condition


@dataclasses.dataclass(frozen=True)
class Record:
    """A line about a job."""

    kind: ClassVar[str]
    job: Job

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read a line.

        Raises:
            KeyError: If something is not there.
            TypeError: If something is of another type.
        """
        found = {name: record[name] for name in _names(cls)}
        if "settings" in found:
            found["settings"] = Candidate.of(found["settings"])
        return cls(job=Job.of(record), **found)

    def to_dict(self) -> dict[str, Any]:
        """Return the line, as JSON takes it."""
        values = {name: getattr(self, name) for name in _names(type(self))}
        if "settings" in values:
            values["settings"] = values["settings"].to_dict()
        return {"kind": self.kind, **self.job.to_dict(), **values}


@dataclasses.dataclass(frozen=True)
class Tried(Record):
    """What an inner part said of a candidate; NaN is `None`."""

    kind = "tuning"
    settings: Candidate
    data: str
    accuracy: float | None
    nll: float | None


@dataclasses.dataclass(frozen=True)
class Run(Record):
    """A finished run.

    Args:
        settings: What tuning has chosen.
        data: Fingerprint of the data.
        split: `"published"` or `"resampled"`.
        training_samples: Size of the training part.
        parameters: Number of trainable weights.
        seconds: Time of the training.
        scores: Columns, with a value for each condition.
        scored: Names of the scores that were asked for, whether or not the
            model returns what they need.
        probes: What probes found.
        environment: Id of the versions.
    """

    kind = "run"
    settings: Candidate
    data: str
    split: str
    training_samples: int
    parameters: int
    seconds: float
    scores: Columns
    scored: list[str]
    probes: Mapping[str, float | None]
    environment: str

    @property
    def method(self) -> str:
        return self.job.method

    @property
    def unit(self) -> str:
        """Which fold and seed it is of."""
        return f"{self.job.fold}/{self.job.seed}"

    def with_scores(self, added: "Added") -> "Run":
        """Return the run with what was computed later."""
        return dataclasses.replace(
            self,
            scores={**added.scores, **self.scores},
            scored=[*dict.fromkeys([*self.scored, *added.scored])],
        )


@dataclasses.dataclass(frozen=True)
class Added(Record):
    """Scores of a run that were computed later, of the kept predictions."""

    kind = "scores"
    scores: Columns
    scored: list[str]
    environment: str


def _names(cls: type[Record]) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.name != "job"]
