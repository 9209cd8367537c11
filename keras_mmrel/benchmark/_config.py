"""A comparison as it stands in a YAML file, checked before it runs."""

import dataclasses
import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_mmrel import encoders
from keras_mmrel import models
from keras_mmrel import modulations
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
TUNING: dict[str, Any] = {"share": 0.25, "grid": {}}
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
    raw = _section("the config", raw, SECTIONS)
    for name in ("datasets", "methods"):
        if not raw.get(name):
            raise ValueError(
                f"`{name}` must name at least one. Received: "
                f"{name}={raw.get(name)!r}"
            )
    training = _training("training", {**TRAINING, **raw.get("training", {})})
    tuning = _tuning("tuning", raw.get("tuning", {}))
    methods = {
        str(name): _method(str(name), entry)
        for name, entry in _named("methods", raw["methods"]).items()
    }
    regimes = {
        str(name): _section(
            f"regimes.{name}", entry, parameters(CorruptionAugmentation)
        )
        for name, entry in _named(
            "regimes", raw.get("regimes", {"clean": {}})
        ).items()
    }
    for name, options in regimes.items():
        _try(f"regimes.{name}", lambda o=options: CorruptionAugmentation(**o))
    baseline = str(raw.get("baseline", next(iter(methods))))
    if baseline not in methods:
        raise ValueError(
            f"`baseline` must be one of the methods {list(methods)}. "
            f"Received: baseline={baseline!r}{_nearest(baseline, methods)}"
        )
    return Config(
        title=str(raw.get("title", "Comparison")),
        datasets={
            str(name): _dataset(str(name), entry)
            for name, entry in _named("datasets", raw["datasets"]).items()
        },
        methods=methods,
        regimes=regimes,
        seeds=_seeds(raw.get("seeds", 5)),
        training=training,
        tuning=tuning,
        evaluation=_evaluation(raw.get("evaluation", {})),
        baseline=baseline,
        folder=Path(folder),
    )


def _nearest(name: Any, known: Iterable[Any]) -> str:
    close = difflib.get_close_matches(str(name), [str(k) for k in known], 1, 0)
    return f"; the nearest is '{close[0]}'" if close else ""


def _section(where: str, entry: Any, known: Iterable[str]) -> dict:
    """A mapping with known keys only; the nearest valid key is suggested."""
    known = list(known)
    entry = {} if entry is None else entry
    if not isinstance(entry, dict):
        raise ValueError(
            f"`{where}` must be a mapping with keys out of {known}. "
            f"Received: {entry!r}"
        )
    for key in entry:
        if key not in known:
            raise ValueError(
                f"`{where}` must have keys out of {known}. Received: "
                f"'{key}'{_nearest(key, known)}"
            )
    return entry


def _named(where: str, entry: Any) -> dict:
    """Names -> entries; a list of names stands for empty entries."""
    if isinstance(entry, list) and all(isinstance(e, str) for e in entry):
        if len(set(entry)) != len(entry):
            raise ValueError(
                f"`{where}` must have different names. Received: {entry}"
            )
        return {name: {} for name in entry}
    if not isinstance(entry, dict) or not entry:
        raise ValueError(
            f"`{where}` must be a list of names or a mapping of names to "
            f"their settings. Received: {entry!r}"
        )
    return entry


def _choice(where: str, value: Any, known: Iterable[Any]) -> Any:
    known = list(known)
    if value not in known:
        raise ValueError(
            f"`{where}` must be one of {known}. Received: "
            f"{value!r}{_nearest(value, known)}"
        )
    return value


