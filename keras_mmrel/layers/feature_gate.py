from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_mask_values
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.contract import to_numpy
from keras_mmrel.layers._batches import batches_of
from keras_mmrel.layers._batches import first_batch
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._first_largest import first_largest
from keras_mmrel.layers._host import HOST
from keras_mmrel.layers._moments import class_moments
from keras_mmrel.layers._moments import merge_moments
from keras_mmrel.layers._moments import reduce_moments
from keras_mmrel.layers._moments import weighted_moments
from keras_mmrel.layers._stack_features import sizes_of
from keras_mmrel.layers._stack_features import stack_features
from keras_mmrel.layers._stack_features import without_missing
from keras_mmrel.portable import on_host
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    num_classes=NUM_CLASSES,
    feature_sizes=Either(Every(Integer(1)), None),
    feature_radius=Number(0, low_open=True),
    feature_slope=Number(0, low_open=True),
    typicality_radius=Number(0, low_open=True),
    typicality_temperature=Number(0, low_open=True),
    minimum_deviation=Number(0, low_open=True),
    forgetting=Either(Every(Number(0, 1, low_open=True)), None),
)
class FeatureGate(TensorLayer):
    """Judge every feature, and every modality, against clean class statistics.

    The layer keeps, per modality and class, the mean of clean training
    samples (a noise-free prototype in input space) and the within-class
    deviation of every feature. A sample is compared with its nearest class:

    - *feature quality* is near 1 for a feature within `feature_radius`
      deviations of that class and near 0 beyond. `gated` and `cleaned` pull
      an unreliable feature to the mean over classes.
    - *typicality* compares the sample's overall distance, over the features
      that pass, to that of clean training samples, and multiplies it by the
      fraction of features that pass: near 1 for an ordinary sample, near 0 for
      one further away than almost all of them. It is near 0 as well for one
      that is nearer to the mean over classes than almost all of them, such as
      zeros in place of standardised features, and 0 for a modality none of
      whose features varied: these tell nothing.

    Nothing here is trained by gradients, and no gradient flows into quality
    or typicality. Until the statistics are ready both are 1, and `gated` uses
    the statistics seen so far.

    Statistics come from `adapt`, as those of `keras.layers.Normalization` do,
    or from `update_statistics` (streaming, exact: the order of the batches
    does not matter). Training does not move them. A missing modality takes no
    part in them, and its values are never read.

    Args:
        num_classes: Integer of at least 2.
        feature_sizes: For each modality the number of its leading features
            that are real, the rest being zero padding; or `None` for what
            the inputs have.
        feature_radius: Positive float, in within-class deviations.
        feature_slope: Positive float, steepness of the feature quality.
        typicality_radius: Positive float, in deviations of the clean
            training samples' (log) distance.
        typicality_temperature: Positive float, softness of the typicality.
        minimum_deviation: Positive float, the smallest deviation of a feature
            in units of the input, which is expected in about [0, 1].
        forgetting: Sequence of floats in (0, 1], one a modality, or `None`
            for 1 everywhere. What a step leaves of the older statistics:
            below 1 for a feature whose encoder is still learning.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Tensor `(batch, modalities, features)`, or a list of
            `(batch, d_m)` tensors, one a modality, which are padded with zeros
            to the widest.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.

    Returns:
        Dict with `quality` `(batch, modalities, features)` and `typicality`
        `(batch, modalities)`, both in [0, 1]; `standardised` features,
        clipped to [-8, 8]; `gated`, those times their quality; `cleaned`, in
        the units of the input; and `retained` `(batch, modalities)`, the
        fraction in [0, 1] of the modality's class information that passes the
        gate. The class information of a feature is the fraction of its
        variance that lies between the classes, less what chance gives.

    Raises:
        ValueError: If an argument is out of its range, or the input has not
            three axes.

    Example:

    >>> gate = keras_mmrel.layers.FeatureGate(num_classes=2)
    >>> x = np.random.default_rng(0).uniform(size=(20, 3, 5))
    >>> gate.adapt(x, np.arange(20) % 2)
    >>> gate(x)["quality"].shape
    (20, 3, 5)

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489): noise-free class
          prototypes. Doing this at the level of input features, the
          typicality and every formula are this library's own choice.
    """

    def __init__(
        self,
        num_classes: int,
        feature_sizes: Sequence[int] | None = None,
        feature_radius: float = 4.0,
        feature_slope: float = 4.0,
        typicality_radius: float = 3.0,
        typicality_temperature: float = 0.5,
        minimum_deviation: float = 0.02,
        forgetting: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        # Statistics lose too much in half precision.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_classes = num_classes
        self.feature_sizes = feature_sizes and tuple(feature_sizes)
        self.feature_radius = feature_radius
        self.feature_slope = feature_slope
        self.typicality_radius = typicality_radius
        self.typicality_temperature = typicality_temperature
        self.minimum_deviation = minimum_deviation
        self.forgetting = forgetting and tuple(forgetting)

    def build(self, input_shape: Sequence) -> None:
        widths = sizes_of(input_shape)
        modalities, features = len(widths), max(widths)
        sizes = self.feature_sizes or widths
        if len(sizes) != modalities or max(sizes) > features:
            raise refused(
                f"`feature_sizes` must hold {modalities} sizes of at most "
                f"{features}",
                f"feature_sizes={sizes}",
            )
        # (modalities, features): 1 for a real feature, 0 for padding.
        self._real = (np.arange(features) < np.array(sizes)[:, None]).astype(
            "float32"
        )
        self._decay = np.array(
            self.forgetting or (1.0,) * modalities, "float32"
        )

        classes = self.num_classes
        self.counts = add_state(self, "counts", (modalities, classes, 1))
        self.means = add_state(self, "means", (modalities, classes, features))
        self.squares = add_state(
            self, "squares", (modalities, classes, features)
        )
        # Of the distance to the nearest class, and to the mean over classes.
        self.distance_counts = add_state(
            self, "distance_counts", (1, modalities)
        )
        self.distance_means = add_state(self, "distance_means", (2, modalities))
        self.distance_squares = add_state(
            self, "distance_squares", (2, modalities)
        )
        self.ready = add_state(self, "ready")

    @property
    def real(self) -> Tensor:
        return ops.convert_to_tensor(self._real)

    @property
    def decay(self) -> Tensor:
        return ops.convert_to_tensor(self._decay)

    def call(
        self,
        inputs: Tensor | Sequence[Tensor],
        modality_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        x = self._stacked(inputs)
        mask = presence(modality_mask, x)
        x = without_missing(x, mask)
        if not on_host(x):
            return self._thought(x, mask, ops)
        read = HOST.convert_to_tensor
        found = self._thought(read(x), read(mask), HOST)
        return {k: ops.convert_to_tensor(v) for k, v in found.items()}

    def _thought(self, x: Tensor, mask: Tensor, xp: Any) -> dict[str, Tensor]:
        """What a call returns, by `keras.ops` or by NumPy."""
        read = xp.convert_to_tensor
        real = read(self._real)
        # What follows from statistics alone, soonest.
        statistics = self._standardisation(xp)
        centre = statistics[0]
        standardised, quality, distances = self._judge(x, statistics, xp)
        ready = read(self.ready) > 0
        quality = xp.where(ready, quality, real)
        counts = xp.maximum(read(self.distance_counts), 1.0)
        spread = xp.sqrt(read(self.distance_squares) / counts)
        score = (distances - read(self.distance_means)) / xp.maximum(
            spread, np.array([[1e-3], [0.1]], "float32")
        )
        # Neither too far from its class nor too near to all of them.
        inside = self.typicality_radius + xp.minimum(-score[:, 0], score[:, 1])
        typicality = xp.sigmoid(inside / self.typicality_temperature)
        coverage = xp.sum(quality, axis=-1) / xp.sum(real, axis=-1)
        typicality = typicality * coverage * self.informative(xp)
        typicality = xp.stop_gradient(
            xp.where(ready, typicality, xp.ones_like(typicality))
        )
        return {
            "quality": quality,
            "typicality": typicality * mask,
            "standardised": standardised,
            "gated": quality * standardised,
            "cleaned": quality * x + (real - quality) * centre,
            "retained": xp.stop_gradient(
                xp.sum(quality * self.class_information(xp), axis=-1)
            )
            * mask,
        }

    def _stacked(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        x = stack_features(inputs)
        check_shape("inputs", x, "batch", *self._real.shape)
        return x

    def _standardisation(self, xp: Any = ops) -> tuple[Tensor, Tensor, Tensor]:
        """Mean over the classes seen, deviation, standardised prototypes."""
        counts = xp.convert_to_tensor(self.counts)
        means = xp.convert_to_tensor(self.means)
        seen = xp.cast(counts > 0, "float32")
        classes = xp.maximum(xp.sum(seen, axis=1), 1.0)
        centre = xp.sum(means * seen, axis=1) / classes
        total = xp.sum(counts, axis=1)
        variance = xp.sum(xp.convert_to_tensor(self.squares), axis=1)
        variance = variance / xp.maximum(total, 1.0)
        deviation = xp.maximum(
            self.minimum_deviation,
            xp.sqrt(variance + (0.5 * self.minimum_deviation) ** 2),
        )
        # Before the first statistics inputs pass as they are.
        deviation = xp.where(total > 0, deviation, xp.ones_like(deviation))
        prototypes = (means - centre[:, None]) / deviation[:, None]
        return centre, deviation, prototypes * seen

    def class_information(self, xp: Any = ops) -> Tensor:
        """How much each feature tells of the class, `(modalities, features)`.

        The fraction of its variance that lies between the classes, less what
        chance gives, divided by the modality's sum.

        Args:
            xp: `keras.ops`, or NumPy under the same names.
        """
        counts = xp.convert_to_tensor(self.counts)
        total = xp.maximum(xp.sum(counts, axis=1), 1.0)
        between, within = self._variances(xp)
        fraction = between / xp.maximum(between + within, 1e-12)
        seen = xp.sum(xp.cast(counts > 0, "float32"), axis=1)
        chance = (seen - 1.0) / xp.maximum(total - 1.0, 1.0)
        # All the same where nothing is known, or nothing tells.
        fraction = xp.maximum(fraction - chance, 1e-4) * xp.convert_to_tensor(
            self._real
        )
        return fraction / xp.sum(fraction, axis=-1, keepdims=True)

    def _variances(self, xp: Any = ops) -> tuple[Tensor, Tensor]:
        """Between the classes and within them, `(modalities, features)`."""
        counts = xp.convert_to_tensor(self.counts)
        means = xp.convert_to_tensor(self.means)
        total = xp.maximum(xp.sum(counts, axis=1), 1.0)
        centre = xp.sum(counts * means, axis=1) / total
        between = counts * xp.square(means - centre[:, None])
        within = xp.sum(xp.convert_to_tensor(self.squares), axis=1)
        return xp.sum(between, axis=1) / total, within / total

    def informative(self, xp: Any = ops) -> Tensor:
        """1 for a modality of which some feature varies, `(modalities,)`.

        What varies by less than a hundred-thousandth of its size is rounding.

        Args:
            xp: `keras.ops`, or NumPy under the same names.
        """
        counts = xp.convert_to_tensor(self.counts)
        means = xp.convert_to_tensor(self.means)
        total = xp.maximum(xp.sum(counts, axis=1), 1.0)
        centre = xp.sum(counts * means, axis=1) / total
        varies = sum(self._variances(xp)) > 1e-10 * xp.square(centre)
        return xp.cast(xp.any(varies, axis=1), "float32")

    def _judge(
        self, x: Tensor, statistics: tuple, xp: Any = ops
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised features, their quality, and the sample's distances.

        The distances are logs, `(batch, 2, modalities)`: to the nearest class
        and to the mean over classes.
        """
        centre, deviation, prototypes = statistics
        real = xp.convert_to_tensor(self._real)
        standardised = xp.clip((x - centre) / deviation, -8.0, 8.0)
        standardised = standardised * real
        fixed = xp.stop_gradient(standardised)
        distances = xp.sum(xp.square(prototypes), axis=-1) - 2.0 * xp.einsum(
            "bmd,mkd->bmk", fixed, prototypes
        )
        unseen = xp.convert_to_tensor(self.counts)[:, :, 0] <= 0
        nearest = first_largest(-xp.where(unseen, 1e30, distances), xp)
        residual = xp.abs(
            fixed - xp.einsum("bmk,mkd->bmd", nearest, prototypes)
        )
        quality = real * xp.sigmoid(
            self.feature_slope * (self.feature_radius - residual)
        )
        # The log of the mean square over the features that pass the gate.
        squares = quality * xp.square(xp.minimum(residual, 5.0))
        passed = xp.sum(quality, axis=-1) + 1e-6
        distance = xp.log(xp.sum(squares, axis=-1) / passed + 1e-6)
        size = xp.sum(xp.square(fixed), axis=-1) / xp.sum(real, axis=-1)
        logs = xp.stack([distance, xp.log(size + 1e-6)], axis=1)
        return standardised, quality, logs

    def update_statistics(
        self,
        inputs: Tensor | Sequence[Tensor],
        labels: Labels,
        modality_mask: Tensor | None = None,
        moments: Tensor = 1.0,
        distances: Tensor = 1.0,
    ) -> None:
        """Add a batch of clean samples to the statistics.

        Args:
            inputs: As in a call.
            labels: Class numbers `(batch,)`, or one-hot rows.
            modality_mask: `None` or `(batch, modalities)`, 1 = present.
            moments: 0 or 1, or a tensor `(modalities,)` of them: whether the
                batch counts for the class means and deviations.
            distances: Likewise for the distances that the typicality is
                measured by; they need the class means to be known.
        """
        if not self.built:
            self.build(_shape_of(inputs))
        x = ops.stop_gradient(self._stacked(inputs))
        labels = one_hot_labels(labels, self.num_classes)
        mask = presence(modality_mask, x)
        x = without_missing(x, mask)
        decay = self.decay[:, None, None]
        self._merge(
            (self.counts, self.means, self.squares),
            mask * moments,
            decay,
            lambda weights: class_moments(x, labels, weights),
        )
        self._merge(
            (
                self.distance_counts,
                self.distance_means,
                self.distance_squares,
            ),
            (mask * distances)[:, None],
            self.decay,
            lambda weights: weighted_moments(
                self._judge(x, self._standardisation())[2], weights
            ),
        )

    def _merge(
        self, state: tuple, weights: Tensor, decay: Tensor, compute: Tensor
    ) -> None:
        """Merge the moments of a batch into `state`, if any weight is set."""
        touched = ops.max(weights) > 0
        # Most steps of a training come after the warm-up: they pass here.
        new = ops.cond(
            touched,
            lambda: compute(weights),
            lambda: tuple(ops.zeros(v.shape, dtype="float32") for v in state),
        )
        new = reduce_moments(new)
        count, mean, squares = (ops.convert_to_tensor(v) for v in state)
        keep = ops.where(ops.max(new[0]) > 0, decay, ops.ones_like(decay))
        merged = merge_moments((count * keep, mean, squares * keep), new)
        for variable, value in zip(state, merged, strict=True):
            variable.assign(value)

    def adapt(
        self,
        data: DataSource,
        y: Labels | None = None,
        modality_mask: Tensor | None = None,
    ) -> None:
        """Fit all statistics on clean samples at once and mark them ready.

        Before or after the layer is built, and before `fit`: a compiled model
        sees the new statistics, but what it has learnt does not follow them.
        What was known before is forgotten.

        Args:
            data: What a call takes, for all samples at once; or, without `y`,
                a data set (of any framework) that can be read twice, whose
                batches are `(inputs, y)` or `(inputs, y, modality_mask)`.
            y: Class numbers `(samples,)`, or one-hot rows.
            modality_mask: `None` or `(samples, modalities)`, 1 = present.

        Raises:
            ValueError: If a label is outside `[0, num_classes)`, tables have
                rows of different labels, a mask holds other values than 0
                and 1, a value of a present modality is not finite, or the
                data set can be read only once or is empty.
        """
        if y is not None:
            check_rows_agree(
                {"`data`": data, "`y`": y, "`modality_mask`": modality_mask}
            )
            data = [(data, y, modality_mask)]
        self._check_data_set(data)
        # The distances need the means of all classes.
        for moments, distances in ((1.0, 0.0), (0.0, 1.0)):
            for inputs, labels, mask in batches_of(data):
                inputs = _checked_inputs(inputs, mask)
                self.update_statistics(
                    inputs,
                    check_labels(labels, self.num_classes, len(inputs)),
                    mask,
                    moments,
                    distances,
                )
        self.ready.assign(1.0)

    def _check_data_set(self, data: DataSource) -> None:
        """Build for its first batch and forget all, if it can be read."""
        first, _, mask = first_batch(data)
        _checked_inputs(first, mask)
        if not self.built:
            self.build(_shape_of(first))
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Forget all statistics."""
        for weight in self.non_trainable_weights:
            weight.assign(np.zeros(weight.shape))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "feature_sizes": self.feature_sizes,
            "feature_radius": self.feature_radius,
            "feature_slope": self.feature_slope,
            "typicality_radius": self.typicality_radius,
            "typicality_temperature": self.typicality_temperature,
            "minimum_deviation": self.minimum_deviation,
            "forgetting": self.forgetting,
        }


def _checked_inputs(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Stack a batch that has samples, finite where they are present."""
    x = stack_features(inputs)
    values = to_numpy(x)
    if not len(values):
        raise ValueError(
            "`data` must hold at least one sample in every batch. Received: "
            f"shape={values.shape}"
        )
    if mask is not None:
        check_shape(MASK, mask, *values.shape[:2])
        values = values[check_mask_values(mask)]
    if not np.isfinite(values).all():
        raise ValueError(
            "`data` must be finite where a modality is present. Received: "
            f"{values[~np.isfinite(values)][0]}"
        )
    return x


def _shape_of(inputs: Tensor) -> Sequence:
    """Shape of a stack, or those of a list."""
    if isinstance(inputs, list | tuple):
        return [tuple(x.shape) for x in inputs]
    return tuple(inputs.shape)
