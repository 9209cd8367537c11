"""Several answers to one sample: their mean, and how far they agree."""

import math

from keras import ops

from keras_mmrel.contract import Tensor


def log_mean(log_probabilities: Tensor, log_weights: Tensor = None) -> Tensor:
    """Log of the mean probabilities over axis 1.

    Args:
        log_probabilities: `(batch, answers, ..., num_classes)`.
        log_weights: `(batch, answers)` for three axes, of weights whose sum
            is 1; all equal by default.
    """
    if log_weights is None:
        log_weights = -math.log(log_probabilities.shape[1])
    else:
        log_weights = log_weights[:, :, None]
    return ops.logsumexp(log_probabilities + log_weights, axis=1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last axis."""
    p = ops.exp(log_probabilities)
    return -ops.sum(p * log_probabilities, axis=-1)
