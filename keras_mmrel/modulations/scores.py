"""What the strategies compute their coefficients from."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_mmrel import backend


def true_class_probability(labels: Any, logits: Any) -> Any:
    """Probability of the true class by each modality alone.

    Args:
        labels: One-hot `(batch, num_classes)`.
        logits: `(batch, n_modalities, num_classes)`.

    Returns:
        `(batch, n_modalities)`.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    return ops.sum(labels[:, None, :] * probabilities, axis=-1)


def batch_mean(values: Any, outputs: Mapping[str, Any]) -> Any:
    """Mean over the samples of the global batch that have the modality.

    Args:
        values: `(batch, n_modalities)`.
        outputs: The model's outputs, for the `modality_mask`.

    Returns:
        `(n_modalities,)`, 0 for a modality that no sample has.
    """
    mask = outputs["modality_mask"]
    kept = ops.where(mask > 0, values, ops.zeros_like(values))
    sums = backend.all_reduce_sum(
        ops.stack([ops.sum(kept, axis=0), ops.sum(mask, axis=0)])
    )
    return sums[0] / ops.maximum(sums[1], 1.0)


def mean_of_others(scores: Any, present: Any) -> Any:
    """For each modality the mean score of the other present ones.

    Args:
        scores: `(n_modalities,)`.
        present: `(n_modalities,)` of 0 and 1.
    """
    total = ops.sum(scores * present)
    count = ops.sum(present)
    return (total - scores * present) / ops.maximum(count - present, 1.0)


def ratio_to_others(scores: Any, present: Any) -> Any:
    """Score of each modality over the mean score of the other present ones."""
    return scores / (mean_of_others(scores, present) + 1e-12)
