from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.modulations.gradient_modulation import GradientModulation

SCHEMES = ("contribution", "uniform", "inverted")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(strength=Number(0), scheme=Choice(*SCHEMES))
class ContributionAcceleration(GradientModulation):
    """Accelerate each encoder by what its modality contributes.

    With `w` a modality's fraction of the contribution (the fractions of all
    `M` modalities add up to 1), taken from the model's output
    `contribution_fraction`, and `strength` k, the coefficient is

    - `"contribution"`: `1 + k * M * w`;
    - `"uniform"`: `1 + k`;
    - `"inverted"`: `1 + k * M * (1 - w) / (M - 1)`.

    All three have the same mean, and no encoder is ever slowed down. It is
    the modulation that `keras_mmrel.CAL` brings along.

    Args:
        strength: Non-negative float.
        scheme: As above.
        **kwargs: Arguments of `GradientModulation`.

    Raises:
        ValueError: If `strength` is negative, `scheme` unknown, or the model
            has no output `contribution_fraction`.

    Example:

    >>> acceleration = keras_mmrel.modulations.ContributionAcceleration(1.0)
    >>> model = keras_mmrel.CAL({"a": (8,), "b": (4,)}, 3)
    >>> model.compile("sgd", modulation=acceleration)

    References:
        - [CAL, 2025](https://arxiv.org/abs/2510.26289). The formula is this
          library's own.
    """

    def __init__(
        self,
        strength: float = 0.5,
        scheme: str = "contribution",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.strength = strength
        self.scheme = scheme

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        if "contribution_fraction" not in outputs:
            raise ValueError(
                "`modulation` must fit the model: ContributionAcceleration "
                "needs one with the output 'contribution_fraction', such as "
                f"CAL. Received: outputs {sorted(outputs)}"
            )
        count = present.shape[0]
        fraction = outputs["contribution_fraction"][0]
        if self.scheme == "uniform":
            fraction = ops.ones_like(fraction) / count
        elif self.scheme == "inverted":
            fraction = (1.0 - fraction) / max(count - 1, 1)
        return 1.0 + self.strength * count * fraction

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "strength": self.strength,
            "scheme": self.scheme,
        }
