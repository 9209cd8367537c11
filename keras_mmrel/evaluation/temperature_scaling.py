from collections.abc import Mapping
from typing import Any
from typing import Self

import keras
import numpy as np

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._checks import check_logits
from keras_mmrel.evaluation._savable import Savable
from keras_mmrel.user_warning import warn

LOWEST, HIGHEST = 0.01, 100.0
STEPS = 200
TOLERANCE = 1e-10


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(temperature=Number(0, low_open=True))
class TemperatureScaling(Savable):
    """Calibrate probabilities by one number that divides the logits.

    Fit it on validation data, never on the data that the model was trained
    on. A temperature above 1 makes an over-confident model more modest; the
    predicted classes, and with them the accuracy, stay as they are.

    The temperature is the one with the smallest cross-entropy, which is
    convex in its inverse: Newton's method on the derivative, in float64,
    kept inside a bracket that bisection shrinks.

    This library's own choices: the temperature stays in [0.01, 100], with a
    warning at either end (a model without a mistake on the validation data
    has no best temperature, nor has one that is no better than chance); and
    samples whose modalities are all missing are neither fitted nor scaled,
    since models of this library answer them with the class prior.

    Args:
        temperature: Positive number, replaced by `fit`.

    Attributes:
        temperature: The temperature.

    Raises:
        ValueError: If `temperature` is no positive number.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(2000, 3))
    >>> y = (logits + rng.gumbel(size=(2000, 3))).argmax(axis=1)
    >>> scaling = keras_mmrel.evaluation.TemperatureScaling()
    >>> scaling.fit(4.0 * logits, y)  # four times too sure of itself
    TemperatureScaling(temperature=3.8...)
    >>> scaling.calibrate(4.0 * logits).shape
    (2000, 3)

    References:

    - Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
      https://arxiv.org/abs/1706.04599
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = float(temperature)

    def fit(self, logits: ArrayLike, y: Labels) -> Self:
        """Find the temperature on validation data.

        Args:
            logits: `(samples, classes)`, or a model's output dict.
            y: Class numbers `(samples,)`, or one-hot rows.

        Returns:
            This object.

        Raises:
            ValueError: If logits are not finite, or labels do not fit.
        """
        z = check_logits("logits", logits)
        check_rows_agree({"`logits`": logits, "`y`": y})
        y = check_labels(to_numpy(y), z.shape[1], len(z))
        answered = _answered(logits, len(z))
        if not answered.any():
            raise ValueError(
                "`logits` must hold at least one sample with a modality that "
                f"is present. Received: {len(z)} samples without any"
            )
        z = z[answered]
        z = z - z[np.arange(len(z)), y[answered], None]
        self.temperature = 1.0 / _best_inverse(z)
        if self.temperature in (LOWEST, HIGHEST):
            why = (
                "the model makes too few mistakes on them to tell how sure it "
                "may be"
                if self.temperature == LOWEST
                else "the model is hardly better than chance on them"
            )
            warn(
                f"The best temperature for these {len(z)} samples is at or "
                f"beyond {self.temperature:g}, where the search ends: {why}."
            )
        return self

    def calibrate(self, logits: ArrayLike) -> Array:
        """Return calibrated probabilities.

        Args:
            logits: `(samples, classes)`, or a model's output dict.

        Returns:
            Float32 array `(samples, classes)`.
        """
        return _softmax(self._scaled(logits)).astype("float32")

    def apply(self, outputs: Outputs) -> dict[str, Any]:
        """Return a model's outputs with scaled logits and probabilities.

        What else is in the dict, `modality_logits` and `confidence` among
        it, stays as it is.

        Args:
            outputs: Output dict of a model of this library.
        """
        if not isinstance(outputs, Mapping):
            raise ValueError(
                "`outputs` must be a model's output dict. Received: "
                f"{type(outputs).__name__}"
            )
        logits = self._scaled(outputs)
        return {
            **outputs,
            LOGITS: logits.astype("float32"),
            PROBABILITIES: _softmax(logits).astype("float32"),
        }

    def _scaled(self, logits: ArrayLike) -> Array:
        z = check_logits("logits", logits)
        answered = _answered(logits, len(z))[:, None]
        return np.where(answered, z / self.temperature, z)

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def __repr__(self) -> str:
        return f"TemperatureScaling(temperature={self.temperature:.4g})"


def _answered(logits: ArrayLike, samples: int) -> Array:
    """Whether any modality of a sample was present, as far as is known."""
    if not isinstance(logits, Mapping) or logits.get(MASK) is None:
        return np.ones(samples, bool)
    mask = to_numpy(logits[MASK], f"'{MASK}'")
    if mask.ndim != 2 or len(mask) != samples:
        raise ValueError(
            f"'{MASK}' must have one row a sample and one column a modality. "
            f"Received: shape={mask.shape} for {samples} samples"
        )
    return np.asarray(check_mask_values(mask).any(axis=1))


def _softmax(z: Array) -> Array:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def _best_inverse(z: Array) -> float:
    """Inverse temperature with the smallest mean cross-entropy.

    Args:
        z: Logits less the one of the true class, whose derivative of the
            mean cross-entropy is then the mean of the expected logit.
    """

    def slope_and_curvature(inverse: float) -> tuple[float, float]:
        p = _softmax(inverse * z)
        mean = (p * z).sum(axis=1)
        return float(mean.mean()), float(
            (p * (z - mean[:, None]) ** 2).sum(axis=1).mean()
        )

    low, high = 1.0 / HIGHEST, 1.0 / LOWEST
    if slope_and_curvature(low)[0] >= 0:
        return low
    if slope_and_curvature(high)[0] <= 0:
        return high
    inverse = 1.0
    for _ in range(STEPS):
        slope, curvature = slope_and_curvature(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = slope / curvature if curvature > 0 else np.inf
        following = inverse - step
        if not low < following < high:
            following = float(np.sqrt(low * high))
        if abs(following - inverse) <= TOLERANCE * inverse:
            return following
        inverse = following
    return inverse
