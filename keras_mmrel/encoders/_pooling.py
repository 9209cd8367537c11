"""From what a backbone or a block returns to one feature a sample.

A block of an encoder returns a tensor with the channels last, or, where
something has to go along with it (the mask of a text's padding), a dict: the
tensor under `"features"`, and the rest under names of their own.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_mmrel.contract import Tensor

FEATURES = "features"
PADDING = "padding_mask"


def features_of(x: Any) -> Tensor:
    """Return the tensor of what a block has returned."""
    return x[FEATURES] if isinstance(x, Mapping) else x


def with_features(x: Any, features: Tensor) -> Any:
    """Return what a block has returned, with another tensor."""
    return {**x, FEATURES: features} if isinstance(x, Mapping) else features


def mean_over_positions(x: Any) -> Tensor:
    """Average over the axes between the batch and the channels.

    Args:
        x: What a block has returned. Of tokens `(batch, tokens, d)` those are
            averaged that its `"padding_mask"` marks, if it has one.
    """
    features = features_of(x)
    mask = x.get(PADDING) if isinstance(x, Mapping) else None
    return masked_mean(features, usable_mask(mask, features))


def usable_mask(mask: Tensor | None, features: Tensor) -> Tensor | None:
    """Return the mask if it says which of these tokens are no padding.

    Where a backbone has made fewer tokens of them, nobody knows.
    """
    if mask is None or len(features.shape) != 3:
        return None
    return mask if mask.shape[1] == features.shape[1] else None


def masked_mean(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average over all positions, or over the tokens that a mask marks.

    Args:
        features: `(batch, ..., d)`.
        mask: `None`, or `(batch, tokens)` for `(batch, tokens, d)`, 1 for what
            is no padding. A sample that is all padding has the feature 0.
    """
    middle = tuple(range(1, len(features.shape) - 1))
    if not middle:
        return features
    if mask is None:
        return ops.mean(features, axis=middle)
    mask = ops.cast(mask, "bool")
    # Selecting, not multiplying: padding may hold anything.
    kept = ops.where(mask[:, :, None], features, 0)
    count = ops.sum(ops.cast(mask, features.dtype), axis=1, keepdims=True)
    return ops.sum(kept, axis=1) / ops.maximum(count, 1)
