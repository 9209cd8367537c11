"""A new model for data that an estimator was given."""

import copy
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras

from keras_mmrel import models
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Model
from keras_mmrel.encoders.scaling import Scaling
from keras_mmrel.models.modality_encoders import encoder_name

METHODS = [
    name
    for name in models.__all__
    if issubclass(getattr(models, name), models.MultimodalModel)
    and name != "MultimodalModel"
]


def build_model(
    method: Any,
    x: Mapping[str, Any],
    num_classes: int,
    options: Mapping[str, Any],
    encoder: Callable | None,
    scale: bool,
    seed: int,
) -> Model:
    """Return a model that has not been trained.

    Args:
        method: Name of a model, its class, or a function that makes one.
        x: Training data, plain arrays.
        num_classes: Number of classes.
        options: Arguments of the method.
        encoder: `None`, or a function of the name and shape of a modality.
        scale: Whether modalities are standardised by the model.
        seed: Its seed, unless `options` have one.

    Raises:
        ValueError: If `method` makes no model of the library.
    """
    make = _factory(method)
    if {"seed", "kwargs"} & set(inspect.signature(make).parameters):
        options = {"seed": seed, **options}
    shapes = {n: _shape(value) for n, value in x.items() if n != MASK}
    if encoder is not None:
        specs = {name: encoder(name, shape) for name, shape in shapes.items()}
        return _checked(make(specs, num_classes, **_fresh(options)), method)
    model = _checked(make(shapes, num_classes, **_fresh(options)), method)
    # Bytes are pixels, which the models know; texts are no numbers.
    scaled = [
        name
        for name, shape in shapes.items()
        if not isinstance(shape, Mapping)
        and 1 <= len(shape) <= 3
        and x[name].dtype != "uint8"
    ]
    if not scale or not scaled:
        return model
    # Behind the scales stands the encoder that the method would have had.
    behind = {
        name: Scaling(
            shape,
            model.default_encoder(name, shape),
            name=f"{encoder_name(name)}_scaled",
        )
        if name in scaled
        else shape
        for name, shape in shapes.items()
    }
    return make(behind, num_classes, **_fresh(options))


def _shape(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: part.shape[1:] for key, part in value.items()}
    return value.shape[1:]


def _factory(method: Any) -> Callable:
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(
                f"`model` must be one of {METHODS}, or a class or function. "
                f"Received: model={method!r}"
            )
        return getattr(models, method)
    if isinstance(method, keras.Model) or not callable(method):
        raise ValueError(
            "`model` must be the name of a model, its class or a function "
            f"that makes one. Received: model={method!r}"
        )
    return method


def _checked(model: Any, method: Any) -> Model:
    if not isinstance(model, models.MultimodalModel):
        raise ValueError(
            "`model` must make a `keras_mmrel.MultimodalModel`. Received: "
            f"{type(model).__name__} from model={method!r}"
        )
    return model


def compile_model(model: Model, options: Mapping[str, Any]) -> None:
    """Compile it, with an optimizer and a modulation of its own."""
    model.compile(**_fresh(options))


def _fresh(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with copies of what holds weights, or is changed in its place.

    An optimizer or a layer belongs to one model, and an estimator makes one
    after another.
    """
    found = {}
    for name, value in options.items():
        if isinstance(value, keras.layers.Layer | keras.optimizers.Optimizer):
            value = type(value).from_config(value.get_config())
        elif isinstance(value, dict):
            value = copy.deepcopy(value)
        found[name] = value
    return found
