"""What a model does with a layer that was given as `quality=`."""

import contextlib
import math
from collections.abc import Iterator
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import Array
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers
from keras_mmrel.contract import to_numpy
from keras_mmrel.layers._quality_fit import FEWEST
from keras_mmrel.models._sampled_rows import ROWS
from keras_mmrel.models._sampled_rows import SampledRows
from keras_mmrel.models._sampled_rows import counted
from keras_mmrel.models.modality_inputs import keep_present
from keras_mmrel.models.uninformative import note_varying
from keras_mmrel.user_warning import warn

# Those of Keras take a tensor, no dict of modalities.
TENSOR_LAYERS = (
    keras.layers.Normalization,
    keras.layers.Discretization,
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)


class _QualityLayer(Instance):
    def accepts(self, value: Any) -> bool:
        return super().accepts(value) and not isinstance(value, TENSOR_LAYERS)


QUALITY_LAYER = _QualityLayer(
    keras.layers.Layer,
    "a Keras layer with `adapt`, such as `keras_mmrel.layers.InputQuality`,",
    method="adapt",
)
# Of a model that has one of its own unless told otherwise.
OWN_QUALITY = Either("auto", QUALITY_LAYER, None)


def relative_quality(inputs: Modalities) -> Tensor:
    """Quality as a fraction of the sample's best one, `(batch, modalities)`.

    So nothing is weighed down where all modalities lose the same fraction. It
    is the mask where no quality is known.
    """
    mask = inputs[MASK]
    if inputs.get(QUALITY) is None:
        return mask
    # A sample of which nothing is believed keeps all that it has.
    quality = (inputs[QUALITY] + 1e-6) * mask
    best = ops.max(quality, axis=1, keepdims=True)
    return quality / ops.maximum(best, 1e-6)


def weighed(feature: Tensor, inputs: Modalities, index: int) -> Tensor:
    """A modality's feature: zero where missing, smaller where not believed."""
    feature = keep_present(feature, inputs[MASK][:, index])
    if inputs.get(QUALITY) is None:
        return feature
    weight = relative_quality(inputs)[:, index]
    weight = ops.reshape(weight, (-1, *[1] * (len(feature.shape) - 1)))
    return feature * ops.cast(weight, feature.dtype)


def training_part(
    x: DataSource, y: Labels, sample_weight: Tensor, validation_split: float
) -> tuple[DataSource, Labels, Tensor]:
    """Return inputs, labels and weights without what validation gets.

    That is the end of arrays, as in `keras.Model.fit`.
    """
    if not validation_split or not isinstance(x, Mapping):
        return x, y, sample_weight
    rows = len(keras.tree.flatten(x)[0])
    stop = math.floor(rows * (1.0 - validation_split))
    return keras.tree.map_structure(
        lambda v: None if v is None else v[:stop], (dict(x), y, sample_weight)
    )


def adapt_quality(
    model: Model,
    x: DataSource,
    y: Labels,
    sample_weight: Tensor = None,
    class_weight: dict | None = None,
) -> None:
    """Let the quality layer see training data before the first step.

    A layer that learns in the steps themselves (`update_statistics`), or that
    has been adapted already, is left alone, and so is a model that has
    trained before.

    Args:
        model: The model.
        x: Checked data of a `fit`.
        y: Labels of a dict of arrays.
        sample_weight: Likewise; a sample of weight 0 is none.
        class_weight: As in `fit`; nor is one of a class of weight 0.

    Raises:
        ValueError: If the data can be read only once.
    """
    layer = model.quality
    if layer is None or hasattr(layer, "update_statistics"):
        return
    if getattr(layer, "adapted", False) or not layer.trainable:
        return
    if float(ops.convert_to_numpy(model.clock.step)):
        return
    if isinstance(x, GeneratorType) or hasattr(x, "__next__"):
        if model.quality_is_own:
            warn(
                f"{type(model).__name__} does without its "
                f"{type(layer).__name__}, since data can be read only once; "
                "`model.quality.adapt(inputs, y)` before `fit` helps. "
                f"Received: {type(x).__name__}"
            )
            return
        raise ValueError(
            "`quality` must be adapted before `fit` where the data can be read "
            f"only once: `model.quality.adapt(inputs, y)`. Received: "
            f"{type(x).__name__}"
        )
    inputs, y = _samples(model, x, y, sample_weight, class_weight)
    if len(y):
        layer.adapt(inputs, y)
    # Each of several processes has seen its own part of the data.
    for variable in layer.variables:
        first = backend.of_first_process(ops.convert_to_tensor(variable))
        variable.assign(first)
    _warn_of_nothing(model, y)


