from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.seeds import known_seed
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(strength=Number(0), noise_scale=Number(0), seed=SEED)
class InformationBottleneck(TensorLayer):
    """Limit how much a feature may say, by noise and a divergence.

    The feature `f` becomes the mean of a Gaussian whose log-variance is a
    linear function of `f`, clipped to [-8, 4] and small at first. In training
    a sample of the Gaussian is returned, at inference the mean, which is `f`
    itself. The divergence to the standard normal distribution,
    `sum(f² + exp(v) - v - 1) / 2` over the features of a sample, is added to
    the model's loss, averaged over the batch and multiplied by the weight
    `strength`. What does not pay for its divergence is lost.

    `strength` is a weight, not a constant, so that a callback or a method can
    assign it while a compiled `fit` runs, and so is `noise_scale`, which the
    noise is multiplied by: with both at 0 the layer does nothing.

    Args:
        strength: Non-negative float, the initial value of the weight.
        noise_scale: Likewise.
        seed: Integer, or `None` to draw one. Seed of the noise.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, d)`.
        training: Whether to return a sample rather than the mean.
        return_divergence: Whether to return the divergence too instead of
            adding it to the loss.

    Returns:
        Tensor of shape `(batch, d)`, and with `return_divergence` the
        divergence of each sample, `(batch,)` in float32.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> layer = keras_mmrel.layers.InformationBottleneck(0.1)
    >>> layer(np.zeros((4, 8)), training=True).shape
    (4, 8)
    >>> z, divergence = layer(np.zeros((4, 8)), return_divergence=True)
    >>> divergence.shape
    (4,)

    References:
        - [Alemi et al., 2017, Deep Variational Information
          Bottleneck](https://arxiv.org/abs/1612.00410). Taking the feature
          itself as the mean is this library's own choice: a trainable linear
          mean cost accuracy.
    """

    shapes = (("batch", ..., "features"),)

    def __init__(
        self,
        strength: float = 0.0,
        noise_scale: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.initial_strength = strength
        self.initial_noise_scale = noise_scale
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple) -> None:
        size = input_shape[-1]
        constant = keras.initializers.Constant
        self.strength = add_state(
            self, "strength", (), constant(self.initial_strength)
        )
        self.noise_scale = add_state(
            self, "noise_scale", (), constant(self.initial_noise_scale)
        )
        self.kernel = self.add_weight(
            shape=(size, size), initializer="zeros", name="kernel"
        )
        self.bias = self.add_weight(
            shape=(size,),
            initializer=keras.initializers.Constant(-4.0),
            name="bias",
        )

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_divergence: bool = False,
    ) -> Tensor:
        log_variance = ops.matmul(inputs, self.kernel) + self.bias
        mean = ops.cast(inputs, "float32")
        log_variance = ops.clip(ops.cast(log_variance, "float32"), -8.0, 4.0)
        divergence = 0.5 * ops.sum(
            ops.square(mean) + ops.exp(log_variance) - log_variance - 1.0,
            axis=-1,
        )
        outputs = inputs
        if training:
            noise = keras.random.normal(
                ops.shape(mean), dtype="float32", seed=self.seed_generator
            )
            noise = self.noise_scale * noise
            sample = mean + ops.exp(0.5 * log_variance) * noise
            outputs = ops.cast(sample, self.compute_dtype)
        if return_divergence:
            return outputs, divergence
        self.add_loss(self.strength * ops.mean(divergence))
        return outputs

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_divergence: bool = False,
    ) -> Tensor:
        outputs = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_divergence:
            return outputs
        return outputs, keras.KerasTensor(inputs.shape[:-1], dtype="float32")

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "strength": self.initial_strength,
            "noise_scale": self.initial_noise_scale,
            "seed": self.seed,
        }
