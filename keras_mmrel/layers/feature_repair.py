import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import modality_arrays
from keras_mmrel.layers._flagged_rows import on_flagged_rows
from keras_mmrel.layers._host import HOST
from keras_mmrel.layers._inputs import ModalityShapes
from keras_mmrel.layers._inputs import is_float
from keras_mmrel.layers._inputs import mask_of
from keras_mmrel.layers._repair import CLIP
from keras_mmrel.layers._repair import Judgement
from keras_mmrel.layers._repair import fit_repair
from keras_mmrel.layers._repair import judge
from keras_mmrel.layers._samples import draw_samples
from keras_mmrel.layers._stack_features import stack_features
from keras_mmrel.portable import on_host
from keras_mmrel.portable import pick
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    rank=Integer(1),
    radius=Number(0, low_open=True),
    max_features=Integer(1),
    samples=Integer(1),
    seed=Integer(0),
)
class FeatureRepair(TensorLayer):
    """Replace single features that do not fit by what the others let expect.

    A modality's clean features `u`, standardised, are described by a few
    factors, `u = W h + ε`. Each feature of a sample is compared with what all
    the others let expect of it; further off than `radius` deviations, it is
    not believed (`q` near 0), and takes no part in judging the others. What
    is not believed is replaced by its expectation given what is. Where more
    than half of a modality's features are off, they are taken to carry noise
    of one variance `τ`, which then is estimated, and every feature is pulled
    to its expectation by `τ / (ψ + τ)`, with `ψ` the variance of its `ε`:
    noise is smoothed, not thrown away.

    `modality_quality` is the fraction of believed features, times how typical
    their distance from what was expected is among clean samples, both in
    [0, 1].

    Statistics come from `adapt`, as those of `keras.layers.Normalization` do.
    A model that is given this layer as `quality=` adapts it to its training
    data before the first step, unless that has been done. Until then
    everything passes as it is. Labels are not used.

    Modalities with more than `max_features` values, integer tensors, nested
    inputs, tensors with a dimension beside the batch that varies, and those
    that had fewer than 30 samples pass unchanged with a quality of 1. Nothing
    can be seen in a modality that belongs to another sample.

    Args:
        rank: Positive integer, the most factors of a modality. The time that it
            takes grows with its square.
        radius: Positive float, in deviations of a clean residual.
        max_features: Positive integer.
        samples: Positive integer, the most training samples that `adapt`
            learns from, drawn at random.
        seed: Non-negative integer, of that draw.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Dict of modality name -> tensor with the batch first, with or
            without `"modality_mask"` `(batch, modalities)`, whose columns are
            in the order of the dict. A missing modality may hold NaN.

    Returns:
        Dict of the repaired tensors, `"modality_mask"`, and
        `"modality_quality"` `(batch, modalities)`, 0 where missing.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 8))
    >>> repair = keras_mmrel.layers.FeatureRepair()
    >>> repair.adapt({"a": x})
    >>> bad = x.copy()
    >>> bad[:, 0] += 9.0
    >>> repaired = keras.ops.convert_to_numpy(repair({"a": bad})["a"])
    >>> bool(abs(repaired - x)[:, 0].mean() < 0.5)
    True

    References:
        - Factor analysis with a feature left out, and every formula of the
          judgement, are this library's own choice.
    """

    def __init__(
        self,
        rank: int = 8,
        radius: float = 4.0,
        max_features: int = 1024,
        samples: int = 2048,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.rank = rank
        self.radius = radius
        self.max_features = max_features
        self.samples = samples
        self.seed = seed

    def build(self, input_shape: Mapping[str, Any]) -> None:
        self.modality_shapes = ModalityShapes(input_shape)
        fixed = self.modality_shapes.fixed
        sizes = {name: math.prod(shape) for name, shape in fixed.items()}
        # Sorted, so that weights do not depend on the order of modalities.
        self.judged = sorted(
            name
            for name, size in sizes.items()
            if 0 < size <= self.max_features
        )
        self.sizes = [sizes[name] for name in self.judged]
        count, width = len(self.judged), max(self.sizes, default=1)
        self._real = (np.arange(width) < np.array(self.sizes)[:, None]).astype(
            "float32"
        )
        shapes = {
            "mean": (count, width),
            "deviation": (count, width),
            "low": (count, width),
            "high": (count, width),
            "factors": (count, width, min(self.rank, width)),
            "noise": (count, width),
            "distance": (count, 2),
            "slack": (count, 1),
            "known": (count, 1),
        }
        self.states = {
            name: add_state(self, name, shape)
            for name, shape in shapes.items()
            if count
        }

    def get_build_config(self) -> dict | None:
        # Lists, as a saved file has them.
        config = super().get_build_config()
        return config and {"input_shape": _lists(config["input_shape"])}

    @property
    def adapted(self) -> bool:
        """Whether `adapt` has found something to judge a modality by."""
        return bool(
            self.built
            and self.judged
            and ops.convert_to_numpy(self.states["known"]).any()
        )

    def call(self, inputs: Modalities) -> dict[str, Any]:
        self.modality_shapes.check(inputs)
        mask = mask_of(inputs)
        values = modality_arrays(inputs)
        quality = ops.ones_like(mask)
        judged = self._judged_of(values)
        if judged:
            state, real, x, u = self._standardised(values, mask, judged)
            found = self._judge(u, state, real)
            known = state["known"][:, 0] > 0
            # To their columns; 1 for what is not judged.
            place = np.eye(len(values), dtype="float32")[
                [list(values).index(name) for name in judged]
            ]
            quality = ops.where(known, found.quality, 1.0)
            quality = ops.matmul(quality, ops.convert_to_tensor(place))
            rest = ops.convert_to_tensor(1.0 - place.sum(axis=0))
            quality = quality + rest
            x = _repaired(x, state, found.keep, found.expected)
            values |= self._taken_apart(x, values, mask, judged)
        if inputs.get(MASK) is not None:
            values[MASK] = inputs[MASK]
        values.setdefault(MASK, mask)
        return {**values, QUALITY: ops.stop_gradient(quality * mask)}

    def repair_rows(
        self, inputs: Modalities, flags: dict[str, Tensor]
    ) -> dict[str, Any]:
        """Repair some rows, for less than what a call costs.

        Args:
            inputs: As in a call, with `"modality_mask"`.
            flags: For each modality that may be repaired `(batch,)` booleans.

        Returns:
            Dict of the modalities. What was not flagged may be repaired, too.
        """
        mask, values = inputs[MASK], modality_arrays(inputs)
        judged = [name for name in self._judged_of(values) if name in flags]
        if not judged:
            return values
        state, real, x, u = self._standardised(values, mask, judged)

        def judge_rows(rows: Tensor) -> Tensor:
            found = self._judge(rows, state, real)
            return ops.concatenate([found.keep, found.expected], axis=-1)

        rows = ops.stack([flags[name] for name in judged], axis=1)
        size = int(real.shape[1])
        found = on_flagged_rows(judge_rows, u, rows, 2 * size)
        x = _repaired(x, state, found[..., :size], found[..., size:])
        return values | self._taken_apart(x, values, mask, judged)

    def _judged_of(self, values: dict[str, Any]) -> list[str]:
        return [n for n in self.judged if n in values and is_float(values[n])]

    def _standardised(
        self, values: dict[str, Tensor], mask: Tensor, judged: list[str]
    ) -> tuple[dict[str, Tensor], Array, Tensor, Tensor]:
        """Statistics, which features are real, the features as given, and `u`.

        The last two are `(batch, modalities, d)`, in the order of `judged`.
        """
        state = {k: ops.convert_to_tensor(v) for k, v in self.states.items()}
        real = self._real
        if judged != self.judged:
            own = [self.judged.index(name) for name in judged]
            state = {k: ops.take(v, own, axis=0) for k, v in state.items()}
            real = real[own]
        present = self._present(values, mask, judged)
        x = stack_features(
            [
                ops.reshape(values[n], (-1, math.prod(values[n].shape[1:])))
                for n in judged
            ]
        )
        x = ops.cast(x, "float32")
        x = ops.pad(x, [[0, 0], [0, 0], [0, real.shape[1] - x.shape[2]]])
        x = ops.where(present > 0, x, 0.0)
        deviation = _deviation(state)
        u = ops.stop_gradient((x - state["mean"]) / deviation)
        u = ops.clip(u, -CLIP, CLIP) * ops.convert_to_tensor(real)
        return state, real, x, u

    def _present(
        self, values: dict[str, Any], mask: Tensor, judged: list[str]
    ) -> Tensor:
        names = list(values)
        columns = [names.index(name) for name in judged]
        return pick(mask, columns)[:, :, None]

    def _judge(
        self, u: Tensor, state: dict[str, Tensor], real: Array
    ) -> Judgement:
        if not on_host(u):
            return judge(u, state, real, self.radius)
        read = HOST.convert_to_tensor
        known = {k: read(v) for k, v in state.items()}
        host = judge(read(u), known, real, self.radius, HOST)
        return Judgement(*map(ops.convert_to_tensor, host))

    def _taken_apart(
        self,
        x: Tensor,
        values: dict[str, Tensor],
        mask: Tensor,
        judged: list[str],
    ) -> dict[str, Tensor]:
        """The modalities of repaired features, zero where missing."""
        x = ops.where(self._present(values, mask, judged) > 0, x, 0.0)
        taken = {}
        for i, name in enumerate(judged):
            given = values[name]
            size = math.prod(given.shape[1:])
            value = ops.reshape(x[:, i, :size], ops.shape(given))
            taken[name] = ops.cast(value, given.dtype)
        return taken

    def adapt(self, inputs: Modalities, y: Labels | None = None) -> None:
        """Learn from clean samples what fits.

        What was known before is forgotten.

        Args:
            inputs: As in a call, but of arrays or eager tensors.
            y: Not used; models hand on what they have.

        Raises:
            ValueError: If the inputs are none, hold no sample or not the same
                number of them, a value of a judged modality that is present
                is not finite, or beyond 1e15, or a mask holds other values
                than 0 and 1.
        """
        samples = draw_samples(self, inputs)
        new = {
            name: np.zeros(value.shape, "float32")
            for name, value in self.states.items()
        }
        for name, x, _ in samples.vectors():
            self._put(new, self.judged.index(name), x, samples.rng)
        for name, value in self.states.items():
            value.assign(new[name])

    def _put(
        self,
        new: dict[str, Array],
        index: int,
        x: Array,
        rng: np.random.Generator,
    ) -> None:
        fit = fit_repair(x, self.rank, self.radius, rng)
        if fit is None:
            return
        new["known"][index] = 1.0
        for name, value in fit._asdict().items():
            target = new[name][index]
            target[tuple(slice(0, n) for n in value.shape)] = value

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rank": self.rank,
            "radius": self.radius,
            "max_features": self.max_features,
            "samples": self.samples,
            "seed": self.seed,
        }


def _deviation(state: dict[str, Tensor]) -> Tensor:
    return ops.where(state["deviation"] > 0, state["deviation"], 1.0)


def _repaired(
    x: Tensor, state: dict[str, Tensor], keep: Tensor, expected: Tensor
) -> Tensor:
    """Features with what is expected in the place of what is not kept."""
    known = state["known"] > 0
    expected = state["mean"] + _deviation(state) * expected
    keep = ops.stop_gradient(ops.where(known, keep, 1.0))
    # A feature that stays, stays to the last bit.
    return x + (1.0 - keep) * (ops.stop_gradient(expected) - x)


def _lists(shape: Any) -> Any:
    if isinstance(shape, Mapping):
        return {name: _lists(inner) for name, inner in shape.items()}
    return list(shape)
