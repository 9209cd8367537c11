"""Encoders that scale their inputs learn how before the first step."""

from collections.abc import Iterator
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.backend import upstream
from keras_mmrel.contract import Array
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
from keras_mmrel.user_warning import warn

# Rows of a chunk that goes through an encoder up to such a layer.
CHUNK = 32


def scaling_layers(model: Model) -> dict[str, list[FeatureScaling]]:
    """Modality name -> the layers of its encoder that scale, if any."""
    found = {}
    for name, encoder in zip(model.modality_names, model.encoders, strict=True):
        layers = [
            layer
            for layer in upstream.all_layers(encoder)
            if isinstance(layer, FeatureScaling)
        ]
        if layers:
            found[name] = layers
    return found


def every_scaling(model: Model) -> list[FeatureScaling]:
    """Return these layers of all modalities."""
    return [layer for some in scaling_layers(model).values() for layer in some]


def unadapted(model: Model) -> dict[str, list[FeatureScaling]]:
    """Return those among them that have seen no data yet."""
    found = {}
    for name, layers in scaling_layers(model).items():
        new = [x for x in layers if not ops.convert_to_numpy(x.count)]
        if new:
            found[name] = new
    return found


def check_adapted(model: Model, trains: bool) -> None:
    """Say that an encoder would take values as they are, unscaled.

    Args:
        model: The model, before it gets values that no `fit` has.
        trains: Whether it is to learn from them, which is refused; else a
            warning says it once.
    """
    names = list(unadapted(model))
    if not names:
        return
    if trains:
        raise ValueError(
            "`encoders.Scaling` must be adapted before a training without "
            "`fit`: `scaling.adapt(x)`. Received: one that knows no data, of "
            f"{names}"
        )
    if not model.modality_inputs.warned_of_scaling:
        model.modality_inputs.warned_of_scaling = True
        warn(
            f"`encoders.Scaling` of {names} knows no data, and passes values "
            "on as they are: `fit` adapts it, or `scaling.adapt(x)`."
        )


def _first_layer(encoder: Any) -> Any:
    """The layer that gets what the modality holds, if it scales.

    `AIM` has the blocks of an encoder in its place.
    """
    # Others make their blocks anew whenever they are asked for them.
    if isinstance(encoder, AuxiliaryBlockEncoder | BlockEncoder):
        encoder = encoder.blocks[0]
    return getattr(encoder, "front", None)


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
    layers = unadapted(model)
    if not layers:
        return
    each = [id(layer) for some in layers.values() for layer in some]
    if len(set(each)) < len(each):
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
    for name, some in layers.items():
        rows = present[:, names.index(name)] & kept
        for layer in some:
            _adapt(model, name, layer, inputs[name], rows)
            # Each of several processes has seen its own part of the data.
            for variable in (layer.mean, layer.variance, layer.count):
                first = ops.convert_to_tensor(variable)
                variable.assign(backend.of_first_process(first))


def _adapt(
    model: Model, name: str, layer: FeatureScaling, x: Any, rows: Array
) -> None:
    """Let one of them see the rows of a modality that count."""
    encoder = model.encoders[model.modality_names.index(name)]
    if _first_layer(encoder) is layer:
        layer.adapt(x, rows)
        return
    # It gets what other layers make of them: of a video, its frames.
    chosen = np.flatnonzero(rows)
    if len(chosen) > ROWS:
        few = np.random.default_rng(0).permutation(len(chosen))[:ROWS]
        chosen = chosen[np.sort(few)]

    def parts() -> Iterator[Any]:
        for start in range(0, len(chosen), CHUNK):
            some = chosen[start : start + CHUNK]
            part = keras.tree.map_structure(
                lambda v, some=some: ops.convert_to_tensor(to_numpy(v[some])), x
            )
            yield model.pixel_units.scaled(name, part)

    layer.adapt_inside(lambda part: encoder(part, training=False), parts())
