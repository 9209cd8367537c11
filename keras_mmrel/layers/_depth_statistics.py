from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.state import add_state

MOMENTUM = 0.1
TEMPERATURE = 0.1


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(num_classes=NUM_CLASSES, moving_prototypes=Flag())
class DepthStatistics(keras.layers.Layer):
    """How well one depth of an encoder tells the classes apart, by channel.

    All states are moving averages over training batches (momentum 0.1; the
    first batch counts in full): the mean feature, one prototype a class, the
    depth's `performance` (the mean probability of the true class by the
    cosine to the prototypes, at temperature 0.1) and the channels' `scores`,
    which add up to the mean cosine margin of the true class. A call passes
    features on unchanged.

    Args:
        num_classes: Integer of at least 2.
        moving_prototypes: Whether the prototypes are moving averages of the
            class means; otherwise somebody else assigns them.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self, num_classes: int, moving_prototypes: bool = True, **kwargs: Any
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.moving_prototypes = moving_prototypes

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self.center = add_state(self, "center", (channels,))
        self.prototypes = add_state(
            self, "prototypes", (self.num_classes, channels)
        )
        self.seen = add_state(self, "seen", (self.num_classes, 1))
        self.scores = add_state(self, "scores", (channels,))
        chance = keras.initializers.Constant(1.0 / self.num_classes)
        self.performance = add_state(self, "performance", (), chance)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs

    def update_statistics(
        self, features: Tensor, labels: Labels, weight: Tensor
    ) -> None:
        """Take a training batch into account.

        Args:
            features: `(batch, channels)`.
            labels: Class numbers `(batch,)`, or one-hot rows.
            weight: `(batch,)` of 0 and 1: samples that count.
        """
        features = ops.stop_gradient(ops.cast(features, "float32"))
        # What overflows in half precision must not stay in the averages.
        finite = ops.all(ops.isfinite(features), axis=-1)
        weight = ops.where(finite, weight, 0.0)
        features = ops.where(weight[:, None] > 0, features, 0.0)
        labels = one_hot_labels(labels, self.num_classes) * weight[:, None]
        count = backend.all_reduce_sum(ops.sum(labels, axis=0))[:, None]
        sums = backend.all_reduce_sum(
            ops.matmul(ops.transpose(labels), features)
        )
        total = ops.maximum(ops.sum(count), 1.0)
        started = ops.cast(ops.sum(self.seen) > 0, "float32")
        here = ops.cast(ops.sum(count) > 0, "float32")

        # A class's first batch counts in full, as does the first of all.
        if self.moving_prototypes:
            step = ops.where(self.seen > 0, MOMENTUM, 1.0)
            step = ops.where(count > 0, step, 0.0)
            own = sums / ops.maximum(count, 1.0)
            self.prototypes.assign_add(step * (own - self.prototypes))
        self.seen.assign_add(count)
        step = here * (started * MOMENTUM + (1.0 - started))
        mean = ops.sum(sums, axis=0) / total
        self.center.assign_add(step * (mean - self.center))

        margins, probability = self.margins_of(features, labels)
        margin = backend.all_reduce_sum(ops.sum(margins, axis=0)) / total
        probability = backend.all_reduce_sum(ops.sum(probability)) / total
        self.scores.assign_add(here * MOMENTUM * (margin - self.scores))
        self.performance.assign_add(
            here * MOMENTUM * (probability - self.performance)
        )

    def margins_of(self, features: Tensor, labels: Labels) -> tuple:
        """Margins by channel and the true class's probability.

        Args:
            features: `(batch, channels)`.
            labels: One-hot `(batch, num_classes)`; a row of zeros gives
                zeros.

        Returns:
            `(batch, channels)`, whose sum over channels is the cosine to the
            own prototype minus the mean cosine to all others, and `(batch,)`.
        """
        prototypes = ops.convert_to_tensor(self.prototypes)
        prototypes = unit(prototypes - ops.mean(prototypes, axis=0))
        unit_features = unit(features - self.center)
        weight = ops.sum(labels, axis=-1, keepdims=True)
        own = ops.matmul(labels, prototypes)
        others = weight * ops.sum(prototypes, axis=0) - own
        margins = unit_features * (own - others / (self.num_classes - 1))
        similarity = ops.matmul(unit_features, ops.transpose(prototypes))
        chance = ops.softmax(similarity / TEMPERATURE, axis=-1)
        return margins, ops.sum(labels * chance, axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "moving_prototypes": self.moving_prototypes,
        }


def unit(x: Tensor) -> Tensor:
    """Scale rows to length 1; a row of zeros stays, noise does not grow."""
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(square + 1e-12)
