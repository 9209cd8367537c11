import math
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel._branches import branches
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._glorot import glorot
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.seeds import known_seed
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import refused

TABLES = ("auto", "pair", "marginal")
# Above so many classes tables of pairs would be larger than all weights.
FEW_CLASSES = 32


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(num_classes=NUM_CLASSES, tables=Choice(*TABLES), seed=SEED)
class GlobalICI(keras.layers.Layer):
    """Learn what confuses each class with each other one.

    Inter-class confusing information (ICI) is what a feature says about its
    sample without saying which of two classes it belongs to. Two encoders,
    told which class `c'` a sample of class `c` may be confused with, split a
    standardised feature `z` into a specific part, which tells `c` from `c'`,
    and a shared one, which does not; a decoder makes `z` of both. What the
    shared part alone decodes to is the ICI. Its mean and variance are kept in
    tables, and with them the confusion degrees, `(classes, classes)` a
    modality: what fraction of a class' samples is taken for which other class.

    The call answers: given the class probabilities of a sample, what is the
    mean and the variance of its ICI? It is the exact first two moments of
    the mixture over all pairs of classes, made without forming the pairs.

    `losses_of` returns the losses of the encoders, and `update_statistics`
    adds a batch to the tables.

    Args:
        num_classes: Integer of at least 2.
        tables: `"pair"`, a mean and a variance for each pair of classes;
            `"marginal"`, one for each class, over the classes that it is
            confused with; or `"auto"`, pairs up to 32 classes.
        seed: Integer, or `None` to draw one. Seed of the drawn pairs.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Standardised features `(batch, modalities, d)`, of which only
            the shape is used.
        probabilities: `(batch, modalities, classes)`.

    Returns:
        Dict of `mean` and `variance`, `(batch, modalities, d)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = GlobalICI(num_classes=3)
    >>> features, y = np.ones((5, 2, 4)), np.array([0, 1, 2, 0, 1])
    >>> layer(features, np.full((5, 2, 3), 1 / 3))["mean"].shape
    (5, 2, 4)
    >>> sorted(layer.losses_of(features, y))[:2]
    ['adversary', 'cycle']

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1): the global ICI, two
          encoders, and a Gaussian for each pair of classes. The losses, the
          tables and their updates are this library's own.
    """

    def __init__(
        self,
        num_classes: int,
        tables: str = "auto",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_classes = num_classes
        self.tables = tables
        self.pairs = tables == "pair" or (
            tables == "auto" and num_classes <= FEW_CLASSES
        )
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

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
        self.size = size

        def square(name: str) -> Tensor:
            return self.add_weight(
                shape=(count, size, size),
                initializer=glorot(size, size),
                name=name,
            )

        def by_class(name: str, initializer: Tensor = "zeros") -> Tensor:
            return self.add_weight(
                shape=(count, classes, size), initializer=initializer, name=name
            )

        def encoder(name: str) -> list[Tensor]:
            return [
                square(f"{name}_kernel"),
                by_class(f"{name}_scale"),
                by_class(f"{name}_shift"),
            ]

        # === Encoders, decoder, and who tells the classes apart ===
        self.specific, self.shared = encoder("specific"), encoder("shared")
        self.decoder = square("decoder_kernel")
        self.decoder_bias = self.add_weight(
            shape=(count, size), initializer="zeros", name="decoder_bias"
        )
        self.discriminator = by_class("discriminator", glorot(classes, size))
        self.adversary = by_class("adversary", glorot(classes, size))

        # === Tables ===
        rows = classes * classes if self.pairs else classes
        little = keras.initializers.Constant(1e-3)
        self.counts = add_state(self, "counts", (count, rows, 1), little)
        self.sums = add_state(self, "sums", (count, rows, size))
        self.squares = add_state(self, "squares", (count, rows, size), little)
        self.confusion = add_state(
            self, "confusion", (count, classes, classes), uniform_confusion
        )

    # -- The prior -----------------------------------------------------------

    def call(self, inputs: Tensor, probabilities: Tensor) -> dict[str, Tensor]:
        p = ops.cast(probabilities, "float32")
        first, second = self.class_moments()
        mean = ops.einsum("bmk,mkd->bmd", p, first)
        square = ops.einsum("bmk,mkd->bmd", p, second)
        return {
            "mean": mean,
            "variance": ops.maximum(square - ops.square(mean), 1e-2),
        }

    def class_moments(self) -> tuple[Tensor, Tensor]:
        """First and second moment of every class' ICI, over its partners.

        Returns:
            Two tensors `(modalities, classes, d)`.
        """
        counts = ops.convert_to_tensor(self.counts)
        mean = ops.convert_to_tensor(self.sums) / counts
        variance = ops.convert_to_tensor(self.squares) / counts
        variance = ops.maximum(variance - ops.square(mean), 1e-3)
        second = variance + ops.square(mean)
        if not self.pairs:
            return mean, second
        classes = self.num_classes
        shape = (mean.shape[0], classes, classes, self.size)
        degrees = ops.convert_to_tensor(self.confusion)
        return tuple(
            ops.einsum("mkl,mkld->mkd", degrees, ops.reshape(x, shape))
            for x in (mean, second)
        )

    def mean_confusion(self) -> Tensor:
        """Confusion degrees `(classes, classes)`, averaged over modalities."""
        return ops.mean(ops.convert_to_tensor(self.confusion), axis=0)

    # -- Learning ------------------------------------------------------------

    def losses_of(
        self,
        features: Tensor,
        labels: Labels,
        modality_mask: Tensor | None = None,
    ) -> dict:
        """Return the losses that train the encoders.

        Every sample is paired with a class that it may be confused with, and
        with a random sample of the batch from that class, if there is one.

        Args:
            features: `(batch, modalities, d)`; no gradient flows into them.
            labels: Class numbers `(batch,)`, or one-hot rows.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.

        Returns:
            Dict of scalars: `reconstruction`; `cycle`, exchanging the shared
            parts of two samples and coding the result again must give the
            same parts; `specific`, the cross-entropy of telling the two
            classes apart by the specific part; `adversary`, the same for an
            adversary who sees the shared part; and `shared`, how far from
            chance the adversary is, with gradients into the encoder only.
        """
        z, labels, mask = self._prepare(features, labels, modality_mask)
        if not self.built:
            self.build(tuple(z.shape))
        partner = self.draw_partners(labels)
        index, exists = self._draw_samples(labels, partner, mask)
        own = self._film(z, self.specific, partner)
        shared = self._film(z, self.shared, partner)
        own, exchanged, tested = branches(own, 3)
        wrong = self._decode(own + shared) - z
        loss = {"reconstruction": mean_where(bounded(ops.square(wrong)), mask)}
        # The partner sees the pair the other way round.
        other = self._film(ops.take(z, index, axis=0), self.shared, labels)
        swapped = self._decode(exchanged + other)
        again = ops.square(
            self._film(swapped, self.specific, partner) - ops.stop_gradient(own)
        ) + ops.square(
            self._film(swapped, self.shared, partner) - ops.stop_gradient(other)
        )
        both = mask * ops.take(mask, index, axis=0) * exists[:, None]
        loss["cycle"] = mean_where(bounded(again), both)

        def score(part: Tensor, table: Tensor) -> Tensor:
            telling = by_sample(table, labels) - by_sample(table, partner)
            return ops.sum(part * telling, axis=-1)

        telling = ops.convert_to_tensor(self.discriminator)
        loss["specific"] = mean_where(
            ops.softplus(-score(tested, telling)), mask
        )
        telling = ops.convert_to_tensor(self.adversary)
        seen = score(ops.stop_gradient(shared), telling)
        loss["adversary"] = mean_where(ops.softplus(-seen), mask)
        seen = score(shared, ops.stop_gradient(telling))
        unsure = 0.5 * (ops.softplus(seen) + ops.softplus(-seen))
        loss["shared"] = mean_where(unsure - math.log(2.0), mask)
        return loss

    def draw_partners(self, labels: Labels) -> Tensor:
        """Draw for each label a class that it is confused with."""
        degrees = ops.take(self.mean_confusion(), labels, axis=0)
        return keras.random.categorical(
            ops.log(degrees + 1e-30), 1, dtype="int32", seed=self.seed_generator
        )[:, 0]

    def _draw_samples(
        self, labels: Labels, partner: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Random sample of each partner class, and whether there is one."""
        same = ops.equal(partner[:, None], labels[None, :])
        # Not one that is missing altogether.
        same = ops.logical_and(same, ops.max(mask, axis=1)[None] > 0)
        chance = keras.random.uniform(
            ops.shape(same), dtype="float32", seed=self.seed_generator
        )
        index = ops.argmax(ops.where(same, chance + 1.0, 0.0), axis=1)
        return index, ops.cast(ops.any(same, axis=1), "float32")

    def _film(self, z: Tensor, weights: list, classes: Tensor) -> Tensor:
        """Encode `z`, told a class (`(batch,)`) for every sample."""
        kernel, scale, shift = (ops.convert_to_tensor(w) for w in weights)
        encoded = ops.einsum("bmd,mde->bme", z, kernel)
        return encoded * (1.0 + by_sample(scale, classes)) + by_sample(
            shift, classes
        )

    def _decode(self, x: Tensor) -> Tensor:
        return ops.einsum("bmd,mde->bme", x, self.decoder) + self.decoder_bias

    def _prepare(self, features: Tensor, labels: Labels, mask: Tensor) -> tuple:
        z = ops.stop_gradient(ops.cast(features, "float32"))
        labels = ops.cast(class_numbers(labels, self.num_classes), "int32")
        return z, labels, presence(mask, z)

    # -- Statistics ----------------------------------------------------------

    def update_statistics(
        self,
        features: Tensor,
        labels: Labels,
        probabilities: Tensor,
        modality_mask: Tensor | None = None,
        decay: Tensor = 0.95,
    ) -> None:
        """Add a batch to the tables and the confusion degrees.

        A class, or pair, that is not in the batch keeps what is known of it.

        Args:
            features: `(batch, modalities, d)`.
            labels: Class numbers `(batch,)`, or one-hot rows.
            probabilities: Class probabilities `(batch, modalities, classes)`
                that say what a sample is taken for.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.
            decay: What is left of older entries of the tables.
        """
        z, labels, mask = self._prepare(features, labels, modality_mask)
        partner = self.draw_partners(labels)
        ici = ops.einsum(
            "bmd,mde->bme", self._film(z, self.shared, partner), self.decoder
        )
        row = labels * self.num_classes + partner if self.pairs else labels
        weight = mask[:, :, None]
        new = [
            self._by_row(x * weight, row, self.counts.shape[1])
            for x in (ops.ones_like(weight), ici, ops.square(ici))
        ]
        keep = ops.where(new[0] > 0, decay, 1.0)
        for state, add in zip(
            (self.counts, self.sums, self.squares), new, strict=True
        ):
            state.assign(keep * ops.convert_to_tensor(state) + add)
        self._update_confusion(labels, probabilities, weight)

    def _update_confusion(
        self, labels: Labels, p: Tensor, weight: Tensor
    ) -> None:
        classes = self.num_classes
        taken = self._by_row(ops.cast(p, "float32") * weight, labels, classes)
        seen = ops.sum(taken, axis=-1, keepdims=True) > 0
        samples = ops.sum(taken) / (taken.shape[0] * classes)
        off = 1.0 - ops.eye(classes, dtype="float32")
        taken = (taken + 1e-3 * samples) * off
        degrees = taken / ops.maximum(
            ops.sum(taken, axis=-1, keepdims=True), 1e-12
        )
        old = ops.convert_to_tensor(self.confusion)
        self.confusion.assign(ops.where(seen, 0.95 * old + 0.05 * degrees, old))

    def _by_row(self, x: Tensor, rows: Tensor, count: int) -> Tensor:
        """Sum `(batch, modalities, n)` over the samples of each row.

        Returns:
            `(modalities, count, n)`, summed over all replicas.
        """
        modalities, size = x.shape[1:]
        flat = ops.reshape(ops.stop_gradient(x), (-1, modalities * size))
        sums = ops.segment_sum(flat, rows, num_segments=count)
        sums = backend.all_reduce_sum(sums)
        sums = ops.reshape(sums, (count, modalities, size))
        return ops.transpose(sums, (1, 0, 2))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "tables": self.tables,
            "seed": self.seed,
        }


def by_sample(table: Tensor, classes: Tensor) -> Tensor:
    """Rows of `(modalities, classes, d)` for each sample, `(b, m, d)`."""
    return ops.transpose(ops.take(table, classes, axis=1), (1, 0, 2))


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
