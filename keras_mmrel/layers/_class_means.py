from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.state import add_state

MOMENTUM = 0.1


@constrained(num_classes=NUM_CLASSES)
class ClassMeans(keras.layers.Layer):
    """Base of what is known of one feature by class.

    Moving averages over training batches (momentum 0.1; the first batch
    counts in full, and so does a class's first): the mean feature and one
    prototype a class.

    Args:
        num_classes: Integer of at least 2.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[-1]
        self.center = add_state(self, "center", (channels,))
        self.prototypes = add_state(
            self, "prototypes", (self.num_classes, channels)
        )
        self.seen = add_state(self, "seen", (self.num_classes, 1))

    def update_means(
        self, features: Tensor, labels: Labels, weight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take a training batch into account.

        Args:
            features: `(batch, channels)`.
            labels: Class numbers `(batch,)`, or one-hot rows.
            weight: `(batch,)` of 0 and 1: samples that count.

        Returns:
            The features in float32, zero where they do not count; one-hot
            labels likewise; the number of samples that count, at least 1; and
            the momentum of this batch for averages that begin with it, 0
            where no sample counts.
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

        step = ops.where(self.seen > 0, MOMENTUM, 1.0)
        step = ops.where(count > 0, step, 0.0)
        own = sums / ops.maximum(count, 1.0)
        self.prototypes.assign_add(step * (own - self.prototypes))
        self.seen.assign_add(count)
        step = here * (started * MOMENTUM + (1.0 - started))
        mean = ops.sum(sums, axis=0) / total
        self.center.assign_add(step * (mean - self.center))
        return features, labels, total, step

    def get_config(self) -> dict:
        return {**super().get_config(), "num_classes": self.num_classes}
