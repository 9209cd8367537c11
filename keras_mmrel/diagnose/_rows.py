"""What is compared: the rows of the engine, and what they are asked."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mmrel.benchmark import Evaluation
from keras_mmrel.benchmark import Method
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import Model
from keras_mmrel.corruptions import Corruption
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import SwappedModalities
from keras_mmrel.corruptions import UnalignedSamples
from keras_mmrel.evaluation import modality_contributions

LATE, CONCAT = "late fusion", "concat fusion"
BALANCED = "concat fusion, unimodal losses"
CONTROL = "late fusion, range control"
# Taken unless another one is clearly ahead.
DEFAULT = "ReliableFusion"
PROBABILITIES = {"average": "probabilities"}
# Arguments of each row, the simplest first: of methods that are as good, the
# first is recommended. A `Method` tries its model, which an import must not.
CANDIDATES: Mapping[str, dict[str, Any]] = {
    LATE: {"model": "LateFusion", "options": PROBABILITIES},
    CONCAT: {"model": "ConcatFusion"},
    CONTROL: {
        "model": "LateFusion",
        "options": PROBABILITIES,
        "quality": "RangeControl",
    },
    BALANCED: {
        "model": "ConcatFusion",
        "options": {"modality_loss_weight": 1.0},
    },
    "AIM": {"model": "AIM"},
    DEFAULT: {"model": "ReliableFusion"},
    "QADM-Net": {"model": "QADMNet"},
    "MICINet": {"model": "MICINet"},
}
# Rows whose encoders are asked what they know of the classes.
PROBED = (CONCAT, BALANCED)
# Deviation of the noise, in ranges of a feature.
NOISE = 0.3
# With more modalities a row without each of them takes too long.
LEFT_OUT = 6
# Pairs that are swapped, at most.
PAIRS = 6
CLEAN = "clean"
KINDS = ("noisy", "missing", "lost", "misaligned", "swapped")


def alone(modality: str) -> str:
    """Return the name of the row with one modality."""
    return f"{modality} alone"


def without(modality: str) -> str:
    """Return the name of the row without a modality."""
    return f"without {modality}"


def make_methods(
    modalities: list[str], candidates: list[str]
) -> dict[str, Method]:
    """Return the rows: each modality alone, all but each, and all of them."""
    rows = {
        alone(name): Method(
            "ConcatFusion", modalities=[name], probes=["linear_probe"]
        )
        for name in modalities
    }
    if 2 < len(modalities) <= LEFT_OUT:
        rows |= {
            without(name): Method(
                "ConcatFusion",
                modalities=[n for n in modalities if n != name],
                probes=["none"],
            )
            for name in modalities
        }
    for name in candidates:
        rows[name] = candidate(name)
    return rows


def candidate(name: str, learning_rate: float | None = None) -> Method:
    """Return the row of a method."""
    probes = ["contributions"]
    if name in PROBED and learning_rate is None:
        probes += ["linear_probe", "modality_accuracy"]
    training = {} if learning_rate is None else {"learning_rate": learning_rate}
    return Method(**CANDIDATES[name], training=training, probes=probes)


def make_evaluation(x: Mapping[str, Array]) -> Evaluation:
    """Return what every row is asked: noise, loss and mix-ups of each."""
    names = [name for name in x if name != MASK]
    corruptions: dict[str, Corruption] = {}
    for name in names:
        # A list: a modality may be called "all".
        target = [name]
        corruptions |= {
            f"noisy: {name}": GaussianNoise(NOISE, target),
            f"missing: {name}": MissingModality(1.0, target),
            f"lost: {name}": MissingModality(1.0, target, announce=False),
            f"misaligned: {name}": UnalignedSamples(1.0, target),
        }
    for a, b in swappable(x):
        corruptions[f"swapped: {a} and {b}"] = SwappedModalities(1.0, [a, b])
    return Evaluation(
        corruptions,
        scores=["accuracy", "nll", "ece"],
        probes={
            "contributions": contributions,
            "linear_probe": "linear_probe",
            "modality_accuracy": "modality_accuracy",
            "none": nothing,
        },
    )


def swappable(x: Mapping[str, Array]) -> list[tuple[str, str]]:
    """Return pairs of modalities of one shape, the first few."""
    names = [name for name in x if name != MASK]
    pairs = [
        (a, b)
        for a, b in itertools.combinations(names, 2)
        if x[a].shape[1:] == x[b].shape[1:]
    ]
    return pairs[:PAIRS]


def contributions(
    model: Model, x: Mapping[str, Array], y: Array
) -> dict[str, float]:
    """Probe: what each modality adds to the accuracy, and what is lost."""
    table = modality_contributions(model, x, y, batch_size=1024)
    found = {"none": float(table.attrs["none"])}
    for row in table.to_dict("records"):
        for key in ("shapley", "leave_one_out", "alone"):
            found[f"{key}/{row['modality']}"] = float(row[key])
    return found


def nothing(model: Model, x: Mapping[str, Array], y: Array) -> dict[str, float]:
    """Probe of rows that are asked nothing: a row names one at least."""
    return {"samples": float(np.shape(y)[0])}
