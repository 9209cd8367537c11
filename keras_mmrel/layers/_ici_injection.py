import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import modality_arrays
from keras_mmrel.layers._inputs import is_float
from keras_mmrel.layers._inputs import mask_of
from keras_mmrel.seeds import known_seed

# Fractions of features that are hit where only some are.
FEWEST, MOST = 0.05, 0.5


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    noise=Number(0, 1),
    replacement=Number(0, 1),
    emptying=Number(0, 1),
    sparse=Number(0, 1),
    announced=Number(0, 1),
    low=Number(0, low_open=True),
    high=Number(0, low_open=True),
    seed=SEED,
)
class ICIInjection(keras.layers.Layer):
    """Confuse training samples on purpose, so that removal can be learnt.

    It happens to the inputs, before anything has been made of them, and in
    training only. A modality of a sample gets *noise*, confusion inside a
    modality, `κ` times as large as its features vary, with `log κ` uniform;
    or a *replacement*, confusion between modalities: it is that of another
    sample of the batch; or it becomes *empty*, as if the sensor had failed:
    without a word, or announced as missing. Some samples are hit *sparsely*
    in all modalities that had none of it: 5 to 50 % of the features get noise,
    or are another sample's.

    Only floating tensors get noise and sparse confusion.

    Args:
        noise: Float in [0, 1], probability of noise.
        replacement: Float in [0, 1], probability of a replacement.
        emptying: Float in [0, 1], probability of becoming empty.
        sparse: Float in [0, 1], probability that a sample is hit sparsely.
        low: Positive float, smallest `κ`.
        high: Float, largest `κ`, at least `low`.
        announced: Float in [0, 1], probability that a modality which becomes
            empty is missing in the mask, too. It is not where the sample has
            no other one.
        seed: Integer, or `None` to draw one.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Dict of modality name -> tensor with the batch first, zero
            where missing, with or without `"modality_mask"`. A missing
            modality is not changed and replaces none.
        active: Float tensor, 1 or 0; with 0 nothing is changed.
        training: Whether to inject.

    Returns:
        Dict of `inputs`, as given, in training with a `"modality_mask"`, and,
        both `(batch, modalities)` with 1 where it happened, `injected` (any
        kind) and `replaced` (by another sample or nothing).

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = ICIInjection(1.0, 0.0, 0.0, seed=0)
    >>> x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    >>> out = layer({"a": x, "b": x}, training=True)
    >>> float(keras.ops.sum(out["injected"]))
    12.0

    References:
        - The corruption of inputs is this library's own choice: with clean
          training data nothing else teaches MICINet to remove.
    """

    def __init__(
        self,
        noise: float = 0.12,
        replacement: float = 0.12,
        emptying: float = 0.08,
        sparse: float = 0.2,
        low: float = 1.0,
        high: float = 16.0,
        announced: float = 0.5,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not low <= high:
            raise ValueError(
                "`low` and `high` must be in this order. "
                f"Received: low={low!r}, high={high!r}"
            )
        if noise + replacement + emptying > 1.0:
            raise ValueError(
                "`noise`, `replacement` and `emptying` must not sum to more "
                f"than 1. Received: noise={noise!r}, "
                f"replacement={replacement!r}, emptying={emptying!r}"
            )
        super().__init__(autocast=False, **kwargs)
        self.noise = noise
        self.replacement = replacement
        self.emptying = emptying
        self.sparse = sparse
        self.announced = announced
        self.low = low
        self.high = high
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(
        self,
        inputs: Modalities,
        active: Tensor = 1.0,
        training: bool | None = None,
    ) -> dict[str, Any]:
        mask = mask_of(inputs)
        if not training:
            none = ops.zeros_like(mask)
            return {"inputs": dict(inputs), "injected": none, "replaced": none}
        values = modality_arrays(inputs)
        floats = {n: x for n, x in values.items() if is_float(x)}
        noisy, other, empty, sparse = self._kinds(mask, active)
        can = np.array([[name in floats for name in values]], "float32")
        can = ops.convert_to_tensor(can)
        noisy, sparse = noisy * can, sparse * can
        # Another sample for each modality, or rarely the same.
        count = ops.shape(mask)[0]
        own = ops.arange(count, dtype="int32")
        order = keras.random.shuffle(own, seed=self.seed_generator)
        shifts = ops.arange(len(values), dtype="int32")
        donor = ops.take(order, (own[:, None] + shifts) % count)
        there = ops.take_along_axis(mask, donor, axis=0)
        other, sparse = other * there, sparse * there
        if floats:
            columns = [i for i, n in enumerate(values) if n in floats]
            kinds = [noisy, other, empty, sparse]
            values |= self._disturbed(floats, columns, mask, kinds, order)
        for index, (name, x) in enumerate(values.items()):
            if name not in floats:
                values[name] = keras.tree.map_structure(
                    lambda v, i=index: _exchanged(
                        v, donor[:, i], other[:, i], empty[:, i]
                    ),
                    x,
                )
        if self.announced:
            told = ops.cast(
                self._uniform(ops.shape(mask)) < self.announced, "float32"
            )
            left = mask * (1.0 - empty * told)
            some = ops.max(left, axis=1, keepdims=True)
            values[MASK] = ops.where(some > 0, left, mask)
        elif inputs.get(MASK) is not None:
            values[MASK] = inputs[MASK]
        return {
            "inputs": values,
            # At most one is 1. A chain of `+` would be summed in any order.
            "injected": ops.maximum(
                ops.maximum(noisy, sparse), ops.maximum(other, empty)
            ),
            "replaced": ops.maximum(other, empty),
        }

    def _kinds(self, mask: Tensor, active: Tensor) -> list[Tensor]:
        """Draw what happens to a modality, `(batch, modalities)` each.

        At most one of noise, replacement, emptying and sparse confusion.
        """
        draw = self._uniform(ops.shape(mask))
        possible = mask * active
        kinds, low = [], 0.0
        for probability in (self.noise, self.replacement, self.emptying):
            hit = ops.logical_and(draw >= low, draw < low + probability)
            kinds.append(ops.cast(hit, "float32") * possible)
            low += probability
        hit = self._uniform((ops.shape(mask)[0], 1)) < self.sparse
        left = ops.cast(draw >= low, "float32") * possible
        return [*kinds, ops.cast(hit, "float32") * left]

    def _disturbed(
        self,
        inputs: dict[str, Tensor],
        columns: list[int],
        mask: Tensor,
        kinds: list[Tensor],
        order: Tensor,
    ) -> dict[str, Tensor]:
        """Confuse floating tensors, all at once.

        Args:
            inputs: Name -> tensor with the batch first.
            columns: Their columns in the mask.
            mask: `(batch, modalities)`.
            kinds: As `_kinds` returns them.
            order: `(batch,)`, the samples in the order in which the first
                modality is replaced; each next one is one sample further.
        """
        shapes = [x.shape[1:] for x in inputs.values()]
        sizes = [math.prod(shape) for shape in shapes]
        ends = np.cumsum(sizes).tolist()
        own = np.repeat(columns, sizes).astype("int32")
        # Of each feature its modality. A product with it copies flags to all
        # features, for which backends take less time than for an index.
        place = np.eye(mask.shape[1], dtype="float32")[:, own]
        means = (place / np.bincount(own)[own]).astype("float32")
        means = ops.convert_to_tensor(means)
        place = ops.convert_to_tensor(place)
        x = ops.concatenate(
            [
                ops.reshape(ops.cast(x, "float32"), (-1, size))
                for x, size in zip(inputs.values(), sizes, strict=True)
            ],
            axis=1,
        )
        noisy, other, empty, sparse = kinds
        draws = self._uniform((3, *ops.shape(mask)))
        weight = mask / ops.maximum(ops.sum(mask, axis=0), 1.0)
        weight = ops.transpose(weight)
        mean = ops.sum(place * ops.matmul(weight, x), axis=0)
        squares = ops.matmul(weight, ops.square(x - mean))
        # How much a modality's features vary, `(modalities,)`.
        size = ops.sqrt(ops.sum(means * squares, axis=1))
        kappa = self.low * ops.exp(math.log(self.high / self.low) * draws[0])
        normal = keras.random.normal(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        half = ops.cast(draws[2][:, :1] < 0.5, "float32")
        share = sparse * (FEWEST + (MOST - FEWEST) * draws[1])
        flags = [
            kappa * size * (noisy + sparse * half),
            other + sparse * (1.0 - half),
            empty,
            # At most one is not zero.
            share + ops.maximum(noisy, ops.maximum(other, empty)),
        ]
        amount, takes, empty, share = ops.unstack(
            ops.matmul(ops.stack(flags), place), 4
        )
        shuffled = ops.take(x, order, axis=0)
        taken = ops.concatenate(
            [
                ops.roll(shuffled[:, end - size : end], -column, axis=0)
                for column, size, end in zip(columns, sizes, ends, strict=True)
            ],
            axis=1,
        )
        changed = ops.where(takes > 0, taken, x + amount * normal)
        changed = ops.where(empty > 0, 0.0, changed)
        x = ops.where(self._uniform(ops.shape(x)) < share, changed, x)
        values = {}
        for name, shape, size, end in zip(
            inputs, shapes, sizes, ends, strict=True
        ):
            part = ops.reshape(x[:, end - size : end], (-1, *shape))
            values[name] = ops.cast(part, inputs[name].dtype)
        return values

    def _uniform(self, shape: Any) -> Tensor:
        return keras.random.uniform(
            shape, dtype="float32", seed=self.seed_generator
        )

    def compute_output_spec(
        self, inputs: Modalities, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        names = list(modality_arrays(inputs))
        first = keras.tree.flatten(inputs[names[0]])[0]
        flags = keras.KerasTensor((first.shape[0], len(names)), "float32")
        return {"inputs": dict(inputs), "injected": flags, "replaced": flags}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "noise": self.noise,
            "replacement": self.replacement,
            "emptying": self.emptying,
            "sparse": self.sparse,
            "announced": self.announced,
            "low": self.low,
            "high": self.high,
            "seed": self.seed,
        }


def _column(values: Tensor, x: Tensor) -> Tensor:
    """Values `(batch,)` so that they broadcast against `x`."""
    return ops.reshape(values, (-1, *[1] * (len(x.shape) - 1)))


def _exchanged(
    x: Tensor, donor: Tensor, other: Tensor, empty: Tensor
) -> Tensor:
    """Rows of another sample, or zeros, where the flags say so."""
    x = ops.where(_column(other, x) > 0, ops.take(x, donor, axis=0), x)
    return ops.where(_column(empty, x) > 0, ops.zeros_like(x), x)
