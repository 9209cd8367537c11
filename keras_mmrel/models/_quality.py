"""What a model does with a layer that was given as `quality=`."""

import itertools
import math
import warnings
from collections.abc import Iterator
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers
from keras_mmrel.contract import to_numpy
from keras_mmrel.models.modality_inputs import keep_present

QUALITY_LAYER = Instance(
    keras.layers.Layer,
    "a Keras layer with `adapt`, such as `keras_mmrel.layers.InputQuality`,",
    method="adapt",
)
# Of a model that has one of its own unless told otherwise.
OWN_QUALITY = Either("auto", QUALITY_LAYER, None)

# Rows of a pipeline for a layer that does not say how many.
ROWS = 2048


def relative_quality(inputs: Modalities) -> Tensor:
    """Quality as a fraction of the sample's best one, `(batch, modalities)`.

    So nothing is weighed down where all modalities suffer alike. It is the
    mask where no quality is known.
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
            warnings.warn(
                f"{type(model).__name__} does without its "
                f"{type(layer).__name__}, since data can be read only once; "
                "`model.quality.adapt(inputs, y)` before `fit` helps. "
                f"Received: {type(x).__name__}",
                stacklevel=5,
            )
            return
        raise ValueError(
            "`quality` must be adapted before `fit` where the data can be read "
            f"only once: `model.quality.adapt(inputs, y)`. Received: "
            f"{type(x).__name__}"
        )
    if not isinstance(x, Mapping):
        count = getattr(layer, "samples", ROWS)
        x, y, sample_weight = _first_rows(x, count)
    inputs = {name: x[name] for name in model.modality_names}
    if x.get(MASK) is not None:
        inputs[MASK] = x[MASK]
    y = to_numpy(class_numbers(y, model.num_classes))
    kept = np.array([(class_weight or {}).get(c, 1.0) > 0 for c in y.tolist()])
    if sample_weight is not None:
        kept = kept & (to_numpy(sample_weight).reshape(-1) > 0)
    if not kept.all():
        inputs = keras.tree.map_structure(lambda v: to_numpy(v)[kept], inputs)
        y = y[kept]
    layer.adapt(inputs, y)
    own = model.quality_is_own
    if not getattr(layer, "adapted", True) and not own:
        warnings.warn(
            "`quality` has learnt nothing from the training data and lets all "
            f"pass: {len(y)} samples of {len(np.unique(y))} classes were too "
            "few, or no modality can be judged. `model.quality.adapt(inputs, "
            "y)` before `fit` takes others.",
            stacklevel=5,
        )


def _first_rows(data: DataSource, count: int) -> tuple:
    """Return the first rows of a pipeline: inputs, labels, weights."""
    batches, rows = [], 0
    for batch in _batches(data):
        batches.append(keras.utils.unpack_x_y_sample_weight(batch))
        rows += len(to_numpy(batches[-1][1]))
        if rows >= count:
            break
    # A mask or weights that only some batches have are left out.
    names = set.intersection(*(set(x) for x, _, _ in batches))
    weighted = all(weight is not None for _, _, weight in batches)

    def joined(*parts: Any) -> Any:
        return np.concatenate([to_numpy(part) for part in parts])

    inputs = [{n: v for n, v in x.items() if n in names} for x, _, _ in batches]
    return (
        keras.tree.map_structure(joined, *inputs),
        joined(*(y for _, y, _ in batches)),
        joined(*(w for _, _, w in batches)) if weighted else None,
    )


def _batches(data: DataSource) -> Iterator:
    if isinstance(data, keras.utils.PyDataset):
        # It has a length, or none, and no end of its own.
        count = data.num_batches
        indices = itertools.count() if count is None else range(count)
        return map(data.__getitem__, indices)
    return iter(data)
