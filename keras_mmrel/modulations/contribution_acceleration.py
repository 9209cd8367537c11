from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.modulations.gradient_modulation import GradientModulation

SCHEMES = ("contribution", "inverted")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(strength=Number(0), scheme=Choice(*SCHEMES))
class ContributionAcceleration(GradientModulation):
    """Accelerate each encoder by what its modality contributes.

    With `w` a modality's fraction of the contribution (the fractions of all
    `M` modalities add up to 1), taken from the model's output
    `contribution_fraction`, and `strength` k, the coefficient is
    `exp(k * (M * w - 1) / (M - 1))`. Their geometric mean is 1: what one
    encoder gains the others lose, so that a gain is not one of learning
    faster on the whole, and the largest is `exp(k)`. `"inverted"`, a control,
    has the reciprocals. A `strength` of 0 changes nothing.

    It is the modulation that `keras_mmrel.CAL(acceleration=...)` brings along.

    Args:
        strength: Non-negative float.
        scheme: `"contribution"` or `"inverted"`.
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
        strength: float = 1.0,
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
        above = (count * fraction - 1.0) / max(count - 1, 1)
        sign = -1.0 if self.scheme == "inverted" else 1.0
        return ops.exp(sign * self.strength * above)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "strength": self.strength,
            "scheme": self.scheme,
        }
