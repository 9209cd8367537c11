"""What is saved of a model beyond what Keras saves, and a careful load."""

import json
import os
import pathlib
import zipfile
from typing import Any

import keras

from keras_mmrel._shapes import map_shapes
from keras_mmrel.backend import upstream
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.models import _quantization

PREFIX = "seed_"


def seed_states(model: Any) -> list[Any]:
    """Variables of seed generators, which are no weights."""
    weights = {id(v) for v in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def save_seed_states(model: Any, store: Any) -> None:
    """Keras saves no random state; with it a resumed run is exact."""
    for index, state in enumerate(seed_states(model)):
        store[f"{PREFIX}{index}"] = state


def load_seed_states(model: Any, store: Any) -> dict[str, Any]:
    """Take the random state from a store and return what else it holds."""
    saved = [key for key in store.keys() if key.startswith(PREFIX)]
    states = seed_states(model)
    if len(saved) == len(states):
        for index, state in enumerate(states):
            state.assign(store[f"{PREFIX}{index}"])
    return {key: store[key] for key in store.keys() if key not in saved}


def serialize(layer: keras.layers.Layer | None) -> Any:
    return keras.saving.serialize_keras_object(layer)


def serialize_specs(specs: ModalitySpecs) -> dict[str, Any]:
    """Encoders as their configs, shapes as lists."""
    return {
        name: serialize(spec)
        if isinstance(spec, keras.layers.Layer)
        else map_shapes(list, spec)
        for name, spec in specs.items()
    }


def data_config(model: Any) -> dict[str, Any]:
    """What a model remembers that no constructor takes: of its data, say."""
    inputs = model.modality_inputs
    remembered = {
        "columns": inputs.columns,
        "largest": inputs.ranges.largest,
        "quantized": _quantization.modes(model),
    }
    return {name: value for name, value in remembered.items() if value}


def restore(cls: type, config: dict, custom_objects: dict | None) -> Any:
    """Return the model of what `get_config` returned."""
    model: Any = cls(**restore_config(cls, config, custom_objects))
    model.modality_inputs.columns = config.get("columns", {})
    model.modality_inputs.ranges.largest = dict(config.get("largest", {}))
    _quantization.quantize_again(model, config.get("quantized", {}))
    return model


def restore_config(
    cls: type, config: dict, custom_objects: dict | None
) -> dict[str, Any]:
    """Return constructor arguments from what `get_config` returned."""
    config = dict(config)
    # No arguments, but what is remembered of training data.
    config.pop("columns", None)
    config.pop("largest", None)
    config.pop("quantized", None)
    for key in ("modalities", "num_classes"):
        if key not in config:
            raise ValueError(
                f"`config` must come from the `get_config` of a "
                f"{cls.__name__} and hold '{key}'. Received: "
                f"{sorted(config)}"
            )

    def restore(spec: Any) -> Any:
        return keras.saving.deserialize_keras_object(
            spec, custom_objects=custom_objects
        )

    config["modalities"] = {
        name: restore(spec) if "class_name" in spec else map_shapes(tuple, spec)
        for name, spec in config["modalities"].items()
    }
    for key in ("augmentation", "quality", "fusion"):
        if isinstance(config.get(key), dict):
            config[key] = restore(config[key])
    return config


def load_model(cls: type, path: Any, **kwargs: Any) -> Any:
    """Load a `.keras` file that must hold a `cls`, or say what is wrong."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            "`path` must be the name of a `.keras` file. Received: "
            f"path={path!r}"
        )
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(
            f"`path` must be a saved model. Received: path={str(path)!r}, "
            "which does not exist"
        )
    _check_classes(path)
    try:
        model = keras.saving.load_model(path, **kwargs)
    except Exception as error:
        # A class that is not registered is no damage: Keras names it.
        if upstream.UNKNOWN_CLASS in str(error):
            raise
        if any(words in str(error) for words in upstream.UNSAFE):
            raise ValueError(
                "`path` must hold no code and no link to other files; pass "
                "`safe_mode=False` if you trust who wrote it and it is a "
                f"Python function. Received: path={str(path)!r}, which Keras "
                f"refuses for safety ({_first_sentence(error)})"
            ) from error
        raise ValueError(
            "`path` must be an undamaged `.keras` file. Received: "
            f"path={str(path)!r}, which could not be read "
            f"({type(error).__name__}: {_first_sentence(error)})"
        ) from error
    if not isinstance(model, cls):
        raise TypeError(
            f"`path` must hold a {cls.__name__}. Received: "
            f"path={str(path)!r}, which holds a {type(model).__name__}"
        )
    return model


def _check_classes(path: Any) -> None:
    """Refuse a file that says more classes than its weights have room for.

    Making such a model could take all memory before a weight is read. A file
    that is no archive, or another one, is left to Keras.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
            room = archive.getinfo("model.weights.h5").file_size
        classes = int(config["num_classes"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, OSError):
        return
    # One float32 a class is among the weights of every model.
    if 4 * classes > room:
        raise ValueError(
            "`path` must hold the weights of all its classes. Received: "
            f"path={str(path)!r}, with num_classes={classes} and {room} bytes "
            "of weights"
        )


def _first_sentence(error: Exception) -> str:
    """Return what an error of Keras says first, which goes on for long."""
    text = " ".join(str(error).split())
    return text.split(". ")[0].removesuffix(".")


def _shown(path: Any) -> str:
    """A path as its text, and what is none as itself."""
    return repr(str(path) if isinstance(path, os.PathLike) else path)


def check_target(path: Any, ending: str, argument: str = "filepath") -> None:
    """Refuse a name that nothing can be saved under.

    Args:
        path: What `save` or `save_weights` was given.
        ending: How the name must end.
        argument: Name of the argument.
    """
    named = isinstance(path, str | os.PathLike)
    if not named or not str(path).endswith(ending):
        raise ValueError(
            f"`{argument}` must be a file name that ends in `{ending}`. "
            f"Received: {argument}={_shown(path)}"
        )
    if os.path.isdir(path):
        raise ValueError(
            f"`{argument}` must be a file name that ends in `{ending}`. "
            f"Received: {argument}={_shown(path)}, which is a folder"
        )
    target = pathlib.Path(path)
    if "://" not in str(path) and not target.parent.is_dir():
        raise FileNotFoundError(
            f"`{argument}` must be in a folder that exists. Received: "
            f"{argument}={str(path)!r}"
        )


def load_weights(model: Any, path: Any, load: Any) -> None:
    """Load weights wholly, or leave those of the model as they were.

    Args:
        model: The model.
        path: What `load_weights` was given.
        load: Function that loads.
    """
    if not isinstance(path, str | os.PathLike) or not os.path.isfile(path):
        raise FileNotFoundError(
            "`filepath` must be a file of weights. Received: "
            f"filepath={_shown(path)}"
        )
    before = [keras.ops.copy(v) for v in model.variables]
    try:
        load()
    except Exception as error:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
        raise ValueError(
            f"`filepath` must hold the weights of this {type(model).__name__}, "
            f"whole and of its shapes. Received: filepath={str(path)!r}, which "
            f"could not be loaded ({_first_sentence(error)})"
        ) from error
