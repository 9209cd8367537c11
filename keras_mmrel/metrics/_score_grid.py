"""A histogram of scores that keeps their order where it matters.

The coordinate of a score is its logit. Cells are equally wide in the inverse
hyperbolic sine of it: 0.0006 of a probability at 0.5, 2 % of what is missing
to 1 at 0.999, and 0.1 of a logit at 40, so that cells keep apart what rounds
to 1 in float32. A cell counts in float32, in whole numbers up to 2^24.
"""

import keras
from keras import ops

from keras_mmrel.contract import DType
from keras_mmrel.contract import Tensor
from keras_mmrel.metrics._counted_weight import counted_weight

# Cells on each side of the one round the logit 0.
HALF = 4096
CELLS = 2 * HALF + 1
# Logits beyond this share the last cell.
LARGEST_LOGIT = 1e4
# Where the series of `harmonic_difference` starts.
SHIFT = 6


class ScoreGridMetric(keras.metrics.Metric):
    """Weights of the scores of two groups, cell by cell.

    Row 0 of `counts` holds the first group, row 1 the marked one, both by
    increasing score.
    """

    def __init__(self, name: str, dtype: DType) -> None:
        super().__init__(name=name, dtype=dtype)
        self.counts = self.add_variable(
            shape=(2, CELLS),
            initializer="zeros",
            dtype="float32",
            name="counts",
        )

    def count(
        self,
        logit: Tensor,
        marked: Tensor,
        valid: Tensor,
        sample_weight: Tensor,
    ) -> None:
        """Add scores, all arguments being of one shape.

        Args:
            logit: Logit of each score.
            marked: Booleans.
            valid: Booleans. One that is false makes the result NaN, unless
                its weight is 0.
            sample_weight: As in `counted_weight`.
        """
        valid = ops.logical_and(valid, ops.logical_not(ops.isnan(logit)))
        weight = counted_weight(valid, sample_weight)
        index = cell_of(ops.where(valid, logit, ops.zeros_like(logit)))
        index = index + CELLS * ops.cast(marked, "int32")
        new = ops.segment_sum(
            ops.reshape(weight, (-1,)),
            ops.reshape(index, (-1,)),
            num_segments=2 * CELLS,
        )
        self.counts.assign_add(ops.reshape(new, (2, CELLS)))

    def groups(self) -> tuple[Tensor, Tensor]:
        """Return the two rows of `counts`."""
        counts = ops.convert_to_tensor(self.counts)
        return counts[0], counts[1]

    def defined(self, value: Tensor, *totals: Tensor) -> Tensor:
        """`value`, or NaN unless every total is positive."""
        known = ops.all(ops.stack(totals) > 0)
        value = ops.where(known, value, ops.full_like(value, float("nan")))
        return ops.cast(value, self.dtype)


def cell_of(logit: Tensor) -> Tensor:
    """Index of the cell of a logit that is not NaN."""
    width = ops.arcsinh(ops.convert_to_tensor(LARGEST_LOGIT, "float32")) / HALF
    logit = ops.clip(logit, -LARGEST_LOGIT, LARGEST_LOGIT)
    cell = ops.cast(ops.round(ops.arcsinh(logit) / width), "int32")
    return ops.clip(cell, -HALF, HALF) + HALF


def top_class(
    y_pred: Tensor, from_logits: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted class, the logit of its probability and whether all is valid.

    The logit, `log p - log(1 - p)`, is the log of the top score over the sum
    of the others, so that nothing is lost where p rounds to 1.

    Args:
        y_pred: `(batch, classes)`.
        from_logits: Whether these are logits.

    Returns:
        Three tensors `(batch,)`.
    """
    scores = ops.cast(ops.convert_to_tensor(y_pred), "float32")
    if not from_logits:
        scores = ops.log(scores)
    top = ops.max(scores, axis=-1, keepdims=True)
    valid = ops.logical_and(
        ops.isfinite(top[..., 0]),
        ops.logical_not(ops.any(ops.isnan(scores), axis=-1)),
    )
    predicted = ops.argmax(scores, axis=-1)
    is_top = ops.one_hot(predicted, scores.shape[-1], dtype="bool")
    others = ops.where(is_top, ops.full_like(scores, -1e30), scores - top)
    return predicted, -ops.logsumexp(others, axis=-1), valid


def harmonic_difference(start: Tensor, count: Tensor) -> Tensor:
    """Sum of `1 / r` over the `count` ranks r after `start`.

    It is `digamma(start + count + 1) - digamma(start + 1)`, which says what it
    is for weights that are no whole numbers. Two values of digamma differ by
    less than float32 resolves once `start` is large; this form is a sum of
    positive terms, and precise everywhere.
    """
    x = start + 1.0
    y = x + count
    total = ops.zeros_like(x)
    for k in range(SHIFT):
        total = total + count / (x + k) / (y + k)
    # What is left is that of the asymptotic series at x + 6 and y + 6.
    p, q = 1.0 / (x + SHIFT), 1.0 / (y + SHIFT)
    squares = count * p * q * (p + q)
    return (
        total
        + ops.log1p(count * p)
        + count * p * q / 2.0
        + squares / 12.0
        - squares * (p * p + q * q) / 120.0
    )


def summed_risks(weight: Tensor, errors: Tensor) -> Tensor:
    """Sum over ranks of the fraction of errors among the ranks so far.

    In a cell of weight w with e errors, W and E being those before it, rank
    `W + j` sees `E + e j / w` errors on average over the orders of the cell.
    The sum over j is `e + (E - e W / w) D`, with D the sum of the `1 / rank`.

    Args:
        weight: `(cells,)`, the most confident first.
        errors: `(cells,)`, at most `weight`.
    """
    weight_before = ops.maximum(ops.cumsum(weight) - weight, 0.0)
    errors_before = ops.maximum(ops.cumsum(errors) - errors, 0.0)
    ranks = harmonic_difference(weight_before, weight)
    filled = ops.where(weight > 0, weight, ops.ones_like(weight))
    own = errors * (1.0 - weight_before * ranks / filled)
    return ops.sum(own + errors_before * ranks)
