"""The folder of a comparison: its config, runs and their predictions."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_mmrel.benchmark import _kept
from keras_mmrel.benchmark._claims import Claims
from keras_mmrel.benchmark._job import Job
from keras_mmrel.benchmark._recorded import Recorded
from keras_mmrel.benchmark._records import Added
from keras_mmrel.benchmark._records import Record
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._records import Tried
from keras_mmrel.benchmark._sampling import SamplingErrors
from keras_mmrel.benchmark._whole import sweep
from keras_mmrel.benchmark._whole import write_whole
from keras_mmrel.benchmark._whole import writing
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.contract import Frame
from keras_mmrel.user_warning import warn

RUNS = "runs.jsonl"
CONFIG = "config.json"
CLAIMS = "claims"
ERRORS = "errors.json"
PREDICTIONS = "predictions"
# How a run's data were split.
PUBLISHED, RESAMPLED = "published", "resampled"
SHARED = ("training", "tuning", "evaluation")
NAMED = ("datasets", "methods", "regimes")
RECORDS: dict[str, type[Record]] = {c.kind: c for c in (Run, Tried, Added)}


class Store:
    """Finished runs in a folder, never lost and never repeated.

    Args:
        folder: Made by `open` if it is not there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RUNS
        self.claims = Claims(self.folder / CLAIMS)
        self._known: tuple[int, list[Record], dict] = (-1, [], {})

    # -- The comparison ------------------------------------------------------

    def open(self, comparison: Comparison) -> Comparison:
        """Take a comparison, which may add to the one that is there.

        Returns:
            All that either of them has.

        Raises:
            ValueError: If the folder holds runs of another one.
            OSError: If the folder cannot be written to.
        """
        # What is wrong is found before anything is made.
        self.joined(comparison)
        with writing(self.folder):
            (self.folder / CLAIMS).mkdir(parents=True, exist_ok=True)
            with self._locked():
                merged = self.joined(comparison)
                text = json.dumps(merged.to_dict(), indent=1) + "\n"
                path = self.folder / CONFIG
                if not path.exists() or path.read_text("utf-8") != text:
                    write_whole(path, text.encode())
        return merged

    def joined(self, comparison: Comparison) -> Comparison:
        """Return what `open` returns, and leave the folder as it is."""
        known = self.comparison()
        if known is not None:
            return _joined(known, comparison, self.folder)
        if self.path.exists():
            raise ValueError(
                f"`folder` must hold runs of this comparison. Received: "
                f"{self.folder} with runs and without {CONFIG}"
            )
        return comparison

    def comparison(self) -> Comparison | None:
        """Return the comparison of the folder, if there is one.

        What only somebody's code can make is a name there.
        """
        path = self.folder / CONFIG
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text("utf-8"))
            return Comparison.from_dict(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} must be the whole file that `run` wrote. Received: "
                f"{error!r}"
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time, whatever has become of the last one."""
        while True:
            with self.claims.claim("config") as held:
                if held:
                    yield
                    return
            time.sleep(0.05)

    # -- Lines ---------------------------------------------------------------

    def runs(self) -> list[Run]:
        """Return every run once, with the scores that were added to it.

        It is the first, if two commands did the same work.
        """
        runs: dict[Job, Run] = {}
        added = []
        for record in self._read()[0]:
            if isinstance(record, Run):
                runs.setdefault(record.job, record)
            elif isinstance(record, Added):
                added.append(record)
        for record in added:
            if record.job in runs:
                runs[record.job] = runs[record.job].with_scores(record)
        return list(runs.values())

    def added(self) -> list[Added]:
        """Return the scores that were computed later."""
        return [r for r in self._read()[0] if isinstance(r, Added)]

    def tried(self) -> list[Tried]:
        """Return what inner parts said of candidates."""
        return [r for r in self._read()[0] if isinstance(r, Tried)]

    def environments(self) -> dict[str, dict[str, Any]]:
        """Return id -> the versions that it stands for."""
        return self._read()[1]

    def _read(self) -> tuple[list[Record], dict]:
        if not self.path.exists():
            return [], {}
        # What others have added since.
        size = self.path.stat().st_size
        if size != self._known[0]:
            self._known = (size, *self._parse())
        return self._known[1:]

    def _parse(self) -> tuple[list[Record], dict]:
        """Read all whole lines; one that was cut off is named."""
        records: list[Record] = []
        environments, cut = {}, []
        lines = self.path.read_bytes().decode(errors="replace").split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if record["kind"] == "environment":
                    environments[record["id"]] = record
                else:
                    records.append(RECORDS[record["kind"]].of(record))
            except (ValueError, KeyError, TypeError, AttributeError):
                cut.append(number)
        if cut:
            warn(
                f"{self.path} has lines that are no whole run, {cut}; they "
                "are left out, and `run` repeats them."
            )
        return records, environments

    def add(self, record: Record | dict[str, Any]) -> None:
        """Append one line, on the disk when this returns.

        Raises:
            OSError: If it is not there as a whole.
        """
        content = record.to_dict() if isinstance(record, Record) else record
        line = (json.dumps(content, allow_nan=False) + "\n").encode()
        with (
            writing(self.folder),
            self.path.open("a+b", buffering=0) as file,
        ):
            # What a kill has cut off must not spoil this line.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            # In one piece: others may add lines at the same moment.
            written = file.write(line)
            os.fsync(file.fileno())
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes of a run fitted")

    # -- Predictions ---------------------------------------------------------

    def add_predictions(self, job: Job, kept: _kept.Kept) -> None:
        """Keep what a model has predicted, whole or not at all."""
        path = self.predictions(job)
        with writing(self.folder):
            path.parent.mkdir(exist_ok=True)
            write_whole(path, _kept.pack(kept))

    def predictions(self, job: Job) -> Path:
        """Return the path of a run's predictions."""
        return self.folder / PREDICTIONS / f"{job.id}.npz"

    def kept(self, job: Job) -> _kept.Kept | None:
        """Return a run's predictions, `None` if there are none.

        Raises:
            ValueError: If the file is damaged.
        """
        path = self.predictions(job)
        return _kept.unpack(path) if path.exists() else None

    def sampling_errors(self) -> SamplingErrors:
        """Return the errors over test samples that a report has computed."""
        return SamplingErrors(self.folder / ERRORS)

    def sweep(self) -> None:
        """Remove what killed processes have left behind."""
        self.claims.sweep()
        sweep(self.folder)


