"""Errors over seeds and test samples, as a folder keeps them."""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import NamedTuple

from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._whole import write_whole


class Pair(NamedTuple):
    """What an error is of: a method, or its difference to another one."""

    dataset: str
    regime: str
    method: str
    other: str | None
    runs: str

    @classmethod
    def of(cls, runs: Sequence[Run], method: str, other: str | None) -> "Pair":
        """Return the pair of some runs, which it tells from any others."""
        made = [(r.job.id, r.data, r.environment, r.seconds) for r in runs]
        crc = zlib.crc32(json.dumps(sorted(made)).encode())
        job = runs[0].job
        return cls(job.dataset, job.regime, method, other, f"{crc:08x}")


class SamplingErrors:
    """What was computed of predictions that may be somewhere else by now.

    Args:
        path: File; it need not be there.

    Raises:
        ValueError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[Pair, dict[str, dict[str, float]]] = {}
        if not path.exists():
            return
        try:
            for record in json.loads(path.read_text("utf-8")):
                errors = record.pop("errors")
                self._known[Pair(**record)] = errors
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} must be the whole file that `report` wrote. "
                f"Received: {error!r}"
            ) from error

    def get(self, pair: Pair, score: str, corruption: str) -> float | None:
        """Return a known error, `None` if there is none."""
        return self._known.get(pair, {}).get(score, {}).get(corruption)

    def add(
        self, pair: Pair, score: str, corruption: str, error: float
    ) -> None:
        """Remember an error, if it is one."""
        if math.isfinite(error):
            scores = self._known.setdefault(pair, {})
            scores.setdefault(score, {})[corruption] = float(f"{error:.5g}")

    def write(self) -> None:
        """Write the file, if there is anything to write."""
        records: list[dict[str, Any]] = [
            {**pair._asdict(), "errors": errors}
            for pair, errors in self._known.items()
        ]
        if records:
            lines = ",\n".join(map(json.dumps, records))
            write_whole(self.path, f"[\n{lines}\n]\n".encode())
