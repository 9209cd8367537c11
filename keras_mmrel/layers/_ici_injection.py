import math
from typing import Any

import keras
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
    sample of the batch; or it becomes *empty*, as if the sensor had failed
    without a word. Some samples are hit *sparsely* in all modalities that had
    none of it: 5 to 50 % of the features get noise, or are another sample's.

    Only floating tensors get noise and sparse confusion.

    Args:
        noise: Float in [0, 1], probability of noise.
        replacement: Float in [0, 1], probability of a replacement.
        emptying: Float in [0, 1], probability of becoming empty.
        sparse: Float in [0, 1], probability that a sample is hit sparsely.
        low: Positive float, smallest `κ`.
        high: Float, largest `κ`, at least `low`.
        seed: Integer, or `None` to draw one.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Dict of modality name -> tensor with the batch first, zero
            where missing, with or without `"modality_mask"`. A missing
            modality is not changed and replaces none.
        active: Float tensor, 1 or 0; with 0 nothing is changed.
        training: Whether to inject.

    Returns:
        Dict of `inputs`, as given, and, both `(batch, modalities)` with 1
        where it happened, `injected` (any kind) and `replaced` (by another
        sample or nothing).

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
        kinds = self._kinds(mask, active)
        # Another sample for each modality, or rarely the same.
        own = ops.arange(ops.shape(mask)[0], dtype="int32")
        order = keras.random.shuffle(own, seed=self.seed_generator)
        values, injected, replaced = {}, [], []
        for index, (name, x) in enumerate(modality_arrays(inputs).items()):
            donor = ops.roll(order, index)
            noisy, other, empty, sparse = (kind[:, index] for kind in kinds)
            other = other * ops.take(mask[:, index], donor)
            if is_float(x):
                x = self._disturbed(x, donor, mask[:, index], noisy, sparse)
            else:
                noisy = sparse = ops.zeros_like(noisy)
            values[name] = keras.tree.map_structure(
                lambda v, d=donor, o=other, e=empty: _exchanged(v, d, o, e), x
            )
            replaced.append(other + empty)
            injected.append(noisy + sparse + other + empty)
        if inputs.get(MASK) is not None:
            values[MASK] = inputs[MASK]
        return {
            "inputs": values,
            "injected": ops.stack(injected, axis=1),
            "replaced": ops.stack(replaced, axis=1),
        }

    def _kinds(self, mask: Tensor, active: Tensor) -> list[Tensor]:
        """Draw what happens to a modality, `(batch, modalities)` each.

        At most one of noise, replacement, emptying and sparse confusion.
        """
        draw = self._uniform(mask)
        possible = mask * active
        kinds, low = [], 0.0
        for probability in (self.noise, self.replacement, self.emptying):
            hit = ops.logical_and(draw >= low, draw < low + probability)
            kinds.append(ops.cast(hit, "float32") * possible)
            low += probability
        hit = self._uniform(mask[:, :1]) < self.sparse
        left = ops.cast(draw >= low, "float32") * possible
        return [*kinds, ops.cast(hit, "float32") * left]

    def _disturbed(
        self,
        x: Tensor,
        donor: Tensor,
        present: Tensor,
        noisy: Tensor,
        sparse: Tensor,
    ) -> Tensor:
        """Add noise to all or some of the features, or exchange some."""
        wide = ops.cast(x, "float32")
        weight = _column(present, x) / ops.maximum(ops.sum(present), 1.0)
        mean = ops.sum(weight * wide, axis=0)
        size = ops.mean(ops.sum(weight * ops.square(wide - mean), axis=0))
        draws = self._uniform(ops.stack([present] * 3))
        kappa = self.low * ops.exp(math.log(self.high / self.low) * draws[0])
        normal = keras.random.normal(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        noise = wide + _column(kappa * ops.sqrt(size), x) * normal
        fraction = FEWEST + (MOST - FEWEST) * draws[1]
        chosen = self._uniform(x) < _column(fraction * sparse, x)
        exchanged = ops.where(
            _column(draws[2], x) < 0.5, noise, ops.take(wide, donor, axis=0)
        )
        # Nothing comes from a sample that has nothing.
        there = _column(ops.take(present, donor), x) > 0
        chosen = ops.logical_and(chosen, there)
        wide = ops.where(chosen, exchanged, wide)
        wide = ops.where(_column(noisy, x) > 0, noise, wide)
        return ops.cast(wide, x.dtype)

    def _uniform(self, like: Tensor) -> Tensor:
        return keras.random.uniform(
            ops.shape(like), dtype="float32", seed=self.seed_generator
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