def _joined(known: Comparison, given: Comparison, folder: Path) -> Comparison:
    """Both, if what they share is the same."""
    # As it comes back from the file, whatever its names were.
    new = json.loads(json.dumps(given.to_dict()))
    old = json.loads(json.dumps(known.to_dict()))
    scores = {
        side: {s["name"]: s for s in record["evaluation"].pop("scores")}
        for side, record in (("old", old), ("new", new))
    }
    for section in SHARED:
        if old[section] != new[section]:
            raise _other(folder, section, old[section], new[section])
    for section, before, after in (
        *((key, old[key], new[key]) for key in NAMED),
        ("evaluation.scores", scores["old"], scores["new"]),
    ):
        for name, entry in after.items():
            if before.get(name, entry) != entry:
                raise _other(folder, f"{section}.{name}", before[name], entry)
    joined = given.adding(known)
    lost = [
        score.name
        for score in joined.evaluation.scores
        if isinstance(score.function, Recorded)
    ]
    if lost:
        raise ValueError(
            "`evaluation.scores` must hold the own scores that the runs in "
            f"`folder` have, so that all have the same. Received: no {lost} "
            f"for {folder}"
        )
    return joined


def _other(folder: Path, where: str, known: Any, received: Any) -> ValueError:
    return ValueError(
        f"`folder` must hold runs of this comparison; {folder} holds runs "
        f"with another `{where}`, {known}. Received: {received}"
    )


def pack(frame: Frame) -> dict[str, list]:
    """A table as columns of plain numbers, short enough for thousands."""
    return {
        name: [plain(value) for value in frame[name].tolist()]
        for name in frame.columns
    }


def plain(value: Any) -> Any:
    """Return a number as JSON takes it: five digits, and `None` for NaN."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if abs(value) < float("inf") else None
