"""What the strategies compute their coefficients from."""

from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor


def true_class_probability(labels: Tensor, logits: Tensor) -> Tensor:
    """Probability of the true class by each modality alone.

    Args:
        labels: One-hot `(batch, num_classes)`.
        logits: `(batch, n_modalities, num_classes)`.

    Returns:
        `(batch, n_modalities)`.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1)
    return ops.sum(labels[:, None, :] * probabilities, axis=-1)


def batch_mean(values: Tensor, outputs: Outputs) -> Tensor:
    """Mean over the samples of the global batch that have the modality.

    Args:
        values: `(batch, n_modalities)`.
        outputs: The model's outputs, for the `modality_mask`.

    Returns:
        `(n_modalities,)`, 0 for a modality that no sample has.
    """
    mask = outputs[MASK]
    kept = ops.where(mask > 0, values, ops.zeros_like(values))
    sums = backend.all_reduce_sum(
        ops.stack([ops.sum(kept, axis=0), ops.sum(mask, axis=0)])
    )
    return sums[0] / ops.maximum(sums[1], 1.0)


def present_modalities(outputs: Outputs) -> Tensor:
    """Say which modalities the global batch has, `(n_modalities,)`."""
    count = backend.all_reduce_sum(ops.sum(outputs[MASK], axis=0))
    return ops.cast(count > 0, "float32")


def mean_of_others(scores: Tensor, present: Tensor) -> Tensor:
    """For each modality the mean score of the other present ones.

    Args:
        scores: `(n_modalities,)`.
        present: `(n_modalities,)` of 0 and 1.
    """
    total = ops.sum(scores * present)
    count = ops.sum(present)
    return (total - scores * present) / ops.maximum(count - present, 1.0)


def ratio_to_others(scores: Tensor, present: Tensor) -> Tensor:
    """Score of each modality over the mean score of the other present ones."""
    return scores / (mean_of_others(scores, present) + 1e-12)
