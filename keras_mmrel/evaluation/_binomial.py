"""Exact upper confidence bound of a binomial proportion."""

import numpy as np

HALVINGS = 60


def binomial_cdf(successes: int, trials: int, p: float) -> float:
    """Probability of at most `successes` in `trials`, for 0 < p < 1."""
    if successes >= trials:
        return 1.0
    k = np.arange(1, successes + 1)
    steps = np.log(trials - k + 1.0) - np.log(k) + np.log(p) - np.log1p(-p)
    logs = trials * np.log1p(-p) + np.concatenate([[0.0], np.cumsum(steps)])
    top = logs.max()
    return float(min(1.0, np.exp(top) * np.exp(logs - top).sum()))


def upper_bound(errors: int, trials: int, delta: float) -> float:
    """Clopper and Pearson's upper bound, which holds with `1 - delta`.

    The largest proportion under which so few errors are not rarer than
    `delta`; 1 without a trial.
    """
    if errors >= trials:
        return 1.0
    low, high = errors / trials, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        if not low < middle < high:
            break
        if binomial_cdf(errors, trials, middle) > delta:
            low = middle
        else:
            high = middle
    return high
