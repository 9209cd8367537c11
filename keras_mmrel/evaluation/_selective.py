"""The function that chooses how sure a model must be."""

import math

import numpy as np

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._binomial import binomial_cdf
from keras_mmrel.evaluation._binomial import upper_bound
from keras_mmrel.evaluation._checks import OPEN_FRACTION
from keras_mmrel.evaluation._checks import check_probabilities
from keras_mmrel.evaluation.selective_rule import SelectiveRule
from keras_mmrel.evaluation.selective_rule import read_confidence
from keras_mmrel.user_warning import warn

MOST_CANDIDATES = 20


@constrained(risk=OPEN_FRACTION, delta=OPEN_FRACTION)
def selective_prediction(
    probabilities: ArrayLike,
    y: Labels,
    risk: float = 0.05,
    delta: float = 0.05,
    confidence: ArrayLike = None,
) -> SelectiveRule:
    """Choose how sure a model must be for its mistakes to stay rare.

    The result accepts predictions whose confidence is above a threshold and
    leaves the others to somebody else. With probability `1 - delta` over the
    calibration samples, at most a fraction of `risk` of the accepted
    predictions on new samples is wrong, whatever the model and the
    distribution; among the thresholds that hold this it takes the one that
    accepts most.

    Calibration samples must be drawn independently from the distribution
    that new ones come from, and must not have been trained on, nor have
    chosen the model or its temperature. Under other corruptions or another
    fraction of missing modalities than here nothing is guaranteed.

    How it works: `L` candidate thresholds accept the `r_1 < ... < r_L` most
    confident calibration samples; these counts follow from the number of
    samples, `risk` and `delta` alone. Given the threshold, the samples above
    it are independent draws from all that are above it, so their mistakes are
    binomial and the exact bound of Clopper and Pearson at `delta / L` fails
    with at most that probability; that no bound fails follows by adding up.
    `L` is up to 20; with hardly more samples than may do it is 1, and the rule
    then accepts all or nothing.

    Own choice of this library: candidates are fixed beforehand. Geifman and
    El-Yaniv search by bisection with `L = ceil(log2 samples)`, where the
    labels decide which thresholds are tried; with fixed ones the correction
    for the search is a plain sum.

    Args:
        probabilities: `(samples, classes)`, or a model's output dict.
        y: Class numbers `(samples,)`, or one-hot rows.
        risk: Largest fraction of mistakes among accepted samples, in (0, 1).
        delta: Probability, in (0, 1), with which the calibration samples may
            mislead.
        confidence: `(samples,)`, any finite number that is higher where the
            model should be trusted more; by default its largest probability.
            The `"confidence"` of this library's outputs is one number a
            modality; reduce it first.

    Returns:
        A `keras_mmrel.evaluation.SelectiveRule`. If the model is too poor for
        every candidate, it accepts nothing, and a warning says so.

    Raises:
        ValueError: If an argument is out of its range, or there are fewer
            samples than the guarantee takes without a single mistake,
            `log(delta) / log(1 - risk)`.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> p = rng.dirichlet([0.2, 0.2, 0.2], size=2000)
    >>> y = np.array([rng.choice(3, p=row) for row in p])
    >>> rule = keras_mmrel.evaluation.selective_prediction(p[:1000], y[:1000])
    >>> accepted = rule.accept(p[1000:])
    >>> wrong = p[1000:].argmax(axis=1) != y[1000:]
    >>> bool(wrong.mean() > 0.1), bool(wrong[accepted].mean() < 0.05)
    (True, True)

    References:

    - Geifman and El-Yaniv, "Selective Classification for Deep Neural
      Networks", NeurIPS 2017, https://arxiv.org/abs/1705.08500
    - Clopper and Pearson, "The Use of Confidence or Fiducial Limits
      Illustrated in the Case of the Binomial", Biometrika 1934.
    """
    p = check_probabilities("probabilities", probabilities)
    check_rows_agree(
        {
            "`probabilities`": probabilities,
            "`y`": y,
            "`confidence`": confidence,
        }
    )
    y = check_labels(to_numpy(y), p.shape[1], len(p))
    own = confidence is not None
    confidence = read_confidence(p, confidence, len(p))
    counts = candidate_counts(len(p), risk, delta)
    wrong = p.argmax(axis=1) != y
    ordered = np.sort(confidence)[::-1]
    for count in counts[::-1]:
        threshold = float(ordered[count]) if count < len(p) else -math.inf
        accepted = confidence > threshold
        errors, trials = int(wrong[accepted].sum()), int(accepted.sum())
        level = delta / len(counts)
        if trials and binomial_cdf(errors, trials, risk) <= level:
            return SelectiveRule(
                threshold=threshold,
                coverage=trials / len(p),
                empirical_risk=errors / trials,
                bound=min(risk, upper_bound(errors, trials, level)),
                risk=risk,
                delta=delta,
                samples=len(p),
                own_confidence=own,
            )
    warn(
        f"No threshold keeps the risk at {risk:g} with probability "
        f"{1 - delta:g} on these {len(p)} samples, so the rule accepts "
        "nothing: take a larger `risk` or `delta`, more samples or a better "
        "model."
    )
    return SelectiveRule(
        threshold=math.inf,
        coverage=0.0,
        empirical_risk=math.nan,
        bound=math.nan,
        risk=risk,
        delta=delta,
        samples=len(p),
        own_confidence=own,
    )


def candidate_counts(samples: int, risk: float, delta: float) -> list[int]:
    """Return how many samples each candidate threshold accepts, increasing.

    They are evenly spaced from the fewest that can pass to all. There are
    as many as needed samples fit into all samples, at most 20, so that few
    samples do not pay for a search, and two as soon as they can be.
    """

    def needed(tests: int) -> int:
        return fewest_for_risk(risk, delta / tests)

    if samples < needed(1):
        raise ValueError(
            f"`y` must hold at least {needed(1)} calibration samples to "
            f"guarantee a risk of {risk:g} with probability {1 - delta:g}, "
            f"even without a mistake. Received: {samples} samples"
        )
    most = min(MOST_CANDIDATES, max(samples // needed(1), 2))
    tests = max(t for t in range(1, most + 1) if needed(t) <= samples)
    if tests == 1:
        return [samples]
    counts = np.linspace(needed(tests), samples, tests)
    return sorted({int(round(count)) for count in counts})


def fewest_for_risk(risk: float, delta: float) -> int:
    """Number of samples that show a risk if none of them is a mistake."""
    return math.ceil(math.log(delta) / math.log1p(-risk))
