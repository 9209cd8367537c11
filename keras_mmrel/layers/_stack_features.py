from collections.abc import Sequence

from keras import ops

from keras_mmrel.contract import Tensor


def stack_features(features: Sequence[Tensor]) -> Tensor:
    """Stack `(batch, d_m)` features into one float32 tensor.

    Narrower features are padded with zeros on the right.

    Args:
        features: One `(batch, d_m)` tensor per modality.

    Returns:
        Tensor `(batch, n_modalities, max(d_m))`.
    """
    width = max(feature.shape[1] for feature in features)
    padded = [
        ops.pad(
            ops.cast(feature, "float32"),
            ((0, 0), (0, width - feature.shape[1])),
        )
        for feature in features
    ]
    return ops.stack(padded, axis=1)


def check_stacked(shape: Sequence) -> None:
    """Refuse inputs that are not stacked like that."""
    if len(shape) != 3:
        raise ValueError(
            "`inputs` must have the shape (batch, modalities, features). "
            f"Received: shape={tuple(shape)}"
        )
