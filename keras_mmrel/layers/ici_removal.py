from typing import Any

import keras
from keras import ops

from keras_mmrel._branches import branches
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(seed=SEED)
class ICIRemoval(TensorLayer):
    """Infer what confuses a sample and remove it from its features.

    Every feature `z` is compared with what is usual for the classes that the
    sample may belong to, a Gaussian of mean `μ` and variance `v`. Its
    surprise `s = log(1 + (z - μ)² / v)` and that of the whole modality,
    `t = log(mean (z - μ)² / v)`, open a gate
    `g = sigmoid(b + w₁ s + w₂ t)`. The sample's inter-class confusing
    information (ICI) is `n = μ + g (z - μ)`, in training with noise of a
    learnt variance, and `z - n` is what is kept. The more surprising a
    feature, the more of it is removed: what is kept stays bounded while noise
    grows.

    Args:
        seed: Integer, or `None` to draw one. Seed of the noise.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Standardised features `(batch, modalities, d)`.
        mean: `(batch, modalities, d)`, or `None` for 0.
        variance: `(batch, modalities, d)`, positive, or `None` for 1: what
            features are standardised to, by `RunningStandardization` say.
        training: Whether the ICI is noisy.

    Returns:
        Dict of `kept` and `ici`, `(batch, modalities, d)`, which add up to
        the inputs; `removed`, of the same shape, the gate `g` in [0, 1]; and of
        `(batch, modalities)`: `ici_fraction` in [0, 1], the
        ICI's length over that of both; `surprise`, which is `t`; and
        `divergence`, the Kullback-Leibler divergence of the ICI's distribution
        from the Gaussian, averaged over the features.

    Example:

    >>> layer = keras_mmrel.layers.ICIRemoval()
    >>> usual, odd = np.ones((1, 2, 4)), 9 * np.ones((1, 2, 4))
    >>> z = np.concatenate([usual, odd])
    >>> fraction = layer(z)["ici_fraction"]
    >>> bool(fraction[1, 0] > fraction[0, 0])
    True

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1), the local ICI and its
          removal. The formulas are this library's own.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(
        self,
        inputs_shape: tuple,
        mean_shape: tuple | None = None,
        variance_shape: tuple | None = None,
    ) -> None:
        check_stacked(inputs_shape)

        def weight(name: str, value: float) -> Tensor:
            return self.add_weight(
                shape=tuple(inputs_shape[1:]),
                initializer=keras.initializers.Constant(value),
                name=name,
            )

        self.bias = weight("bias", -2.0)
        self.feature_slope = weight("feature_slope", 0.3)
        self.modality_slope = weight("modality_slope", 0.3)
        self.log_variance = weight("log_variance", -4.0)

    def call(
        self,
        inputs: Tensor,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        shape = ("batch", *self.bias.shape)
        check_shape("inputs", inputs, *shape)
        z = ops.cast(inputs, "float32")
        mean = ops.zeros_like(z) if mean is None else ops.cast(mean, "float32")
        if variance is None:
            variance = ops.ones_like(z)
        check_shape("mean", mean, *shape)
        check_shape("variance", variance, *shape)
        # A feature without variance is not infinitely surprising.
        variance = ops.maximum(ops.cast(variance, "float32"), 1e-6)
        z, near, far, whole = branches(z, 4)
        distance = ops.square(near - mean) / variance
        surprise = surprise_of(far, mean, variance)
        gate = ops.sigmoid(
            self.bias
            + self.feature_slope * ops.log(1.0 + distance)
            + self.modality_slope * surprise[:, :, None]
        )
        shift = gate * (z - mean)
        ici = mean + shift
        divergence = 0.5 * ops.mean(
            (ops.exp(self.log_variance) + ops.square(shift)) / variance
            - 1.0
            + ops.log(variance)
            - self.log_variance,
            axis=-1,
        )
        if training:
            noise = keras.random.normal(
                ops.shape(z), dtype="float32", seed=self.seed_generator
            )
            drawn = ops.exp(0.5 * self.log_variance) * noise
            # As in `branches`: plain sums of three become one of any order.
            own = ops.broadcast_to(mean, ops.shape(z))
            ici = ops.sum(ops.stack([own, shift, drawn]), axis=0)
        kept = whole - ici
        removed, left = length(ici), length(kept)
        return {
            "kept": kept,
            "ici": ici,
            "removed": gate,
            "ici_fraction": removed / (removed + left),
            "surprise": surprise,
            "divergence": divergence,
        }

    def get_config(self) -> dict:
        return {**super().get_config(), "seed": self.seed}


def surprise_of(z: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """How far `z` is from a Gaussian, `(batch, modalities)`."""
    distance = ops.square(z - mean) / variance
    return ops.log(ops.mean(distance, axis=-1) + 1e-4)


def length(x: Tensor) -> Tensor:
    """Length of the last axis, with a gradient at zero."""
    return ops.sqrt(ops.sum(ops.square(x), axis=-1) + 1e-6)