def _samples(
    model: Model,
    x: DataSource,
    y: Labels,
    sample_weight: Tensor,
    class_weight: dict | None,
) -> tuple[Modalities, Array]:
    """Return the samples that teach a quality layer, few of them or all."""
    layer = model.quality
    names = model.modality_names
    count = getattr(layer, "samples", ROWS)
    if not isinstance(x, Mapping):
        # Only what is judged need be held. This library's layers say that.
        judged = getattr(layer, "judged", names) if layer.built else names
        held = [name for name in names if name in judged]
        found = SampledRows(model, x, count, held, class_weight)
        if len(found.y):
            note_varying(model, found.varies)
        inputs = _as_seen(model, found.inputs)
        return inputs, found.y if held else found.y[:0]
    inputs = {name: x[name] for name in names}
    if x.get(MASK) is not None:
        inputs[MASK] = x[MASK]
    y = to_numpy(class_numbers(y, model.num_classes))
    kept = counted(y, sample_weight, class_weight)
    if not kept.all() or model.pixel_units.names:
        rows = np.flatnonzero(kept)
        if hasattr(layer, "samples"):
            # Those that it would draw, so that no others are copied.
            rng = np.random.default_rng(getattr(layer, "seed", 0))
            rows = rows[np.sort(rng.permutation(len(rows))[:count])]
        inputs = keras.tree.map_structure(lambda v: to_numpy(v)[rows], inputs)
        y = y[rows]
    return _as_seen(model, inputs), y


def _as_seen(model: Model, inputs: Modalities) -> Modalities:
    """Return inputs with pixels of images as a step makes them."""
    return {
        name: model.pixel_units.scaled_array(name, x)
        for name, x in inputs.items()
    }


def _warn_of_nothing(model: Model, y: Array) -> None:
    """Say so where a layer has learnt nothing from samples of classes `y`."""
    layer = model.quality
    if getattr(layer, "adapted", True):
        return
    if model.quality_is_own:
        # Few samples, and inputs that are too large, are no surprise: the
        # docstring says so. Integers are, and nothing but their type is.
        if len(y) >= FEWEST and len(np.unique(y)) > 1 and layer.judged:
            warn(
                f"{type(model).__name__} does without its "
                f"{type(layer).__name__}, which judges modalities of floats "
                "that vary alone: cast integers to float32 that are no "
                "numbers of tokens."
            )
        return
    warn(
        "`quality` has learnt nothing from the training data and lets all "
        f"pass: {len(y)} samples of {len(np.unique(y))} classes were too "
        "few, or no modality can be judged. `model.quality.adapt(inputs, "
        "y)` before `fit` takes others."
    )


@contextlib.contextmanager
def put_back(model: Model, *layers: keras.layers.Layer | None) -> Iterator:
    """Let a `fit` that fails before its first step teach layers nothing.

    Args:
        model: The model.
        *layers: Those that learn from data before the first step.
    """
    before: list = []
    if not float(ops.convert_to_numpy(model.clock.step)):
        variables = [v for layer in layers if layer for v in layer.variables]
        before = [(v, ops.convert_to_numpy(v).copy()) for v in variables]
    try:
        yield
    except BaseException:
        if not float(ops.convert_to_numpy(model.clock.step)):
            for variable, value in before:
                variable.assign(value)
        raise
