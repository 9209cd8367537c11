"""What tells nothing: modalities that never vary, values that are none."""

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Model
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import largest_value
from keras_mmrel.contract import to_numpy
from keras_mmrel.user_warning import warn

# Bytes of an array that are looked at together.
CHUNK = 2**20
# Samples of a pipeline's first batch that may be the same by chance.
FEW = 8


def note_informative(
    model: Model, data: DataSource, sample_weight: Tensor | None = None
) -> None:
    """Let a model take what never varies in its training data as missing.

    What has varied in an earlier training stays informative. A pipeline is
    not looked at, which would be another run through it: what a layer given
    as `quality` reads of it says more (`note_varying`), and its first batch
    is enough to warn (`warn_of_first_batch`).

    Args:
        model: The model, before the first step of a `fit`.
        data: Checked dict of arrays, or another data source.
        sample_weight: As in `informative_modalities`.
    """
    if not isinstance(data, Mapping):
        return
    _keep(
        model,
        informative_modalities(data, model.modality_names, sample_weight),
    )


def note_varying(model: Model, varies: Array) -> None:
    """Do the same with what rows of a pipeline say, `(modalities,)`."""
    _warn_of_constant(model.modality_names, varies)
    _keep(model, varies.astype("float32"))


def warn_of_first_batch(
    model: Model, inputs: Modalities, sample_weight: Tensor | None
) -> None:
    """Name what is the same in a pipeline's first batch of several samples.

    A layer given as `quality` that reads all of them says so by itself.
    """
    if hasattr(model.quality, "adapted"):
        return
    present = present_modalities(inputs, model.modality_names, sample_weight)
    constant = [
        name
        for name, there in zip(model.modality_names, present.T, strict=True)
        if there.sum() >= FEW and not _any_varies(inputs[name], there)
    ]
    if constant:
        warn(
            f"Modalities {constant} are the same in every sample of the first "
            "batch: if they are so in all, they tell nothing of the classes, "
            f"and '{MASK}' should announce them as missing."
        )


def _keep(model: Model, varies: Array) -> None:
    if float(ops.convert_to_numpy(model.clock.step)):
        varies = np.maximum(varies, ops.convert_to_numpy(model.informative))
    # In one of several processes is enough.
    varies = ops.convert_to_tensor(varies, "float32")
    model.informative.assign(backend.all_reduce_max(varies))


def informative_modalities(
    inputs: Modalities,
    names: Sequence[str],
    sample_weight: Tensor | None = None,
) -> Array:
    """Say which modalities vary over training samples, and warn of others.

    What is the same in all samples that have it (all zeros, say, the commonest
    mark of a missing modality) tells nothing of the classes, and nor does
    what no sample has. Arrays are read up to the first difference, mostly a
    few rows, and never copied.

    Args:
        inputs: Checked dict of arrays, with `"modality_mask"` or without.
        names: Names of the modalities, in the order of the mask's columns.
        sample_weight: `None` or `(samples,)`; a sample of weight 0 is none.

    Returns:
        `(modalities,)` in float32, 1 for a modality that varies.

    Raises:
        ValueError: If no sample has any modality.
    """
    present = present_modalities(inputs, names, sample_weight)
    check_something(present)
    varies = np.array(
        [_any_varies(inputs[n], present[:, i]) for i, n in enumerate(names)]
    )
    _warn_of_constant(names, varies)
    return varies.astype("float32")


def _warn_of_constant(names: Sequence[str], varies: Array) -> None:
    constant = [n for n, v in zip(names, varies, strict=True) if not v]
    if constant:
        warn(
            f"Modalities {constant} are the same in every training sample that "
            "has them, or in none: they tell nothing of the classes, and count "
            "as missing."
        )


def present_modalities(
    inputs: Modalities,
    names: Sequence[str],
    sample_weight: Tensor | None = None,
) -> Array:
    """Say which modalities a training has of each sample.

    Args:
        inputs: Checked dict of arrays, with `"modality_mask"` or without.
        names: Names of the modalities, in the order of the mask's columns.
        sample_weight: `None` or `(samples,)`; a sample of weight 0 is none.

    Returns:
        Booleans `(samples, modalities)`.
    """
    first = keras.tree.flatten(inputs[names[0]])[0]
    present = np.ones((len(first), len(names)), bool)
    if inputs.get(MASK) is not None:
        present = to_numpy(inputs[MASK]) > 0
    if sample_weight is not None:
        present = present & (to_numpy(sample_weight).reshape(-1, 1) > 0)
    return present


def check_something(present: Array) -> None:
    """Refuse training samples without any modality."""
    if not present.any():
        raise ValueError(
            f"Training data must have a sample with a modality: '{MASK}' and "
            "`sample_weight` must not be 0 everywhere. Received: "
            f"{len(present)} samples without any"
        )


def _any_varies(value: Tensor | Modalities, present: Array) -> bool:
    leaves = keras.tree.flatten(value)
    return any(_varies(to_numpy(leaf), present) for leaf in leaves)


def _varies(array: Array, present: Array) -> bool:
    """Whether two of the present rows differ."""
    rows = np.flatnonzero(present)
    if not len(rows):
        return False
    reference = array[rows[0]]
    step = max(1, CHUNK // max(1, reference.nbytes))
    return any(
        (array[start : start + step] != reference)[
            present[start : start + step]
        ].any()
        for start in range(0, len(array), step)
    )


def measured(
    value: Modalities | Tensor, present: Tensor, compute_dtype: str
) -> Tensor:
    """Say which of the present samples hold numbers to compute with.

    Args:
        value: Tensor with the batch first, or a nested dict of them.
        present: `(batch,)`, 1 for a sample that has the modality.
        compute_dtype: Dtype that the encoder computes in.

    Returns:
        `present`, with 0 where a value is NaN, infinite, or larger than 1e15
        (65504 in float16).
    """
    for x in keras.tree.flatten(value):
        dtype = keras.backend.standardize_dtype(x.dtype)
        if keras.backend.is_float_dtype(dtype):
            limit = min(largest_value(dtype), largest_value(compute_dtype))
            good = ops.abs(x) <= limit
            axes = tuple(range(1, len(x.shape)))
            good = ops.all(good, axis=axes) if axes else good
            present = present * ops.cast(good, present.dtype)
    return present
