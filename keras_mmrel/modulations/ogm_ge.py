from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.modulations.gradient_modulation import Owners
from keras_mmrel.modulations.ogm import OGM
from keras_mmrel.seeds import known_seed


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(kernels=Choice("convolution", "all"), noise=Number(0), seed=SEED)
class OGMGE(OGM):
    """OGM with generalisation enhancement: noise on the encoders' gradients.

    Slowing an encoder down also shrinks the noise of its stochastic
    gradients, which is thought to help generalisation. Gaussian noise with
    the standard deviation of each gradient, before its modulation, makes up
    for it. The noise goes into the gradients whatever `apply_to` says; the
    coefficients follow `apply_to`.

    Args:
        alpha: As in `OGM`.
        kernels: `"convolution"` touches convolution kernels only (weights of
            three axes or more), as the original code does; `"all"` touches
            every weight of the encoders. An encoder of dense layers needs
            `"all"`.
        noise: Non-negative float, standard deviation of the noise in units
            of each gradient's own standard deviation; 1 in the paper.
        seed: Integer, or `None` to draw one. Seed of the noise; several
            processes with PyTorch need one to stay equal, since each draws
            its own.
        **kwargs: Arguments of `GradientModulation`.

    Raises:
        ValueError: If `kernels` is unknown, or `alpha` or `noise` negative.

    Example:

    >>> modulation = keras_mmrel.modulations.OGMGE(alpha=0.8, kernels="all")
    >>> modulation.noise
    1.0

    References:
        - [Peng et al., 2022, Balanced Multimodal Learning via On-the-fly
          Gradient Modulation](https://arxiv.org/abs/2203.15332)
    """

    def __init__(
        self,
        alpha: float = 0.3,
        kernels: str = "convolution",
        noise: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, **kwargs)
        self.kernels = kernels
        self.noise = noise
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def touched(self, variables: Variables, owners: Owners) -> Owners:
        """Return the owners, `None` but for what `kernels` names."""
        return [
            owner if self.kernels == "all" or len(v.shape) >= 3 else None
            for v, owner in zip(variables, owners, strict=True)
        ]

    def modulate_gradients(
        self, gradients: Sequence[Tensor], variables: Variables, owners: Owners
    ) -> list[Tensor]:
        owners = self.touched(variables, owners)
        modulated = super().modulate_gradients(gradients, variables, owners)
        return [
            changed
            if gradient is None or owner is None or not self.noise
            else changed + self._noise_like(gradient)
            for gradient, changed, owner in zip(
                gradients, modulated, owners, strict=True
            )
        ]

    def _noise_like(self, gradient: Tensor) -> Tensor:
        """Noise of the gradient's deviation, while it is active only."""
        values = ops.cast(gradient, "float32")
        scale = self.noise * ops.std(values) * self.active
        noise = keras.random.normal(
            gradient.shape, dtype="float32", seed=self.seed_generator
        )
        return ops.cast(scale * noise, gradient.dtype)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "kernels": self.kernels,
            "noise": self.noise,
            "seed": self.seed,
        }
