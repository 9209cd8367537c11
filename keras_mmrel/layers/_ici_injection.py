import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.seeds import known_seed


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    probability=Number(0, 1),
    replacement=Number(0, 1),
    emptying=Number(0, 1),
    low=Number(0, low_open=True),
    high=Number(0, low_open=True),
    seed=SEED,
)
class ICIInjection(keras.layers.Layer):
    """Confuse training samples on purpose, so that removal can be learnt.

    Every modality of every sample is confused with some probability, in
    training only. Half of the time it is *additive*, confusion inside a
    modality: noise in the shape of the deviations of the classes that the
    sample may belong to, `κ` times as large, with `log κ` uniform. The other
    half are
    *replacements*, confusion between modalities: the features are those of
    another sample of the batch, and the more the two samples' classes are
    confused with each other, the more likely it is chosen. Some modalities
    are, instead, made *empty*, as if the sensor had failed without a word.

    Args:
        probability: Float in [0, 1], of additive noise or a replacement.
        replacement: Float in [0, 1], fraction of replacements among these.
        emptying: Float in [0, 1], probability of becoming empty.
        low: Positive float, smallest `κ`.
        high: Float, largest `κ`, at least `low`.
        seed: Integer, or `None` to draw one.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Standardised features `(batch, modalities, d)`.
        variance: Variances of the sample's classes, of the same shape.
        probabilities: Class probabilities `(batch, modalities, classes)`.
        confusion: `(classes, classes)`, how much one class (row) is confused
            with another, see `GlobalICI`.
        modality_mask: `(batch, modalities)`, 1 = present. A missing modality
            is not changed and replaces none.
        empty: Zero, or features `(1, modalities, d)` of a sample
            that holds nothing.
        active: Float tensor, 1 or 0; with 0 nothing is changed.
        training: Whether to inject.

    Returns:
        Dict of `features` `(batch, modalities, d)` and, both
        `(batch, modalities)` with 1 where it happened, `injected` (any
        kind) and `replaced` (by another sample or nothing).

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = ICIInjection(1.0, emptying=0.0, seed=0)
    >>> x, p = np.ones((6, 2, 4)), np.full((6, 2, 3), 1 / 3)
    >>> out = layer(x, x, p, np.ones((3, 3)), np.ones((6, 2)), training=True)
    >>> float(keras.ops.sum(out["injected"]))
    12.0

    References:
        - The corruption of features by what confuses a class is this
          library's own choice: with clean training data nothing else teaches
          MICINet to remove.
    """

    def __init__(
        self,
        probability: float = 0.3,
        replacement: float = 0.5,
        emptying: float = 0.1,
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
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.probability = probability
        self.replacement = replacement
        self.emptying = emptying
        self.low = low
        self.high = high
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(
        self,
        inputs: Tensor,
        variance: Tensor,
        probabilities: Tensor,
        confusion: Tensor,
        modality_mask: Tensor,
        empty: Tensor = 0.0,
        active: Tensor = 1.0,
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        x = ops.cast(inputs, "float32")
        mask = ops.cast(modality_mask, "float32")
        if not training:
            none = ops.zeros_like(mask)
            return {"features": x, "injected": none, "replaced": none}
        chosen = self._below(mask, self.probability) * mask * active
        wanted = chosen * self._below(mask, self.replacement)
        own = ops.arange(ops.shape(mask)[0], dtype="int32")
        other = self._confused_sample(probabilities, confusion, own)
        exists = ops.cast(ops.not_equal(other, own), "float32")[:, None]
        replaced = wanted * exists * ops.take(mask, other, axis=0)
        added = (chosen - wanted)[:, :, None] * self._noise(x, variance)
        features = ops.where(
            replaced[:, :, None] > 0, ops.take(x, other, axis=0), x + added
        )
        emptied = self._below(mask, self.emptying) * mask * active
        features = ops.where(
            emptied[:, :, None] > 0, ops.cast(empty, "float32"), features
        )
        replaced = ops.maximum(replaced, emptied)
        return {
            "features": features,
            "injected": ops.maximum(chosen - wanted, replaced),
            "replaced": replaced,
        }

    def _uniform(self, like: Tensor) -> Tensor:
        return keras.random.uniform(
            ops.shape(like), dtype="float32", seed=self.seed_generator
        )

    def _below(self, like: Tensor, probability: float) -> Tensor:
        return ops.cast(self._uniform(like) < probability, "float32")

    def _noise(self, x: Tensor, variance: Tensor) -> Tensor:
        """Noise of deviation κ on average over a modality's features."""
        variance = ops.cast(variance, "float32")
        shape = ops.sqrt(variance / ops.mean(variance, axis=-1, keepdims=True))
        spread = math.log(self.high / self.low)
        kappa = self.low * ops.exp(spread * self._uniform(x[:, :, :1]))
        normal = keras.random.normal(
            ops.shape(x), dtype="float32", seed=self.seed_generator
        )
        return kappa * shape * normal

    def _confused_sample(
        self, probabilities: Tensor, confusion: Tensor, own: Tensor
    ) -> Tensor:
        """Draw for every sample another one, by how confused they are.

        A sample that nothing else is confused with may get its own number.
        """
        p = ops.mean(ops.cast(probabilities, "float32"), axis=1)
        chance = ops.matmul(
            ops.matmul(p, ops.cast(confusion, "float32")), ops.transpose(p)
        )
        chance = ops.where(ops.equal(own[:, None], own), 0.0, chance)
        # Largest of log(chance) plus Gumbel noise: a draw by chance.
        gumbel = -ops.log(-ops.log(self._uniform(chance) + 1e-9) + 1e-9)
        drawn = ops.argmax(ops.log(chance + 1e-12) + gumbel, axis=1)
        return ops.cast(drawn, "int32")

    def compute_output_spec(
        self, inputs: Tensor, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        flags = keras.KerasTensor(inputs.shape[:2], dtype="float32")
        return {
            "features": keras.KerasTensor(inputs.shape, dtype="float32"),
            "injected": flags,
            "replaced": flags,
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "probability": self.probability,
            "replacement": self.replacement,
            "emptying": self.emptying,
            "low": self.low,
            "high": self.high,
            "seed": self.seed,
        }