def _number(where: str, value: Any, low: float, high: float = 1e12) -> float:
    """A number; YAML takes 1e-3 for a text, people do not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high:
        raise ValueError(
            f"`{where}` must be a number of at least {low:g}"
            + (f" and at most {high:g}" if high < 1e12 else "")
            + f". Received: {value!r}"
        )
    return number


def _count(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{where}` must be a positive integer. Received: {value!r}"
        )
    return value


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = value if isinstance(value, list) else range(_count("seeds", value))
    if (
        not seeds
        or not all(type(s) is int and s >= 0 for s in seeds)
        or len(set(seeds)) != len(seeds)
    ):
        raise ValueError(
            "`seeds` must be a positive integer or a list of different "
            f"non-negative integers. Received: seeds={value!r}"
        )
    return tuple(seeds)


def _training(where: str, entry: Any) -> dict:
    """Checked values of the training settings that are given."""
    entry = dict(_section(where, entry, TRAINING))
    for key, value in entry.items():
        name = f"{where}.{key}"
        if key in ("learning_rate", "weight_decay"):
            entry[key] = _number(name, value, 0.0)
        elif key == "epochs" or (key == "batch_size" and value != "full"):
            entry[key] = _count(name, value)
        elif key == "optimizer":
            _choice(name, value, OPTIMIZERS)
        elif key == "schedule":
            _choice(name, value, ("cosine", "constant"))
    return entry


def _tuning(where: str, entry: Any) -> dict:
    """A grid of settings, chosen on an inner validation part."""
    entry = {**TUNING, **_section(where, entry, TUNING)}
    entry["share"] = _number(f"{where}.share", entry["share"], 0.05, 0.9)
    grid = _section(f"{where}.grid", entry["grid"], [*TRAINING, "options"])
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
            else [_training(name, {key: v})[key] for v in values]
        )
    return {**entry, "grid": checked}


def _try(where: str, make: Any) -> Any:
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{where}` cannot be made: {error}") from error


def _method(name: str, entry: Any) -> dict:
    where = f"methods.{name}"
    entry = dict(_section(where, entry, METHOD))
    known = [n for n in models.__all__ if n != "MultimodalModel"]
    entry["model"] = _choice(f"{where}.model", entry.get("model", name), known)
    model = getattr(models, entry["model"])
    not_options = ("modalities", "num_classes", "augmentation", "kwargs")
    allowed = [p for p in parameters(model) if p not in not_options]
    entry["options"] = _section(
        f"{where}.options", entry.get("options"), allowed
    )
    shapes = {"a": (3,), "b": (2,)}
    _try(where, lambda: model(shapes, 2, **entry["options"]))
    if "encoder" in entry:
        _section(
            f"{where}.encoder",
            entry["encoder"],
            parameters(encoders.MLPEncoder),
        )
    if entry.get("modulation") is not None:
        chosen = entry["modulation"]
        if isinstance(chosen, str):
            chosen = entry["modulation"] = {chosen: {}}
        named = _named(f"{where}.modulation", chosen)
        if len(named) != 1:
            raise ValueError(
                f"`{where}.modulation` must be one modulation. Received: "
                f"{list(named)}"
            )
        kind, options = next(iter(named.items()))
        _choice(f"{where}.modulation", kind, modulations.__all__)
        cls = getattr(modulations, kind)
        options = _section(f"{where}.modulation", options, parameters(cls))
        _try(f"{where}.modulation", lambda: cls(**options))
    _choice(
        f"{where}.inputs",
        entry.setdefault("inputs", "raw"),
        ("raw", "standardized", "clipped"),
    )
    entry["training"] = _training(f"{where}.training", entry.get("training"))
    if "tuning" in entry:
        entry["tuning"] = _tuning(f"{where}.tuning", entry["tuning"])
        for option in entry["tuning"]["grid"].get("options", {}):
            _choice(f"{where}.tuning.grid.options", option, allowed)
    return entry


def _dataset(name: str, entry: Any) -> dict:
    where = f"datasets.{name}"
    keys = {*DATASET, *(key for keys in SOURCES.values() for key in keys)}
    entry = dict(_section(where, entry, sorted(keys)))
    source = _choice(
        f"{where}.source", entry.setdefault("source", name), SOURCES
    )
    _section(where, entry, [*DATASET, *SOURCES[source]])
    own = source in OWN_DATA
    _choice(
        f"{where}.split",
        entry.setdefault("split", "resampled" if own else "published"),
        ("resampled",) if own else ("published", "resampled"),
    )
    if "test_share" in entry:
        entry["test_share"] = _number(
            f"{where}.test_share", entry["test_share"], 0.05, 0.95
        )
    default = "minmax" if entry["split"] == "resampled" else "none"
    _choice(
        f"{where}.scale",
        entry.setdefault("scale", default),
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
        if isinstance(entry.get(key), str):
            entry[key] = os.path.expandvars(os.path.expanduser(entry[key]))
    entry["training"] = _training(f"{where}.training", entry.get("training"))
    return entry


def _evaluation(entry: Any) -> dict:
    entry = {**EVALUATION, **_section("evaluation", entry, EVALUATION)}
    for key in ("seeds", "bins", "batch_size"):
        _count(f"evaluation.{key}", entry[key])
    if not isinstance(entry["corruptions"], list):
        raise ValueError(
            "`evaluation.corruptions` must be a list of names of protocols. "
            f"Received: {entry['corruptions']!r}"
        )
    _try(
        "evaluation",
        lambda: as_protocols(entry["corruptions"], entry["severities"]),
    )
    return entry
