"""Encoders that scale their inputs learn how before the first step."""

from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Model
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers
from keras_mmrel.contract import to_numpy
from keras_mmrel.encoders._feature_scaling import FeatureScaling
from keras_mmrel.encoders.block_encoder import BlockEncoder
from keras_mmrel.layers._auxiliary_block_encoder import AuxiliaryBlockEncoder
from keras_mmrel.models._sampled_rows import ROWS
from keras_mmrel.models._sampled_rows import SampledRows
from keras_mmrel.models._sampled_rows import counted
from keras_mmrel.models.uninformative import present_modalities


def scaling_layers(model: Model) -> dict[str, FeatureScaling]:
    """Modality name -> the layer at the beginning of its encoder that scales.

    `AIM` has the blocks of an encoder in its place.
    """
    found = {}
    for name, encoder in zip(model.modality_names, model.encoders, strict=True):
        first: Any = encoder
        # Others make their blocks anew whenever they are asked for them.
        if isinstance(encoder, AuxiliaryBlockEncoder | BlockEncoder):
            first = encoder.blocks[0]
        front = getattr(first, "front", None)
        if isinstance(front, FeatureScaling):
            found[name] = front
    return found


def adapt_scaling(
    model: Model,
    x: DataSource,
    y: Labels,
    sample_weight: Tensor = None,
    class_weight: dict | None = None,
) -> None:
    """Let them see training data, unless they have seen some.

    Args:
        model: The model.
        x: Checked data of a `fit`.
        y: Labels of a dict of arrays.
        sample_weight: Likewise; a sample of weight 0 is none.
        class_weight: As in `fit`; nor is one of a class of weight 0.

    Raises:
        ValueError: If the data can be read only once.
    """
    layers = {
        name: layer
        for name, layer in scaling_layers(model).items()
        if not ops.convert_to_numpy(layer.count)
    }
    if not layers:
        return
    if len({id(layer) for layer in layers.values()}) < len(layers):
        raise ValueError(
            "Each modality must have an `encoders.Scaling` of its own. "
            f"Received: one for several of {list(layers)}"
        )
    if isinstance(x, GeneratorType) or hasattr(x, "__next__"):
        raise ValueError(
            "`encoders.Scaling` must be adapted before `fit` where the data "
            f"can be read only once: `scaling.adapt(x)`. Received: "
            f"{type(x).__name__}"
        )
    if isinstance(x, Mapping):
        y = to_numpy(class_numbers(y, model.num_classes))
        kept = counted(y, sample_weight, class_weight)
        inputs, names = x, model.modality_names
    else:
        # Rows from all over a pipeline.
        names = list(layers)
        inputs = SampledRows(model, x, ROWS, names, class_weight).inputs
        kept = np.ones(len(keras.tree.flatten(inputs)[0]), bool)
    present = present_modalities(inputs, names)
    for name, layer in layers.items():
        layer.adapt(inputs[name], present[:, names.index(name)] & kept)
        # Each of several processes has seen its own part of the data.
        for variable in (layer.mean, layer.variance, layer.count):
            first = backend.of_first_process(ops.convert_to_tensor(variable))
            variable.assign(first)
