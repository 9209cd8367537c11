"""Features of several modalities as one tensor, padded with zeros."""

from collections.abc import Sequence

from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape


def stack_features(features: Tensor | Sequence[Tensor]) -> Tensor:
    """Stack `(batch, d_m)` features into one float32 tensor.

    Narrower features are padded with zeros on the right. What is stacked
    already stays as it is.

    Args:
        features: One `(batch, d_m)` tensor per modality, or a tensor
            `(batch, modalities, features)`.

    Returns:
        Tensor `(batch, modalities, max(d_m))`.
    """
    if not isinstance(features, list | tuple):
        return ops.cast(features, "float32")
    for index, feature in enumerate(features):
        check_shape(f"inputs[{index}]", feature, "batch", "features")
    width = max(feature.shape[1] for feature in features)
    padded = [
        ops.pad(
            ops.cast(feature, "float32"),
            ((0, 0), (0, width - feature.shape[1])),
        )
        for feature in features
    ]
    return ops.stack(padded, axis=1)


def without_missing(x: Tensor, mask: Tensor) -> Tensor:
    """Put zeros where a modality is missing, whatever was there.

    Args:
        x: `(batch, modalities, features)`.
        mask: `(batch, modalities)`, as `presence` returns it.
    """
    return ops.where(mask[:, :, None] > 0, x, ops.zeros_like(x))


def check_stacked(shape: Sequence) -> None:
    """Refuse inputs that are not stacked like that."""
    if len(shape) != 3:
        raise ValueError(
            "`inputs` must have the shape (batch, modalities, features). "
            f"Received: shape={tuple(shape)}"
        )


def sizes_of(shape: Sequence) -> tuple[int, ...]:
    """Number of features of each modality, of a stack or of a list."""
    if shape and isinstance(shape[0], list | tuple):
        return tuple(one[-1] for one in shape)
    check_stacked(shape)
    return (shape[2],) * shape[1]
