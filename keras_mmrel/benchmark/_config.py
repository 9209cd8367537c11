"""A comparison as it stands in a YAML file, checked before it runs."""

import dataclasses
import functools
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel import encoders
from keras_mmrel import models
from keras_mmrel import modulations
from keras_mmrel.benchmark._checks import attempt
from keras_mmrel.benchmark._checks import choice
from keras_mmrel.benchmark._checks import count
from keras_mmrel.benchmark._checks import named
from keras_mmrel.benchmark._checks import nearest
from keras_mmrel.benchmark._checks import number
from keras_mmrel.benchmark._checks import section
from keras_mmrel.benchmark._encoders import modality_specs
from keras_mmrel.benchmark._signature import parameters
from keras_mmrel.evaluation.noise_protocol import as_protocols
from keras_mmrel.layers import CorruptionAugmentation

SECTIONS = (
    "title", "datasets", "methods", "regimes", "seeds", "training", "tuning",
    "evaluation", "baseline",
)  # fmt: skip
SOURCES = {
    "multiview_digits": ("modalities",),
    "rosmap": ("path",),
    "brca": ("path",),
    "av_digits": ("path", "fold", "image_noise", "distractor"),
    "npz": ("path", "labels", "modalities"),
    "csv": ("modalities", "labels", "header"),
}
OWN_DATA = ("npz", "csv")
DATASET = ("source", "split", "test_share", "scale", "training")
METHOD = ("model", "options", "encoder", "modulation", "inputs", "training",
          "tuning")  # fmt: skip
