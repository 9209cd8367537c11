"""The folder of a comparison: its config, runs and their predictions."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.benchmark._claims import Claims
from keras_mmrel.benchmark._job import Job
from keras_mmrel.contract import Array
from keras_mmrel.contract import Frame

RUNS = "runs.jsonl"
CONFIG = "config.json"
CLAIMS = "claims"
PREDICTIONS = "predictions"
SHARED = ("training", "tuning", "evaluation")
NAMED = ("datasets", "methods", "regimes")


class Store:
    """Finished runs in a folder, never lost and never repeated.

    Args:
        folder: Made by `open` if it is not there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RUNS
        self.claims = Claims(self.folder / CLAIMS)
        self._known: tuple[int, list[dict]] = (-1, [])

    def open(self, config: dict) -> None:
        """Take a config, which may add to the one that is there.

        Raises:
            ValueError: If the folder holds runs of another config.
        """
        known = self.config()
        if known is None and self.path.exists():
            raise ValueError(
                f"`folder` must hold runs of this comparison. Received: "
                f"{self.folder} with runs and without {CONFIG}"
            )
        # As it comes back from the file, whatever its names were.
        config = json.loads(json.dumps(config))
        merged = config if known is None else _merge(known, config, self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{CONFIG}.{os.getpid()}.part"
        part.write_text(json.dumps(merged, indent=1) + "\n", "utf-8")
        os.replace(part, self.folder / CONFIG)

    def config(self) -> dict | None:
        path = self.folder / CONFIG
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path} must be the whole file that `run` wrote. Received: "
                f"{error}"
            ) from error

    def read(self) -> list[dict]:
        """Return all whole records; a line that was cut off is named."""
        if not self.path.exists():
            return []
        # What others have added since.
        size = self.path.stat().st_size
        if size != self._known[0]:
            self._known = (size, self._parse())
        return self._known[1]

    def _parse(self) -> list[dict]:
        records, cut = [], []
        lines = self.path.read_bytes().decode(errors="replace").split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                record["kind"]
            except (json.JSONDecodeError, KeyError, TypeError):
                cut.append(number)
            else:
                records.append(record)
        if cut:
            warnings.warn(
                f"{self.path} has lines that are no whole run, {cut}; they "
                "are left out, and `run` repeats them.",
                stacklevel=4,
            )
        return records

    def add(self, record: dict) -> None:
        """Append one record, on the disk when this returns."""
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("a+b", buffering=0) as file:
            # What a kill has cut off must not spoil this line.
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = "\n" + line
            # In one piece: others may add lines at the same moment.
            file.write(line.encode())
            os.fsync(file.fileno())

    def add_predictions(self, job: Job, arrays: dict[str, Array]) -> None:
        """Keep what a model has predicted, whole or not at all."""
        path = self.predictions(job)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        os.replace(part, path)

    def predictions(self, job: Job) -> Path:
        """Return the path of a run's predictions."""
        return self.folder / PREDICTIONS / f"{job.id}.npz"


def finished(records: list[dict]) -> list[dict]:
    """Every run once: the first, if two commands did the same work."""
    runs: dict[Job, dict] = {}
    for record in records:
        if record["kind"] == "run":
            runs.setdefault(Job.of(record), record)
    return list(runs.values())


def _merge(known: dict, config: dict, folder: Path) -> dict:
    """Both configs, if what they share is the same."""
    for section in SHARED:
        if known[section] != config[section]:
            raise _other(folder, section, known[section], config[section])
    merged = {**config}
    for section in NAMED:
        for name, entry in config[section].items():
            if known[section].get(name, entry) != entry:
                raise _other(
                    folder, f"{section}.{name}", known[section][name], entry
                )
        merged[section] = {**known[section], **config[section]}
    merged["seeds"] = sorted({*known["seeds"], *config["seeds"]})
    return merged


def _other(folder: Path, where: str, known: Any, received: Any) -> ValueError:
    return ValueError(
        f"`folder` must hold runs of this comparison; {folder} holds runs "
        f"with another `{where}`, {known}. Received: {received}"
    )


def pack(frame: Frame) -> dict:
    """A table as columns of plain numbers, short enough for thousands."""
    return {
        name: [_plain(value) for value in frame[name].tolist()]
        for name in frame.columns
    }


def _plain(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if np.isfinite(value) else None
