import math
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import number_array
from keras_mmrel.evaluation._checks import check_probabilities
from keras_mmrel.evaluation._savable import Savable


@keras.saving.register_keras_serializable(package="keras_mmrel")
@dataclass(frozen=True)
class SelectiveRule(Savable):
    """Which predictions to accept so that few of them are wrong.

    Made by `keras_mmrel.evaluation.selective_prediction`. A sample is
    accepted if its confidence is above `threshold`.

    Args:
        threshold: Confidence above which to accept; `-inf` accepts all
            samples and `inf` none.
        coverage: Fraction of the calibration samples that is accepted.
        empirical_risk: Fraction of mistakes among those; NaN without any.
        bound: Upper bound of the risk on new samples, which holds with
            probability `1 - delta`; NaN if nothing is accepted.
        risk: The risk that was asked for.
        delta: Probability of a calibration sample that misleads.
        samples: Number of calibration samples.
        own_confidence: Whether the threshold is one of a confidence that the
            user gave, rather than of the largest probability.

    Example:

    >>> rule = keras_mmrel.evaluation.SelectiveRule(
    ...     threshold=0.8, coverage=0.6, empirical_risk=0.01, bound=0.04,
    ...     risk=0.05, delta=0.05, samples=500,
    ... )
    >>> rule.accept(np.array([[0.9, 0.1], [0.3, 0.7]]))
    array([ True, False])
    """

    threshold: float
    coverage: float
    empirical_risk: float
    bound: float
    risk: float
    delta: float
    samples: int
    own_confidence: bool = False

    def __post_init__(self) -> None:
        numbers = ("threshold", "coverage", "empirical_risk", "bound")
        for name in (*numbers, "risk", "delta"):
            value = getattr(self, name)
            # NaN and infinity say that there is none.
            if not isinstance(value, float) or math.isfinite(value):
                Number()(name, value)
        Number(0, 1)("coverage", self.coverage)
        Integer(1)("samples", self.samples)
        Flag()("own_confidence", self.own_confidence)

    def accept(
        self, probabilities: ArrayLike = None, confidence: ArrayLike = None
    ) -> Array:
        """Return whether to accept the prediction of each sample.

        Args:
            probabilities: `(samples, classes)`, or a model's output dict.
                Not needed beside `confidence`.
            confidence: `(samples,)`, the same quantity that the rule was
                made with, if it was made with one.

        Returns:
            Boolean array `(samples,)`.

        Raises:
            ValueError: If they are not what the rule was made with.
        """
        if self.own_confidence != (confidence is not None):
            wanted = "with" if self.own_confidence else "without"
            raise ValueError(
                f"`confidence` must be as in `selective_prediction`: this rule "
                f"was made {wanted} one. Received: confidence="
                f"{None if confidence is None else type(confidence).__name__}"
            )
        return read_confidence(probabilities, confidence) > self.threshold

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


def read_confidence(
    probabilities: ArrayLike, confidence: ArrayLike, samples: int | None = None
) -> Array:
    """Return the confidence of each sample, `(samples,)` in float64."""
    if confidence is None:
        p = check_probabilities("probabilities", probabilities)
        return p.max(axis=1)
    values = number_array(confidence, "`confidence`").astype("float64")
    if values.ndim != 1 or samples not in (None, len(values)):
        raise ValueError(
            "`confidence` must hold one number a sample, "
            f"({'samples' if samples is None else samples},). Received: "
            f"shape={values.shape}"
        )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(
            f"`confidence` must be finite. Received: {bad} NaN or infinite "
            "values"
        )
    return values
