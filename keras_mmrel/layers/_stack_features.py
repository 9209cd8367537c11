"""Features of several modalities as one tensor, padded with zeros."""

from collections.abc import Mapping
from collections.abc import Sequence

from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.tensor_layer import refused


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
        check_shape("inputs", features, "batch", "modalities", "features")
        return ops.cast(features, "float32")
    if not features:
        raise refused(
            "`inputs` must hold at least one modality", "an empty list"
        )
    rows: int | str = "batch"
    tensors = []
    for index, feature in enumerate(features):
        check_shape(f"inputs[{index}]", feature, rows, "features")
        tensors.append(ops.cast(feature, "float32"))
        size = tensors[0].shape[0]
        rows = "batch" if size is None else size
    width = max(x.shape[1] for x in tensors)
    padded = [
        x
        if x.shape[1] == width
        else ops.pad(x, ((0, 0), (0, width - x.shape[1])))
        for x in tensors
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
    nested = isinstance(shape, Mapping) or any(
        isinstance(size, list | tuple) for size in shape
    )
    if nested or len(shape) != 3:
        raise refused(
            "`inputs` must have the shape (batch, modalities, features)",
            f"the shapes {shape}" if nested else f"shape={tuple(shape)}",
        )


def sizes_of(shape: Sequence) -> tuple[int, ...]:
    """Number of features of each modality, of a stack or of a list."""
    listed = not isinstance(shape, Mapping) and shape
    if listed and isinstance(shape[0], list | tuple):
        return tuple(one[-1] for one in shape)
    check_stacked(shape)
    return (shape[2],) * shape[1]
