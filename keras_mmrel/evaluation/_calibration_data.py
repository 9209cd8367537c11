"""Calibration samples of a decision, and what the model says of them."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_mmrel.contract import CONFIDENCE
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Model
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import is_number
from keras_mmrel.contract import is_pixels
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._calibration import Evidence
from keras_mmrel.evaluation._calibration import Limits
from keras_mmrel.evaluation._calibration import Wanted
from keras_mmrel.evaluation._calibration import fit_limits
from keras_mmrel.evaluation._calibration import fit_temperature
from keras_mmrel.evaluation._checks import check_logits
from keras_mmrel.evaluation._checks import takes_mask
from keras_mmrel.evaluation._decide import class_probabilities
from keras_mmrel.evaluation._decide import missing_modalities
from keras_mmrel.evaluation._decide import most_likely
from keras_mmrel.evaluation._decision_inputs import GROUP
from keras_mmrel.evaluation._decision_inputs import complete
from keras_mmrel.evaluation._decision_inputs import read_arrays
from keras_mmrel.evaluation._decision_inputs import read_groups
from keras_mmrel.evaluation._decision_inputs import sample_shapes
from keras_mmrel.evaluation._range_excess import RangeFit
from keras_mmrel.evaluation._range_excess import fit_range

# Rows that are looked at together.
BATCH = 256


class CalibrationData:
    """Reads and checks calibration samples, and learns from them.

    Args:
        model: The model.
        x: Dict of modality name -> array.
        y: Class numbers `(samples,)`, or one-hot rows.
        groups: `(samples,)` or `None`.

    Attributes:
        names: Names of the modalities, in the model's order.
        shapes: Modality name -> shape of a sample.
        labels: `(samples,)`.
        groups: All groups, sorted.
        rows: `(samples,)`, place of each sample's group from 1 on; 0 without.
        logits: `(samples, classes)`.
        confidence: `(samples, modalities)`.
        missing: `(samples, modalities)`.
        ranges: Name of each modality that has a range -> the range.

    Raises:
        ValueError: If anything is not as above.
    """

    def __init__(
        self, model: Model, x: DataSource, y: Labels, groups: ArrayLike
    ) -> None:
        check_rows_agree(
            {
                "`x_calibration`": x,
                "`y_calibration`": y,
                "`groups`": groups,
            }
        )
        arrays = _ordered(model, x)
        self.names = [name for name in arrays if name != MASK]
        self.shapes = sample_shapes(arrays)
        arrays = complete(
            "x_calibration", arrays, self.shapes, (), takes_mask(model)
        )
        outputs = model.predict(arrays, verbose=0)
        self.logits, self.confidence = _read_outputs(outputs, len(self.names))
        count, classes = self.logits.shape
        self.labels = check_labels(to_numpy(y), classes, count)
        self.rows = np.zeros(count, "int32")
        self.groups: list[int | str] = []
        if groups is not None:
            found, self.groups = read_groups(groups, count)
            self.rows = 1 + np.searchsorted(self.groups, found).astype("int32")
        self.missing = _missing(arrays, self.names, count)
        self.ranges: dict[str, RangeFit] = {}
        self.excess = np.full(self.missing.shape, np.nan)
        for index, name in enumerate(self.names):
            there = ~self.missing[:, index]
            if has_range(model, name, arrays[name]) and there.sum() > 1:
                vectors = as_vectors(to_numpy(arrays[name])[there])
                self.ranges[name] = fit_range(vectors)
                self.excess[:, index] = 0.0
                self.excess[there, index] = self.ranges[name].excess

    def learn(
        self, wanted: Wanted, temperature: float | None, seed: int
    ) -> tuple[float, list[Limits]]:
        """Return the temperature, and limits of all samples and each group.

        Args:
            wanted: What to promise.
            temperature: One that was chosen otherwise, or `None`.
            seed: Of the samples that the temperature is fitted on.
        """
        answered = np.asarray(~self.missing.all(axis=1))
        rules_learn: Array = np.ones(len(answered), bool)
        doubts: list[str] = []
        if temperature is None:
            temperature, rules_learn, doubts = fit_temperature(
                self.logits, self.labels, answered, seed
            )
        p = class_probabilities(self.logits, temperature, answered)
        evidence = Evidence(
            names=self.names,
            labels=self.labels,
            probabilities=to_numpy(p),
            left=to_numpy(most_likely(p)[2]),
            confidence=self.confidence,
            excess=self.excess,
            missing=self.missing,
            rules_learn=rules_learn,
        )
        every = np.ones(len(answered), bool)
        members = [self.rows == 1 + row for row in range(len(self.groups))]
        limits = [fit_limits(evidence, m, wanted) for m in (every, *members)]
        limits[0].doubts = [*doubts, *limits[0].doubts]
        return temperature, limits


def _ordered(model: Model, x: DataSource) -> dict[str, Any]:
    """Calibration inputs in the order in which the model has them."""
    if isinstance(x, Mapping) and GROUP in x:
        raise ValueError(
            f"`x_calibration` must hold modalities, none of them named "
            f"'{GROUP}'; pass the groups as `groups`. Received: {list(x)}"
        )
    arrays = read_arrays("x_calibration", x)
    order = getattr(model, "modality_names", None)
    order = order or [name for name in arrays if name != MASK]
    if set(order) != set(arrays) - {MASK}:
        raise ValueError(
            f"`x_calibration` must hold the modalities of the model, {order}. "
            f"Received: {[name for name in arrays if name != MASK]}"
        )
    if MASK not in arrays:
        return {name: arrays[name] for name in order}
    # Another order than that of the mask's columns is refused by the model.
    return arrays


def _read_outputs(outputs: Any, modalities: int) -> tuple[Array, Array]:
    wanted = {LOGITS, CONFIDENCE}
    if not isinstance(outputs, Mapping) or not wanted <= set(outputs):
        received = (
            f"a dict with {list(outputs)}"
            if isinstance(outputs, Mapping)
            else f"a {type(outputs).__name__}"
        )
        raise ValueError(
            f"`model` must return a dict with '{LOGITS}' and '{CONFIDENCE}', "
            f"as those of this library do. Received: {received}"
        )
    logits = check_logits("logits", outputs)
    confidence = to_numpy(outputs[CONFIDENCE]).astype("float32")
    if confidence.shape != (len(logits), modalities):
        raise ValueError(
            f"`model` must return a '{CONFIDENCE}' of shape ({len(logits)}, "
            f"{modalities}). Received: shape={confidence.shape}"
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError(
            f"`model` must return a '{CONFIDENCE}' in [0, 1]. Received: values "
            f"from {confidence.min():g} to {confidence.max():g}"
        )
    return logits, confidence


def _missing(arrays: dict[str, Any], names: list[str], count: int) -> Array:
    found = []
    for start in range(0, count, BATCH):
        part = keras.tree.map_structure(
            lambda v, rows=slice(start, start + BATCH): v[rows], arrays
        )
        found.append(to_numpy(missing_modalities(part, names)))
    return np.concatenate(found)


def has_range(model: Model, name: str, array: Any) -> bool:
    """Whether the values of a modality have a range to speak of.

    They are one tensor of a known shape, of floats or of bytes of pictures.
    """
    if isinstance(array, Mapping) or len(array.shape) < 2:
        return False
    declared = (getattr(model, "modality_shapes", None) or {}).get(name, ())
    if isinstance(declared, Mapping) or None in (declared or ()):
        return False
    dtype = to_numpy(array[:1]).dtype
    return is_pixels(array) or (is_number(dtype) and dtype.kind not in "biu")


def as_vectors(x: Array) -> Array:
    """Values `(samples, d)` in float32; pixels as models make them of bytes."""
    scale = 255.0 if is_pixels(x) else 1.0
    return x.reshape(len(x), -1).astype("float32") / np.float32(scale)
