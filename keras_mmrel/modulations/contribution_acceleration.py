from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.checks import check_choice
from keras_mmrel.checks import check_strength
from keras_mmrel.modulations.gradient_modulation import GradientModulation

SCHEMES = ("contribution", "uniform", "inverted")


@keras.saving.register_keras_serializable(package="keras_mmrel")
class ContributionAcceleration(GradientModulation):
    """Accelerate each encoder by what its modality contributes.

    With `w` a modality's share of the contribution (the shares of all `M`
    modalities add up to 1), taken from the model's output
    `contribution_share`, and `strength` k, the coefficient is

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
            has no output `contribution_share`.

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
        check_strength("strength", strength)
        check_choice("scheme", scheme, SCHEMES)
        super().__init__(**kwargs)
        self.strength = strength
        self.scheme = scheme

    def compute_coefficients(
        self, labels: Any, outputs: Mapping[str, Any], present: Any
    ) -> Any:
        if "contribution_share" not in outputs:
            raise ValueError(
                "`modulation` must fit the model: ContributionAcceleration "
                "needs one with the output 'contribution_share', such as CAL. "
                f"Received: outputs {sorted(outputs)}"
            )
        count = present.shape[0]
        share = outputs["contribution_share"][0]
        if self.scheme == "uniform":
            share = ops.ones_like(share) / count
        elif self.scheme == "inverted":
            share = (1.0 - share) / max(count - 1, 1)
        return 1.0 + self.strength * count * share

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "strength": self.strength,
            "scheme": self.scheme,
        }
