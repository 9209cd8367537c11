import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._glorot import glorot
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers._stack_features import without_missing
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    num_classes=NUM_CLASSES,
    embedding_dim=SIZE,
    temperature=Either(Number(0, low_open=True), None),
    dropout=Number(0, 1, high_open=True),
    seed=SEED,
)
class PrototypeConfidence(TensorLayer):
    """Say how far each modality can be trusted, without a classifier.

    Each modality has its own small encoder and one noise-free prototype a
    class in the embedding space. The cosine similarity of a sample to the
    prototypes, divided by the temperature, gives class probabilities; the
    confidence is how far the largest one is above chance, times the
    typicality that a `FeatureGate` supplies. Because embedding and prototypes
    are compared on the sphere, a corrupted sample cannot gain confidence by
    its size, as it can with a linear classifier.

    No gradient flows through the confidence.

    Args:
        num_classes: Integer of at least 2.
        embedding_dim: Positive integer, the size `h` of the embedding.
        temperature: Positive float, or `None` for
            `1 / log(99 * (num_classes - 1))`: with it a sample that lies on
            its prototype, the others being orthogonal, has a probability
            of 0.99.
        dropout: Float in `[0, 1)`, on the encoder's hidden units.
        seed: Integer, or `None` to draw one. Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, modalities, features)`, standardised and
            gated, such as `FeatureGate`'s `gated`.
        typicality: `None` or `(batch, modalities)` in [0, 1].
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        training: Whether `logits`, from which a loss is made, see dropout.
            Nothing else does: confidence means the same in training as later.

    Returns:
        Dict with `embedding` `(batch, modalities, h)`, `logits` and
        `probabilities` `(batch, modalities, num_classes)`, `confidence`
        `(batch, modalities)` in [0, 1], and `prototypes`
        `(modalities, num_classes, h)` of length 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = keras_mmrel.layers.PrototypeConfidence(num_classes=4)
    >>> layer(np.zeros((5, 3, 10)))["confidence"].shape
    (5, 3)

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489): noise-free
          prototypes and classifier-free confidence estimation. The formulas
          are this library's own.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int = 32,
        temperature: float | None = None,
        dropout: float = 0.5,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.temperature = temperature
        self.tau = temperature or 1.0 / math.log(99.0 * (num_classes - 1))
        self.dropout = dropout
        self.seed = known_seed(seed)
        self.drop = keras.layers.Dropout(
            dropout, seed=self.seed, dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        check_stacked(input_shape)
        _, modalities, features = input_shape
        width = self.embedding_dim

        def dense(name: str, *shape: int) -> Tensor:
            return self.add_weight(
                shape=shape, initializer=glorot(*shape[-2:]), name=name
            )

        self.hidden_kernel = dense("hidden_kernel", modalities, features, width)
        self.hidden_bias = self.add_weight(
            shape=(modalities, width), initializer="zeros", name="hidden_bias"
        )
        self.kernel = dense("kernel", modalities, width, width)
        self.bias = self.add_weight(
            shape=(modalities, width), initializer="zeros", name="bias"
        )
        self.prototypes = self.add_weight(
            shape=(modalities, self.num_classes, width),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="prototypes",
        )

    def call(
        self,
        inputs: Tensor,
        typicality: Tensor | None = None,
        modality_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, Tensor]:
        check_shape("inputs", inputs, "batch", *self.hidden_kernel.shape[:2])
        mask = presence(modality_mask, inputs)
        inputs = without_missing(inputs, mask)
        hidden = ops.einsum("bmd,mdh->bmh", inputs, self.hidden_kernel)
        hidden = ops.relu(hidden + self.hidden_bias)
        prototypes = self.unit_prototypes()
        embedding, logits = self._compare(hidden, prototypes)
        probabilities = ops.softmax(logits, axis=-1)
        chance = 1.0 / self.num_classes
        confidence = (ops.max(probabilities, axis=-1) - chance) / (1 - chance)
        confidence = confidence * mask
        if typicality is not None:
            check_shape("typicality", typicality, "batch", mask.shape[1])
            confidence = confidence * ops.cast(typicality, "float32")
        if training:
            dropped = self.drop(hidden, training=training)
            _, logits = self._compare(dropped, prototypes)
        return {
            "embedding": embedding,
            "logits": logits,
            "probabilities": probabilities,
            "confidence": ops.stop_gradient(confidence),
            "prototypes": prototypes,
        }

    def _compare(
        self, hidden: Tensor, prototypes: Tensor
    ) -> tuple[Tensor, Tensor]:
        embedding = ops.einsum("bmh,mhg->bmg", hidden, self.kernel) + self.bias
        return embedding, cosine_logits(embedding, prototypes, self.tau)

    def unit_prototypes(self) -> Tensor:
        """Prototypes `(modalities, num_classes, h)` of length 1, float32."""
        return unit(ops.cast(self.prototypes, "float32"))

    def orthogonality_loss(self) -> Tensor:
        """Mean squared cosine between the prototypes of different classes."""
        prototypes = self.unit_prototypes()
        gram = ops.einsum("mkh,mlh->mkl", prototypes, prototypes)
        off_diagonal = gram - ops.eye(self.num_classes, dtype="float32")
        classes = self.num_classes
        pairs = prototypes.shape[0] * classes * (classes - 1)
        return ops.sum(ops.square(off_diagonal)) / pairs

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "embedding_dim": self.embedding_dim,
            "temperature": self.temperature,
            "dropout": self.dropout,
            "seed": self.seed,
        }


def unit(x: Tensor) -> Tensor:
    """Scale the last axis to length 1; a zero vector stays zero.

    Smoothly so: a vector much shorter than 0.003 stays short, and no gradient
    grows by more than a factor of 320.
    """
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(square + 1e-5)


def cosine_logits(embedding: Tensor, prototypes: Tensor, tau: float) -> Tensor:
    """Cosine of `(b, m, h)` to unit prototypes `(m, k, h)` over `tau`."""
    direction = unit(ops.cast(embedding, "float32"))
    return ops.einsum("bmh,mkh->bmk", direction, prototypes) / tau
