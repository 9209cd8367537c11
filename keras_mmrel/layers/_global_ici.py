from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._host import HOST
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.portable import on_host
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(num_classes=NUM_CLASSES)
class GlobalICI(keras.layers.Layer):
    """Know what the features of each two classes have in common.

    Inter-class confusing information (ICI) is what a feature says about its
    sample without saying which of two classes it belongs to. Of the classes
    `c` and `c'`, whose features have the running means `μ` and variances
    `v`, it is the Gaussian half-way between them, of mean `(μ_c + μ_c')/2` and
    variance `(v_c + v_c')/2`: a feature there is as near to one class as to
    the other. Confusion degrees, `(classes, classes)` a modality, say what
    fraction of a class' samples is taken for which other class.

    The call answers: given the class probabilities of a sample, what is the
    mean and the variance of its ICI? It is the exact first two moments of
    the mixture over all pairs of classes, made without forming the pairs.

    Args:
        num_classes: Integer of at least 2.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Features `(batch, modalities, d)`, of which only the shape is
            used.
        probabilities: `(batch, modalities, classes)`.

    Returns:
        Dict of `mean` and `variance`, `(batch, modalities, d)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = GlobalICI(num_classes=3)
    >>> features, y = np.ones((5, 2, 4)), np.array([0, 1, 2, 0, 1])
    >>> p = np.full((5, 2, 3), 1 / 3)
    >>> layer(features, p)["mean"].shape
    (5, 2, 4)
    >>> layer.update_statistics(features, y, p)

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1): the global ICI, and a
          Gaussian for each pair of classes. What the Gaussians are, and how
          they are estimated, is this library's own.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_classes = num_classes

    def build(
        self, inputs_shape: tuple, probabilities_shape: tuple | None = None
    ) -> None:
        check_stacked(inputs_shape)
        if probabilities_shape and probabilities_shape[-1] != self.num_classes:
            raise refused(
                "`probabilities` must have the shape (batch, modalities, "
                f"{self.num_classes})",
                f"shape={tuple(probabilities_shape)}",
            )
        _, count, size = inputs_shape
        classes = self.num_classes
        # A class without a sample has a mean of 0 and a variance of 1.
        little = keras.initializers.Constant(1e-3)
        self.counts = add_state(self, "counts", (count, classes, 1), little)
        self.sums = add_state(self, "sums", (count, classes, size))
        self.squares = add_state(
            self, "squares", (count, classes, size), little
        )
        self.confusion = add_state(
            self, "confusion", (count, classes, classes), uniform_confusion
        )

    def call(self, inputs: Tensor, probabilities: Tensor) -> dict[str, Tensor]:
        p = ops.cast(probabilities, "float32")
        if not on_host(p):
            return self._expected(p, ops)
        found = self._expected(HOST.convert_to_tensor(p), HOST)
        return {k: ops.convert_to_tensor(v) for k, v in found.items()}

    def _expected(self, p: Tensor, xp: Any) -> dict[str, Tensor]:
        """Mean and variance by class probabilities, in `ops` or NumPy."""
        counts = xp.convert_to_tensor(self.counts)
        degrees = xp.convert_to_tensor(self.confusion)
        mean = xp.convert_to_tensor(self.sums) / counts
        variance = xp.convert_to_tensor(self.squares) / counts
        variance = xp.maximum(variance - xp.square(mean), 1e-3)
        # Moments of every class' ICI, over the classes that it is taken for.
        other = xp.matmul(degrees, mean)
        first = 0.5 * (mean + other)
        second = 0.5 * (variance + xp.matmul(degrees, variance)) + 0.25 * (
            xp.square(mean)
            + 2.0 * mean * other
            + xp.matmul(degrees, xp.square(mean))
        )
        mean = xp.einsum("bmk,mkd->bmd", p, first)
        square = xp.einsum("bmk,mkd->bmd", p, second)
        return {
            "mean": mean,
            "variance": xp.maximum(square - xp.square(mean), 1e-2),
        }

    def update_statistics(
        self,
        features: Tensor,
        labels: Labels,
        probabilities: Tensor,
        modality_mask: Tensor | None = None,
        decay: Tensor = 0.95,
    ) -> None:
        """Add a batch to the class statistics and the confusion degrees.

        A class that is not in the batch keeps what is known of it.

        Args:
            features: `(batch, modalities, d)`.
            labels: Class numbers `(batch,)`, or one-hot rows.
            probabilities: Class probabilities `(batch, modalities, classes)`
                that say what a sample is taken for.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.
            decay: What is left of older entries.
        """
        z = ops.stop_gradient(ops.cast(features, "float32"))
        if not self.built:
            self.build(tuple(z.shape))
        labels = one_hot_labels(labels, self.num_classes)
        weight = labels[:, None, :] * presence(modality_mask, z)[:, :, None]
        p = ops.stop_gradient(ops.cast(probabilities, "float32"))
        rows = ops.concatenate(
            [ops.ones_like(z[:, :, :1]), z, ops.square(z), p], axis=-1
        )
        new = ops.einsum("bmk,bmd->mkd", weight, rows)
        new = backend.all_reduce_sum(new)
        size = z.shape[-1]
        count, total, squares, taken = ops.split(
            new, [1, 1 + size, 1 + 2 * size], axis=-1
        )
        seen = count > 0
        keep = ops.where(seen, decay, 1.0)
        for state, add in zip(
            (self.counts, self.sums, self.squares),
            (count, total, squares),
            strict=True,
        ):
            state.assign(keep * ops.convert_to_tensor(state) + add)
        # Every other class a little, so that none is ruled out.
        off = 1.0 - ops.eye(self.num_classes, dtype="float32")
        taken = (taken + 1e-3) * off
        degrees = taken / ops.sum(taken, axis=-1, keepdims=True)
        old = ops.convert_to_tensor(self.confusion)
        self.confusion.assign(ops.where(seen, 0.95 * old + 0.05 * degrees, old))

    def get_config(self) -> dict:
        return {**super().get_config(), "num_classes": self.num_classes}


def bounded(squares: Tensor) -> Tensor:
    """Mean of the last axis, at most 25, so that no step runs away."""
    return ops.minimum(ops.mean(squares, axis=-1), 25.0)


def mean_where(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` where `mask` is 1, both `(batch, modalities)`."""
    return ops.sum(x * mask) / ops.maximum(ops.sum(mask), 1.0)


def uniform_confusion(shape: tuple, dtype: DType = None) -> Tensor:
    """Every class is confused with every other one alike, not with itself."""
    classes = shape[-1]
    off = (1.0 - ops.eye(classes, dtype=dtype)) / (classes - 1)
    return ops.ones(shape, dtype=dtype) * off