TRAINING: dict[str, Any] = {
    "epochs": 100,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "weight_decay": 4e-3,
    "optimizer": "adamw",
    "schedule": "cosine",
}
TUNING: dict[str, Any] = {"share": 0.25, "repeats": 2, "grid": {}}
EVALUATION: dict[str, Any] = {
    "corruptions": [
        "gaussian_one", "gaussian_half", "feature_noise", "unaligned",
        "missing", "missing_unannounced",
    ],
    "severities": None,
    "seeds": 1,
    "bins": 15,
    "batch_size": 1024,
}  # fmt: skip
# 1000 times as much is still a seed of NumPy.
LARGEST = 4_000_000
OPTIMIZERS = ("adamw", "adam", "sgd")


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked comparison; every entry is plain data."""

    title: str
    datasets: dict[str, dict]
    methods: dict[str, dict]
    regimes: dict[str, dict]
    seeds: tuple[int, ...]
    training: dict[str, Any]
    tuning: dict[str, Any]
    evaluation: dict[str, Any]
    baseline: str
    folder: Path

    def to_dict(self) -> dict:
        """Return what identifies the comparison, without its folder."""
        entries = dataclasses.asdict(self)
        del entries["folder"]
        return {**entries, "seeds": list(self.seeds)}


def load_config(path: Any) -> Config:
    """Read and check a YAML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: With the first thing that is wrong.
    """
    from keras_mmrel.benchmark._yaml import read_yaml

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            "`config` must be a YAML file. Received: "
            f"config={str(path)!r}, which is none"
        )
    return check_config(read_yaml(path), path.parent)


def check_config(raw: Any, folder: Path) -> Config:
    """Complete a config with its defaults, or say what is wrong with it."""
    raw = section("the config", raw, SECTIONS)
    for name in ("datasets", "methods"):
        if not raw.get(name):
            raise ValueError(
                f"`{name}` must name at least one. Received: "
                f"{name}={raw.get(name)!r}"
            )
    training = {
        **TRAINING,
        **_training("training", raw.get("training")),
    }
    tuning = _tuning("tuning", raw.get("tuning"))
    methods = {
        name: _method(name, entry, tuning)
        for name, entry in named("methods", raw["methods"]).items()
    }
    # Each run gives the augmentation its own seed.
    allowed = [p for p in parameters(CorruptionAugmentation) if p != "seed"]
    regimes = {
        name: section(f"regimes.{name}", entry, allowed)
        for name, entry in named(
            "regimes", raw.get("regimes", {"clean": {}})
        ).items()
    }
    for name, options in regimes.items():
        attempt(
            f"regimes.{name}",
            functools.partial(CorruptionAugmentation, **options),
            options,
        )
    baseline = str(raw.get("baseline", next(iter(methods))))
    if baseline not in methods:
        raise ValueError(
            f"`baseline` must be one of the methods {list(methods)}. "
            f"Received: baseline={baseline!r}{nearest(baseline, methods)}"
        )
    return Config(
        title=str(raw.get("title", "Comparison")),
        datasets={
            name: _dataset(name, entry)
            for name, entry in named("datasets", raw["datasets"]).items()
        },
        methods=methods,
        regimes=regimes,
        seeds=_seeds(raw.get("seeds", 5)),
        training=training,
        tuning=tuning,
        evaluation=_evaluation(raw.get("evaluation")),
        baseline=baseline,
        folder=Path(folder),
    )


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else range(count("seeds", value))
    if (
        not seeds
        or not all(type(s) is int and 0 <= s <= LARGEST for s in seeds)
        or len(set(seeds)) != len(seeds)
    ):
        raise ValueError(
            "`seeds` must be a positive integer or a list of different "
            f"integers from 0 to {LARGEST}. Received: seeds={value!r}"
        )
    return tuple(seeds)


def _training(where: str, entry: Any) -> dict:
    """Checked values of the training settings that are given."""
    entry = dict(section(where, entry, TRAINING))
    for key, value in entry.items():
        name = f"{where}.{key}"
        if key in ("learning_rate", "weight_decay"):
            entry[key] = number(name, value, 0.0)
        elif key == "epochs":
            entry[key] = count(name, value)
        elif key == "batch_size" and value != "full":
            entry[key] = count(name, value, " or 'full'")
        elif key == "optimizer":
            choice(name, value, OPTIMIZERS)
        elif key == "schedule":
            choice(name, value, ("cosine", "constant"))
    return entry


def _tuning(where: str, entry: Any) -> dict:
    """A grid of settings, chosen on an inner validation part."""
    entry = {**TUNING, **section(where, entry, TUNING)}
    entry["share"] = number(f"{where}.share", entry["share"], 0.05, 0.9)
    count(f"{where}.repeats", entry["repeats"])
    grid = section(f"{where}.grid", entry["grid"], [*TRAINING, "options"])
    checked: dict[str, Any] = {}
    for key, values in grid.items():
        name = f"{where}.grid.{key}"
        if key == "options":
            options = values if isinstance(values, dict) else {}
            good = bool(options) and all(
                isinstance(v, list) and v for v in options.values()
            )
        else:
            good = isinstance(values, list) and bool(values)
        if not good:
            raise ValueError(
                f"`{name}` must list the values to try. Received: {values!r}"
            )
        checked[key] = (
            values
            if key == "options"
            else [_training(f"{where}.grid", {key: v})[key] for v in values]
        )
    return {**entry, "grid": checked}


def _method(name: str, entry: Any, tuning: dict) -> dict:
    where = f"methods.{name}"
    entry = dict(section(where, entry, METHOD))
    known = [n for n in models.__all__ if n != "MultimodalModel"]
    entry["model"] = choice(f"{where}.model", entry.get("model", name), known)
    model = getattr(models, entry["model"])
    not_options = ("modalities", "num_classes", "augmentation", "kwargs")
    allowed = [p for p in parameters(model) if p not in not_options]
    entry["options"] = section(
        f"{where}.options", entry.get("options"), allowed
    )
    shapes = {"a": (3,), "b": (2,)}
    attempt(
        where, lambda: model(shapes, 2, **entry["options"]), entry["options"]
    )
    if "encoder" in entry:
        encoder = section(
            f"{where}.encoder",
            entry["encoder"],
            parameters(encoders.MLPEncoder),
        )
        attempt(
            f"{where}.encoder",
            lambda: encoders.MLPEncoder(**encoder),
            encoder,
        )
    if entry.get("modulation") is not None:
        chosen = entry["modulation"]
        if isinstance(chosen, str):
            chosen = [chosen]
        chosen = named(f"{where}.modulation", chosen)
        if len(chosen) != 1:
            raise ValueError(
                f"`{where}.modulation` must be one modulation. Received: "
                f"{list(chosen)}"
            )
        kind, given = next(iter(chosen.items()))
        choice(f"{where}.modulation", kind, modulations.__all__)
        cls = getattr(modulations, kind)
        given = section(f"{where}.modulation.{kind}", given, parameters(cls))
        attempt(f"{where}.modulation.{kind}", lambda: cls(**given), given)
        entry["modulation"] = {kind: given}
    choice(
        f"{where}.inputs",
        entry.setdefault("inputs", "raw"),
        ("raw", "standardized", "clipped"),
    )
    if entry["inputs"] != "raw":
        _check_inputs(where, entry, model)
    entry["training"] = _training(f"{where}.training", entry.get("training"))
    if "tuning" in entry:
        entry["tuning"] = tuning = _tuning(f"{where}.tuning", entry["tuning"])
    grid = tuning["grid"].get("options", {})
    for option in grid:
        choice(f"{where}.tuning.grid.options", option, allowed)
    for values in itertools.product(*grid.values()) if grid else []:
        tried = {**entry["options"], **dict(zip(grid, values, strict=True))}
        attempt(
            f"{where}.tuning.grid.options",
            functools.partial(model, shapes, 2, **tried),
            tried,
        )
    return entry


def _check_inputs(where: str, entry: dict, model: Any) -> None:
    """Standardising is part of the encoder, which the method must take."""
    base = models.MultimodalModel.default_encoder
    if model.default_encoder is not base:
        raise ValueError(
            f"`{where}.inputs` must be 'raw' for {entry['model']}, which "
            f"encodes vectors in its own way. Received: {entry['inputs']!r}"
        )
    rows = {"a": np.eye(3, dtype="float32"), "b": np.eye(3, dtype="float32")}
    attempt(
        f"{where}.inputs",
        lambda: model(modality_specs(entry, rows), 2, **entry["options"]),
        entry["inputs"],
    )


def _dataset(name: str, entry: Any) -> dict:
    where = f"datasets.{name}"
    keys = {*DATASET, *(key for keys in SOURCES.values() for key in keys)}
    entry = dict(section(where, entry, sorted(keys)))
    source = choice(
        f"{where}.source", entry.setdefault("source", name), SOURCES
    )
    section(where, entry, [*DATASET, *SOURCES[source]])
    own = source in OWN_DATA
    choice(
        f"{where}.split",
        entry.setdefault("split", "resampled" if own else "published"),
        ("resampled",) if own else ("published", "resampled"),
    )
    if "test_share" in entry:
        if entry["split"] == "published":
            raise ValueError(
                f"`{where}.test_share` must only stand with `split: "
                f"resampled`. Received: {entry['test_share']!r} with a "
                "published split"
            )
        entry["test_share"] = number(
            f"{where}.test_share", entry["test_share"], 0.05, 0.95
        )
    choice(
        f"{where}.scale",
        entry.setdefault("scale", "minmax"),
        ("minmax", "none"),
    )
    needed = {"npz": ("path",), "csv": ("modalities", "labels")}
    for key in needed.get(source, ()):
        if not entry.get(key):
            raise ValueError(
                f"`{where}.{key}` must say where the data are. Received: "
                f"{key}={entry.get(key)!r}"
            )
    for key in ("path", "labels"):
        if entry.get(key) is not None:
            entry[key] = _text(f"{where}.{key}", entry[key])
    if source == "csv":
        entry["modalities"] = {
            modality: _text(f"{where}.modalities.{modality}", file)
            for modality, file in named(
                f"{where}.modalities", entry["modalities"]
            ).items()
        }
    elif source == "npz" and "modalities" in entry:
        entry["modalities"] = list(
            named(f"{where}.modalities", entry["modalities"])
        )
    if "header" in entry:
        choice(f"{where}.header", entry["header"], (True, False))
    entry["training"] = _training(f"{where}.training", entry.get("training"))
    return entry


def _text(where: str, value: Any) -> str:
    """A name or a path, with `~` and variables of the environment."""
    if not isinstance(value, str):
        raise ValueError(f"`{where}` must be a text. Received: {value!r}")
    return os.path.expandvars(os.path.expanduser(value))


def _evaluation(entry: Any) -> dict:
    entry = {**EVALUATION, **section("evaluation", entry, EVALUATION)}
    for key in ("seeds", "bins", "batch_size"):
        count(f"evaluation.{key}", entry[key])
    if not isinstance(entry["corruptions"], list):
        raise ValueError(
            "`evaluation.corruptions` must be a list of names of protocols. "
            f"Received: {entry['corruptions']!r}"
        )
    attempt(
        "evaluation",
        lambda: as_protocols(entry["corruptions"], entry["severities"]),
        entry,
    )
    return entry
