"""Predictions as they are kept: all that any score may be computed of."""

import dataclasses
import io
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_mmrel.benchmark._files import read_arrays
from keras_mmrel.contract import Array
from keras_mmrel.evaluation import Predictions
from keras_mmrel.evaluation import Score
from keras_mmrel.evaluation.predictions import RETURNED

# All but the first two where a model returns them.
FLOATING = ("probabilities", "log_probabilities", *RETURNED)
CONDITION = ("corruption", "severity", "seed")


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a model predicted on the test part of a run.

    Args:
        corruption: Name of the corruption of each condition.
        severity: Its severity.
        seed: Seed of its draw.
        rows: Numbers of the test samples in the whole data set.
        arrays: `probabilities`, `(conditions, samples, classes)`, `labels`,
            and what `Predictions` have beside them.
        modality_names: Names of the modalities; `None` where probabilities
            and labels are all that is kept.
    """

    corruption: Sequence[str]
    severity: Sequence[float]
    seed: Sequence[int]
    rows: Array
    arrays: dict[str, Array]
    modality_names: Sequence[str] | None

    @property
    def labels(self) -> Array:
        return self.arrays["labels"]

    @property
    def is_whole(self) -> bool:
        """Whether there is more than probabilities and labels."""
        return self.modality_names is not None

    def predictions(self, condition: int, bins: int) -> Predictions:
        """Return what a `Score` gets."""
        outputs = {
            name: self.arrays[name][condition].astype("float64")
            for name in FLOATING
            if name in self.arrays
        }
        if "corrupted" in self.arrays and self.arrays["hidden"][condition]:
            outputs["corrupted"] = self.arrays["corrupted"][condition]
        return Predictions(
            labels=self.labels,
            present=self.arrays.get("present"),
            modality_names=self.modality_names or (),
            bins=bins,
            **outputs,
        )


class Keeper:
    """A `Score` that remembers what it is asked about."""

    name = "kept_predictions"

    def __init__(self) -> None:
        self.seen: list[Predictions] = []

    def score(self) -> Score:
        return Score(self.name, self._keep, None, needs=())

    def _keep(self, predictions: Predictions) -> float:
        # At once in the precision of a model: there are many conditions.
        outputs = {
            name: getattr(predictions, name).astype("float32")
            for name in FLOATING
            if getattr(predictions, name) is not None
        }
        self.seen.append(dataclasses.replace(predictions, **outputs))
        return 0.0

    def kept(self, scores: Mapping[str, list], rows: Array) -> Kept:
        """Return what was seen, in the precision of a model.

        Args:
            scores: Columns that say what the conditions are.
            rows: Numbers of the test samples.
        """
        clean = self.seen[0]
        arrays = {
            name: np.stack([getattr(p, name) for p in self.seen])
            for name in FLOATING
            if getattr(clean, name) is not None
        }
        arrays["labels"] = clean.labels
        if clean.present is not None:
            arrays["present"] = np.asarray(clean.present, bool)
        hidden = [p.corrupted is not None for p in self.seen]
        if any(hidden):
            nothing = np.zeros((len(rows), len(clean.modality_names)), bool)
            arrays["hidden"] = np.array(hidden)
            arrays["corrupted"] = np.stack(
                [
                    nothing if p.corrupted is None else p.corrupted
                    for p in self.seen
                ]
            )
        return Kept(
            **{name: scores[name] for name in CONDITION},
            rows=rows,
            arrays=arrays,
            modality_names=list(clean.modality_names),
        )


def pack(kept: Kept) -> bytes:
    """Return a `.npz` file."""
    file = io.BytesIO()
    whole = {"modality_names": np.array(kept.modality_names, dtype=str)}
    np.savez_compressed(
        file,
        allow_pickle=False,
        corruption=np.array(kept.corruption, dtype=str),
        severity=np.asarray(kept.severity, float),
        seed=np.asarray(kept.seed),
        rows=kept.rows,
        **kept.arrays,
        **(whole if kept.is_whole else {}),
    )
    return file.getvalue()


def unpack(path: Path) -> Kept:
    """Read what `pack` made.

    Raises:
        ValueError: If the file is damaged.
    """
    try:
        return _unpacked(read_arrays(path))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be the whole file that `run` wrote; without any "
            "file there is no error over test samples. Received: "
            f"{error!r}"
        ) from error


def _unpacked(arrays: dict[str, Array]) -> Kept:
    conditions = len(arrays["corruption"])
    shape = (conditions, len(arrays["labels"]))
    if arrays["probabilities"].shape[:2] != shape:
        raise ValueError(
            f"probabilities of shape {arrays['probabilities'].shape} for "
            f"{shape[0]} conditions of {shape[1]} samples"
        )
    names = arrays.pop("modality_names", None)
    return Kept(
        arrays.pop("corruption").tolist(),
        arrays.pop("severity").tolist(),
        arrays.pop("seed").tolist(),
        arrays.pop("rows"),
        arrays,
        None if names is None else names.tolist(),
    )
