import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._class_means import MOMENTUM
from keras_mmrel.layers._class_means import ClassMeans
from keras_mmrel.state import add_state

TEMPERATURE = 0.1


@keras.saving.register_keras_serializable(package="keras_mmrel")
class DepthStatistics(ClassMeans):
    """How well one depth of an encoder tells the classes apart, by channel.

    All states are moving averages over training batches (momentum 0.1; the
    first batch counts in full): the mean feature, one prototype a class, the
    depth's `performance` (the mean probability of the true class by the
    cosine to the prototypes, at temperature 0.1) and the channels' `scores`,
    which add up to the mean cosine margin of the true class. A call passes
    features on unchanged.

    Args:
        num_classes: Integer of at least 2.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.scores = add_state(self, "scores", (input_shape[-1],))
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
        features, labels, total, step = self.update_means(
            features, labels, weight
        )
        here = ops.cast(step > 0, "float32")
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


def unit(x: Tensor) -> Tensor:
    """Scale rows to length 1; a row of zeros stays, noise does not grow."""
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(square + 1e-12)
