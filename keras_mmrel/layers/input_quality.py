import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import modality_arrays
from keras_mmrel.layers._checks import check_modality_tensors
from keras_mmrel.layers._host import HOST
from keras_mmrel.layers._inputs import ModalityShapes
from keras_mmrel.layers._inputs import is_float
from keras_mmrel.layers._inputs import mask_of
from keras_mmrel.layers._quality_fit import BINS
from keras_mmrel.layers._quality_fit import CAP
from keras_mmrel.layers._quality_fit import CLEANED
from keras_mmrel.layers._quality_fit import CLIP
from keras_mmrel.layers._quality_fit import CURVES
from keras_mmrel.layers._quality_fit import FAR
from keras_mmrel.layers._quality_fit import PREFERENCE
from keras_mmrel.layers._quality_fit import RAW
from keras_mmrel.layers._quality_fit import QualityFit
from keras_mmrel.layers._quality_fit import fit_quality
from keras_mmrel.layers._samples import draw_samples
from keras_mmrel.layers._samples import label_numbers
from keras_mmrel.layers.feature_repair import FeatureRepair
from keras_mmrel.portable import nothing_is
from keras_mmrel.portable import on_host
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    shrinkage=Number(0, 1, low_open=True),
    max_features=Integer(1),
    samples=Integer(1),
    seed=Integer(0),
    cleaning=Either("repair", Flag()),
)
class InputQuality(TensorLayer):
    """Say how far each modality of a sample is to be believed.

    Whether a modality is damaged shows in how its features fit each other,
    also where none leaves its range: each is compared with what all others
    let expect of it. The mean square of these differences, in units of those
    of clean samples, is the sample's *energy*: half of its weight is spread
    evenly, half over the features that tell the classes. The log of it is
    unusual above, or below, that of 90 % of clean samples.

    What an unusual energy means for the decision is learnt as well, for each
    modality: clean training samples are corrupted in nineteen ways and
    degrees (features from other samples, noise on all features or on some,
    features lost), and a small classifier says how often it is still right,
    each class counting the same, however rare it is.
    `modality_quality` is that accuracy above chance at the sample's energy,
    as a fraction of the one on clean samples: near 1 where such a modality is
    as good as before. It is an average over all that was simulated, not a
    probability that this sample is well, and seldom reaches 0: what looks
    worst in simulation still knew something, with few samples about a third.

    Features outside their training range can be taken out, by replacing them
    with their mean, or be left in. Where only some are wild the first is
    better, where all are noisy the second; each way has its own energies and
    accuracies, and a sample goes the way that promises more.

    Statistics come from `adapt`, as those of `keras.layers.Normalization` do;
    a model that is given this layer as `quality=` adapts it to its training
    data before the first step, unless that has been done: give each model
    (each fold of a cross-validation) a layer of its own. Of several processes
    with parts of the data, the first one's statistics count in all. Until it
    is adapted, as with `train_on_batch` alone, everything passes as it is.

    A sample that simply is another one cannot be noticed, nor can a modality
    that belongs to another sample: its features agree with each other. One
    feature alone shows no more than its range.

    Modalities with more than `max_features` values, integer tensors, nested
    inputs, tensors with a dimension beside the batch that varies, and those
    that had fewer than 30 samples pass unchanged with a quality of 1. A value
    that is not finite, or further than 50 deviations from the mean, is taken
    out in any case.

    Args:
        shrinkage: Float in (0, 1], of the correlations between features.
        max_features: Positive integer; the matrix that is kept for a modality
            has that many rows and columns at most.
        samples: Positive integer, the most training samples that `adapt`
            learns from, drawn at random.
        seed: Non-negative integer, of the samples and their corruptions.
        cleaning: `True` to take features out as above; `"repair"` to replace
            single features that do not fit by what the others let expect
            (`FeatureRepair`), which keeps more where few are wild, in
            modalities whose energy is unusual alone; or `False` to leave them
            all. The quality is the same in all three cases.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Dict of modality name -> tensor with the batch first, with or
            without `"modality_mask"` `(batch, modalities)`, whose columns are
            in the order of the dict. A missing modality may hold NaN.

    Returns:
        Dict of the same tensors, `"modality_mask"`, and `"modality_quality"`
        `(batch, modalities)` in [0, 1], 0 where missing.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> x = y[:, None] + 0.3 * rng.normal(size=(200, 6))
    >>> quality = keras_mmrel.layers.InputQuality()
    >>> quality.adapt({"a": x, "b": x}, y)
    >>> shuffled = np.stack([rng.permutation(column) for column in x.T], 1)
    >>> out = quality({"a": x, "b": shuffled})["modality_quality"]
    >>> clean, bad = keras.ops.convert_to_numpy(out).mean(axis=0)
    >>> bool(clean > 0.95 and bad < 0.7)
    True

    References:
        - Typicality by conditional residuals, reliability by simulated
          corruption, and every formula are this library's own choice.
    """

    def __init__(
        self,
        shrinkage: float = 0.2,
        max_features: int = 1024,
        samples: int = 2048,
        seed: int = 0,
        cleaning: bool | str = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.shrinkage = shrinkage
        self.max_features = max_features
        self.samples = samples
        self.seed = seed
        self.cleaning = cleaning
        if cleaning == "repair":
            self.repair = FeatureRepair(
                max_features=max_features,
                samples=samples,
                seed=seed,
                name="repair",
            )

    def build(self, input_shape: Mapping[str, Any]) -> None:
        self.modality_shapes = ModalityShapes(input_shape)
        self.judged: dict[str, dict[str, Any]] = {}
        # Files of weights go by the place of a weight: one that does not
        # depend on the order in which the modalities come.
        for index, name in enumerate(sorted(self.modality_shapes.names)):
            size = math.prod(self.modality_shapes.fixed.get(name, ()))
            if (
                name in self.modality_shapes.fixed
                and 0 < size <= self.max_features
            ):
                self.judged[name] = self._states(index, size)
        if self.cleaning == "repair":
            self.repair.build(input_shape)

    def _states(self, index: int, size: int) -> dict[str, Any]:
        shapes = {
            "mean": (size,),
            "deviation": (size,),
            "low": (size,),
            "high": (size,),
            "precision": (size, size),
            "scale": (size,),
            "importance": (size,),
            "limits": (CURVES,),
            "knots": (CURVES, BINS + 1),
            "reliabilities": (CURVES, BINS + 1),
            "known": (),
        }
        return {
            name: add_state(self, f"{name}_{index}", shape)
            for name, shape in shapes.items()
        }

    @property
    def adapted(self) -> bool:
        """Whether `adapt` has found something to judge a modality by."""
        return self.built and any(
            ops.convert_to_numpy(states["known"]) > 0
            for states in self.judged.values()
        )

    def knows(self, names: Sequence[str]) -> Tensor:
        """1 for each modality that is judged, 0 for one that passes."""
        if not self.built:
            return ops.zeros((len(names),))
        return ops.stack(
            [
                ops.cast(self.judged[name]["known"] > 0, "float32")
                if name in self.judged
                else ops.zeros(())
                for name in names
            ]
        )

    def call(self, inputs: Modalities) -> dict[str, Any]:
        check_modality_tensors(inputs)
        self.modality_shapes.check(inputs)
        mask = mask_of(inputs)
        values, qualities, unusual = {}, [], {}
        for index, (name, x) in enumerate(modality_arrays(inputs).items()):
            values[name], quality = x, ops.ones_like(mask[:, index])
            if name in self.judged and is_float(x):
                present = mask[:, index]
                values[name], quality, raw = self._judge(name, x, present)
                unusual[name] = raw < 1.0
            qualities.append(quality)
        if self.cleaning == "repair":
            values = self._repaired(values, mask, unusual)
        quality = ops.stop_gradient(ops.stack(qualities, axis=1) * mask)
        if inputs.get(MASK) is not None:
            mask = inputs[MASK]
        return {**values, MASK: mask, QUALITY: quality}

    def _repaired(
        self, values: Modalities, mask: Tensor, unusual: dict[str, Tensor]
    ) -> dict[str, Any]:
        """Repair what looks unusual; the rest stays to the last bit."""
        if nothing_is(unusual.values()):
            return dict(values)
        repaired = self.repair.repair_rows({**values, MASK: mask}, unusual)
        found = dict(values)
        for name, rows in unusual.items():
            x = values[name]
            rows = ops.reshape(rows, (-1, *[1] * (len(x.shape) - 1)))
            found[name] = ops.where(rows, repaired[name], x)
        return found

    def _judge(
        self, name: str, x: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values to use, their quality, that of `x` `(batch,)`."""
        if on_host(x):
            read = HOST.convert_to_tensor
            state = {k: read(v) for k, v in self.judged[name].items()}
            use, *found = self._thought(state, read(x), read(present), HOST)
            # What is cleaned may be learnt from, by gradients.
            if not self.cleaning or not use.any():
                raw, quality = map(ops.convert_to_tensor, found[1:])
                return x, quality, raw
        state = {
            key: ops.convert_to_tensor(value)
            for key, value in self.judged[name].items()
        }
        use, cleaned, raw, quality = self._thought(state, x, present, ops)
        if not self.cleaning:
            return x, quality, raw
        shape = (-1, *[1] * (len(x.shape) - 1))
        cleaned = ops.reshape(cleaned, (-1, *x.shape[1:]))
        values = ops.where(
            ops.reshape(use, shape), ops.cast(cleaned, x.dtype), x
        )
        return values, quality, raw

    def _thought(
        self, state: dict[str, Tensor], x: Tensor, present: Tensor, xp: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is thought of rows, by `keras.ops` or by NumPy.

        Returns:
            Whether the cleaned rows are to be used, these, the quality of the
            rows as they are, and that of what is used.
        """
        rows = xp.reshape(xp.cast(x, "float32"), (-1, state["mean"].shape[0]))
        rows = xp.where(present[:, None] > 0, rows, state["mean"])
        # Operators where there are some: they cost a third of a function.
        inside = (rows >= state["low"]) & (rows <= state["high"])
        kept = xp.cast(inside, "float32")
        replaced = 1.0 - xp.mean(kept, axis=1)
        distance = abs(rows - state["mean"]) - FAR * state["deviation"]
        # Also what is no number.
        far = xp.any(~(distance <= 0), axis=1)
        raw, clean = self._reliabilities(
            state, rows, inside, kept, replaced, xp
        )
        raw = xp.where(far, 0.0, raw)
        cleaned = xp.where(inside, rows, state["mean"])
        known = state["known"] > 0
        use = ((clean > PREFERENCE * raw) & (raw < 1.0)) | far
        # Before `adapt` there is no range, and nothing to clean.
        use = use & known & (replaced > 0)
        quality = xp.where(known, xp.where(use, clean, raw), 1.0)
        if self.cleaning == "repair":
            use = use & far
        return use, cleaned, raw, quality

    def _reliabilities(
        self,
        state: dict[str, Tensor],
        rows: Tensor,
        inside: Tensor,
        kept: Tensor,
        replaced: Tensor,
        xp: Any,
    ) -> tuple[Tensor, Tensor]:
        """Accuracy above chance, clean = 1, `(n,)`, promised by both ways.

        Args:
            state: Statistics of the modality.
            rows: `(n, d)`.
            inside: Whether a feature is inside its range.
            kept: The same as numbers.
            replaced: Fraction of the features that are not, `(n,)`.
            xp: `keras.ops`, or `HOST` for NumPy.

        Returns:
            That of the rows as they are, and of those with means in the place
            of what is outside.
        """
        deviation = xp.maximum(state["deviation"], 1e-30)
        u = xp.clip((rows - state["mean"]) / deviation, -CLIP, CLIP)
        ways: list[Any] = [None, None]
        ways[RAW], ways[CLEANED] = u, xp.where(inside, u, 0.0)
        precision = state["precision"]
        residuals = abs(xp.matmul(xp.stack(ways), precision))
        residuals = residuals / xp.maximum(xp.diagonal(precision), 1e-6)
        residuals = residuals / xp.maximum(state["scale"], 1e-6)
        capped = xp.minimum(residuals, CAP)
        squares = capped * capped
        importance = state["importance"]
        energy = xp.matmul(squares[RAW], importance)
        # By what is kept: means that stand in for others fit too well.
        clean = xp.matmul(squares[CLEANED] * kept, importance)
        clean = clean / xp.maximum(xp.matmul(kept, importance), 1e-9)
        energy, clean = xp.log(energy + 1e-9), xp.log(clean + 1e-9)
        # Below and above what is usual, and what is lost by the replacement,
        # however well the rest fits.
        signs = np.array([-1, 1, -1, 1, 1], "float32")
        found = xp.stack([energy, energy, clean, clean, replaced], axis=1)
        found = (found - state["limits"]) * xp.convert_to_tensor(signs)
        curves = _curves(state, found, xp)
        raw = xp.min(curves[:, 2 * RAW : 2 * RAW + 2], axis=1)
        return raw, xp.min(curves[:, 2 * CLEANED :], axis=1)

    def adapt(self, inputs: Modalities, y: Labels) -> None:
        """Learn from clean samples what is usual, and what damage costs.

        What was known before is forgotten.

        Args:
            inputs: As in a call, but of arrays or eager tensors.
            y: Class numbers `(samples,)`, or one-hot rows.

        Raises:
            ValueError: If the inputs or labels are none, hold no sample or
                not the same number of them, a value of a judged modality that
                is present is not finite, or beyond 1e15, or a mask holds other
                values than 0 and 1.
        """
        y = label_numbers(inputs, y)
        samples = draw_samples(self, inputs)
        y = y[samples.chosen]
        fits = {}
        for name, x, there in samples.vectors():
            fits[name] = fit_quality(x, y[there], self.shrinkage, samples.rng)
        for name, state in self.judged.items():
            self._keep(state, fits.get(name))
        if self.cleaning == "repair":
            self.repair.adapt(inputs)

    def _keep(self, state: dict[str, Any], fit: QualityFit | None) -> None:
        state["known"].assign(0.0 if fit is None else 1.0)
        for key, value in (fit._asdict() if fit else {}).items():
            state[key].assign(value.astype("float32"))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "shrinkage": self.shrinkage,
            "max_features": self.max_features,
            "samples": self.samples,
            "seed": self.seed,
            "cleaning": self.cleaning,
        }


def _curves(state: dict[str, Tensor], x: Tensor, xp: Any) -> Tensor:
    """Reliabilities at distances beyond limits, `(n, CURVES)` both.

    Each curve is piecewise linear.
    """
    knots, values = state["knots"], state["reliabilities"]
    steps = xp.maximum(knots[:, 1:] - knots[:, :-1], 1e-6)
    slopes = (values[:, 1:] - values[:, :-1]) / steps
    covered = xp.clip(x[:, :, None] - knots[:, :-1], 0.0, steps)
    return values[:, 0] + xp.sum(slopes * covered, axis=2)
