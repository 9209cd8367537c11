"""Encoders of a method: its own, a user's, or behind a trivial defence."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import encoders
from keras_mmrel.models.modality_encoders import encoder_name

CLIP = 3.0


def modality_specs(method: dict, x: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what a model takes as `modalities`.

    Args:
        method: Checked entry of the config.
        x: Training part.
    """
    options, inputs = method.get("encoder"), method["inputs"]
    specs: dict[str, Any] = {}
    for name, values in x.items():
        shape = values.shape[1:]
        if inputs == "raw" and (not options or len(shape) > 1):
            specs[name] = shape
        elif inputs == "raw":
            specs[name] = _encoder(name, shape, options)
        else:
            specs[name] = _standardized(
                name, values, _encoder(name, shape, options), inputs
            )
    return specs


def _encoder(name: str, shape: tuple, options: dict | None) -> Any:
    name = encoder_name(name)
    if len(shape) == 1:
        return encoders.MLPEncoder(**(options or {}), name=name)
    return encoders.ConvEncoder(name=name)


def _standardized(
    name: str, values: np.ndarray, encoder: Any, inputs: str
) -> keras.Model:
    """Standardise as the training part, maybe clip: a trivial defence.

    It belongs to the model, behind the augmentation, so that the noise of a
    regime is in the same units for all methods. A feature that is constant in
    training says nothing and is only shifted.
    """
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation = np.where(deviation < 1e-6, 1.0, deviation)
    tensor = keras.Input(values.shape[1:])
    features = (tensor - mean.astype("float32")) / deviation.astype("float32")
    if inputs == "clipped":
        features = ops.clip(features, -CLIP, CLIP)
    return keras.Model(tensor, encoder(features), name=f"{encoder.name}_model")
