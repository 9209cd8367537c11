from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._class_means import ClassMeans
from keras_mmrel.state import add_state

# Least variance of a channel, as a fraction of the mean total one.
SHARE = 0.05
# Of a normal distribution, 95 % are below the mean plus so many deviations.
DEVIATIONS = 1.645
# A distance at which a feature is as good as its class's prototype.
NEAR = 0.01


@keras.saving.register_keras_serializable(package="keras_mmrel")
class FeatureTypicality(ClassMeans):
    """Say how typical an encoded feature is of those in training.

    With the prototype `p` of a class and the variances `v` within classes,
    both moving averages over training batches, a feature's distance is
    `d = min over classes of mean((f - p)² / v)`. Its typicality is
    `1 / (1 + relu(d / q - 1))`, where 95 % of the training features have a
    distance below `q`, as the mean and the deviation of their logarithms say:
    1 for a feature like any other, and near 0 far from every class. No labels
    are needed for it. Scaling all features by a constant changes nothing.

    A call returns the typicality, `(batch,)`, 1 before any update.

    Args:
        num_classes: Integer of at least 2.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.within = add_state(self, "within", (input_shape[-1],))
        self.spread = add_state(self, "spread", ())
        # Mean and mean square of the logarithm of the distance.
        self.logarithms = add_state(self, "logarithms", (2,))

    def call(self, inputs: Tensor) -> Tensor:
        mean, square = self.logarithms[0], self.logarithms[1]
        deviation = ops.sqrt(ops.relu(square - mean * mean))
        relative = ops.exp(
            self.log_distance(ops.cast(inputs, "float32"))
            - (mean + DEVIATIONS * deviation)
        )
        typicality = 1.0 / (1.0 + ops.relu(relative - 1.0))
        return ops.where(ops.sum(self.seen) > 0, typicality, 1.0)

    def log_distance(self, features: Tensor) -> Tensor:
        """Logarithm of the distance to the nearest class, `(batch,)`."""
        variance = self.within + SHARE * self.spread + 1e-12
        scale = ops.rsqrt(variance * features.shape[-1])
        scaled = (features - self.center) * scale
        prototypes = (self.prototypes - self.center) * scale
        square = (
            ops.sum(ops.square(scaled), axis=1, keepdims=True)
            - 2.0 * ops.matmul(scaled, ops.transpose(prototypes))
            + ops.sum(ops.square(prototypes), axis=1)
        )
        square = ops.where(self.seen[:, 0] > 0, square, 1e30)
        return ops.log(ops.maximum(ops.min(square, axis=1), NEAR))

    def update_statistics(
        self, features: Tensor, labels: Labels, weight: Tensor
    ) -> None:
        """Take a training batch into account.

        Args:
            features: `(batch, channels)`.
            labels: Class numbers `(batch,)`, or one-hot rows.
            weight: `(batch,)` of 0 and 1: samples that count.
        """
        features, labels, total, step = self.update_means(
            features, labels, weight
        )
        counted = ops.sum(labels, axis=1)

        def mean(values: Tensor) -> Tensor:
            values = ops.where(counted[:, None] > 0, values, 0.0)
            return backend.all_reduce_sum(ops.sum(values, axis=0)) / total

        residual = features - ops.matmul(labels, self.prototypes)
        within = mean(ops.square(residual))
        self.within.assign_add(step * (within - self.within))
        spread = ops.mean(mean(ops.square(features - self.center)))
        self.spread.assign_add(step * (spread - self.spread))
        log = self.log_distance(features)[:, None]
        moments = mean(ops.concatenate([log, ops.square(log)], axis=1))
        self.logarithms.assign_add(step * (moments - self.logarithms))

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape[:1], dtype="float32")
