"""Encoders of a method: its own, a user's, or behind a trivial defence."""

import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import encoders
from keras_mmrel.contract import Layer
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import map_parts
from keras_mmrel.contract import modality_arrays

INPUTS = ("raw", "standardized", "clipped")
CLIP = 3.0


def modality_specs(
    x: Mapping[str, Any],
    encoder: Mapping[str, Any] | Callable | None,
    inputs: str,
) -> ModalitySpecs:
    """Return what a model takes as `modalities`.

    Args:
        x: Training part.
        encoder: Options of `MLPEncoder`, a function of a name and a shape (a
            dict of shapes where a modality has several arrays), or `None` for
            the method's own.
        inputs: One of `INPUTS`.
    """
    specs: dict[str, Any] = {}
    for name, values in modality_arrays(x).items():
        shape = map_parts(lambda array: array.shape[1:], values)
        if callable(encoder):
            specs[name] = encoder(name, shape)
        elif not isinstance(values, Mapping) and (
            inputs != "raw" or (encoder and len(shape) == 1)
        ):
            specs[name] = _encoder(name, shape, encoder or {})
        else:
            specs[name] = shape
        if inputs != "raw":
            specs[name] = _standardized(name, values, specs[name], inputs)
    return specs


def _encoder(
    name: str, shape: tuple[int, ...], options: Mapping[str, Any]
) -> Layer:
    if len(shape) == 1:
        return encoders.MLPEncoder(**options, name=_plain(name))
    return encoders.ConvEncoder(name=_plain(name))


def _plain(name: str) -> str:
    """A name that every backend takes for a layer."""
    return re.sub(r"[^A-Za-z0-9_]", "_", f"encoder_{name}")


def _standardized(
    name: str, values: Any, encoder: Any, inputs: str
) -> keras.Model:
    """Standardise as the training part, maybe clip: a trivial defence.

    It belongs to the model, behind the augmentation, so that the noise of a
    regime is in the same units for all methods. A feature that is constant in
    training says nothing and is only shifted.
    """
    if isinstance(values, Mapping):
        raise ValueError(
            "`inputs` must be 'raw' where a modality has several arrays. "
            f"Received: {inputs!r} for '{name}' of {list(values)}"
        )
    if not isinstance(encoder, keras.layers.Layer):
        raise ValueError(
            "`encoder` must return one layer where `inputs` are not raw. "
            f"Received: {encoder!r} for '{name}'"
        )
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation = np.where(deviation < 1e-6, 1.0, deviation)
    tensor = keras.Input(values.shape[1:])
    features = (tensor - mean.astype("float32")) / deviation.astype("float32")
    if inputs == "clipped":
        features = ops.clip(features, -CLIP, CLIP)
    return keras.Model(
        tensor, encoder(features), name=f"{_plain(name)}_behind_{inputs}"
    )
