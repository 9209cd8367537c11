from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models._gaussian_feature import GaussianFeature
from keras_mmrel.models.modality_encoders import derive_seed
from keras_mmrel.models.modality_inputs import keep_present
from keras_mmrel.models.shared_head_model import SharedHeadModel
from keras_mmrel.state import add_state

# Levels of noise in training: 1 is none.
LEVELS = 11


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    modality_loss_weight=Number(0),
    gaussian_loss_weight=Number(0),
    level_loss_weight=Number(0),
    noise_from=Number(0, 1),
    weights_from=Number(0, 1),
    noise_probability=Number(0, 1),
    noise_unit=Number(0, low_open=True),
    unbiased=Flag(),
    normalization=Choice("layer", "batch"),
)
class UDML(SharedHeadModel):
    """Unbiased dynamic multimodal learning: estimate the noise, then weigh.

    1. *Noise-aware uncertainty.* A modality's feature is a normal
       distribution, of which training draws. From `noise_from` of the
       training on its samples get noise of a known level, and a small network
       on the deviation learns to say the level, `s` (`level_loss`, the
       squared error). The distribution is drawn to one of mean 0 whose
       variance is that level (`gaussian_loss`, a divergence).
    2. *Weights.* Modalities weigh by `1 / s^2`, relative to each other.
    3. *Dependence bias.* A fused head may lean on one modality whatever its
       noise: its *dependence* is the mean size of what the head says of that
       modality alone, in the last training batch. Weights are divided by it,
       so that what is leant on less gets more.

    A modality with the weight `w`, of a mean of 1 over those that are there,
    has its feature multiplied by `1 + w` before the head. `modality_loss` is
    the cross-entropy of the head's answers to one modality alone. In training
    before `weights_from` only the dependence weighs.

    `confidence` is `1 / s^2`, at most 1. Outputs beside those of every model,
    `(batch, n_modalities)` and 0 where missing:

    - `noise_level`: `s`, 1 for none.
    - `fusion_weight`: `w`.

    Half of the noisy training's samples have a level from 1 to 11 for each of
    their modalities, drawn anew in each step, and noise of `noise_unit` times
    the level as its deviation from 2 on; the others have none. Modalities of
    integers, and of several tensors, get no noise. An `augmentation` comes
    before it.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        modality_loss_weight: Non-negative float; the released code has 4 for
            CREMA-D and 2.5 for Kinetics-Sounds.
        gaussian_loss_weight: Non-negative float; 1e-5 and 0 there.
        level_loss_weight: Non-negative float.
        noise_from: Number in [0, 1], the fraction of the training after which
            there is noise.
        weights_from: Number in [0, 1], after which modalities weigh by their
            noise in training.
        noise_probability: Number in [0, 1], of a sample.
        noise_unit: Positive float, in units of the inputs, this library's own
            choice for features in [0, 1]. With much more the moments of a
            batch are those of its noise: on inner splits of Wiki 49 % were
            right with 0.2, and 70 with 0.05.
        unbiased: Whether weights are divided by the dependence.
        normalization: Of the distribution's parameters: `"batch"`, as in the
            released code, or `"layer"`, which knows no other sample, and so
            hardly tells a large deviation from a small one. With `"batch"`
            several devices of PyTorch keep moments of their own.
        **kwargs: `fusion`, `augmentation`, `quality`, `seed` and
            `class_names`, as in `keras_mmrel.ConcatFusion`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.UDML({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> history = model.fit(x, np.arange(30) % 3, verbose=0)
    >>> out = model.predict(x, verbose=0)
    >>> np.allclose(out["fusion_weight"].sum(axis=1), 2)
    True

    References:
        - [UDML, 2026, Unbiased dynamic multimodal
          fusion](https://arxiv.org/abs/2603.19681) (CVPR Findings). One
          batch's outputs, losses and gradients are those of the released code
          (commit d78331e) to 1e-5 in training, for two modalities; its
          moving variance is the unbiased one, which shows at inference.
          There the noise of images grows by the square of the level, that of
          the highest level replaces the image, and a sample keeps its level;
          more than two modalities, missing ones and noise in units of the
          inputs are this library's own, as is `normalization="layer"`.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        modality_loss_weight: float = 1.0,
        gaussian_loss_weight: float = 1e-5,
        level_loss_weight: float = 0.1,
        noise_from: float = 0.5,
        weights_from: float = 0.6,
        noise_probability: float = 0.5,
        noise_unit: float = 0.05,
        unbiased: bool = True,
        normalization: str = "batch",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            auxiliary_loss_names=("gaussian_loss", "level_loss"),
            **kwargs,
        )
        self.gaussian_loss_weight = gaussian_loss_weight
        self.level_loss_weight = level_loss_weight
        self.noise_from = noise_from
        self.weights_from = weights_from
        self.noise_probability = noise_probability
        self.noise_unit = noise_unit
        self.unbiased = unbiased
        self.normalization = normalization
        count = len(self.modality_names)
        self.gaussians = [
            GaussianFeature(
                normalization, dtype=self.dtype_policy, name=f"gaussian_{i}"
            )
            for i in range(count)
        ]
        self.level_networks = [
            _LevelNetwork(
                derive_seed(self.seed, f"level_{i}"), name=f"level_{i}"
            )
            for i in range(count)
        ]
        self.dependence = add_state(self, "dependence", (count,), "ones")
        self.noise_generator = keras.random.SeedGenerator(
            derive_seed(self.seed, "noise")
        )
        self.build_from_modalities()

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        mask = inputs[MASK]
        record: dict[str, Any] = {}
        if training:
            inputs, record["level"] = self._with_noise(inputs)
        features, levels, distributions = [], [], []
        for index, feature in enumerate(self.encode(inputs, training)):
            there = mask[:, index]
            mean, deviation = self.gaussians[index](
                feature, there, training=training
            )
            drawn = mean
            if training:
                drawn = mean + deviation * self._normal(ops.shape(mean))
            features.append(keep_present(drawn, there))
            levels.append(
                self.level_networks[index](deviation, training=training)
            )
            distributions.append((mean, deviation))
        level = ops.concatenate(levels, axis=1)
        if training:
            record["distributions"] = distributions
        weight = self._weights(level, mask, training)
        weighed = [
            ops.cast(feature * (1.0 + weight[:, i : i + 1]), self.compute_dtype)
            for i, feature in enumerate(features)
        ]
        return self.head_outputs(
            weighed,
            inputs,
            training,
            record,
            confidence=ops.minimum(1.0 / ops.square(level), 1.0),
            noise_level=level * mask,
            fusion_weight=weight,
        )

    def _with_noise(self, inputs: dict[str, Any]) -> tuple[dict, Tensor]:
        """Add noise; return the inputs and its levels, `(batch, M)`."""
        shape = ops.shape(inputs[MASK])
        draws = self.noise_generator
        hit = keras.random.uniform((shape[0], 1), seed=draws)
        hit = ops.cast(hit < self.noise_probability, "float32")
        hit = hit * self.clock.passed(self.noise_from)
        steps = keras.random.randint(shape, 0, LEVELS, seed=draws)
        steps = hit * ops.cast(steps, "float32")
        noisy, levels = dict(inputs), []
        for index, name in enumerate(self.modality_names):
            x, step = inputs[name], steps[:, index]
            takes_none = isinstance(x, Mapping) or (
                not keras.backend.is_float_dtype(x.dtype)
            )
            if takes_none:
                levels.append(ops.ones_like(step))
                continue
            level = 1.0 + step
            levels.append(level)
            deviation = ops.where(step > 0, self.noise_unit * level, 0.0)
            deviation = deviation * inputs[MASK][:, index]
            column = ops.reshape(deviation, (-1, *[1] * (len(x.shape) - 1)))
            noise = self._normal(ops.shape(x)) * column
            noisy[name] = x + ops.cast(noise, x.dtype)
        return noisy, ops.stack(levels, axis=1)

    def _normal(self, shape: tuple) -> Tensor:
        return keras.random.normal(
            shape, dtype="float32", seed=self.noise_generator
        )

    def _weights(
        self, level: Tensor, mask: Tensor, training: bool | None
    ) -> Tensor:
        """Weights `(batch, M)`, of a mean of 1 over what is there."""
        weight = relative(1.0 / ops.square(level), mask)
        if training:
            passed = self.clock.passed(self.weights_from)
            weight = passed * weight + (1.0 - passed) * mask
        if self.unbiased:
            # A copy, as its next value comes before this step's gradients.
            weight = relative(weight / (self.dependence + 0.0), mask)
        return weight

    # -- Training ------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        losses = super().auxiliary_losses(y, outputs, sample_weight)
        record = outputs.get(TRAINING_RECORD)
        if record is None:
            nothing = ops.zeros(())
            return {**losses, "gaussian_loss": nothing, "level_loss": nothing}
        mask, target = outputs[MASK], record["level"]
        divergence = ops.stack(
            [
                divergence_from_noise(mean, deviation, target[:, index])
                for index, (mean, deviation) in enumerate(
                    record["distributions"]
                )
            ],
            axis=1,
        )
        error = ops.square(outputs["noise_level"] - target * mask)
        return {
            **losses,
            "gaussian_loss": self.gaussian_loss_weight
            * mean_over_samples(divergence * mask, sample_weight),
            "level_loss": self.level_loss_weight
            * mean_over_samples(error, sample_weight),
        }

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        mask = outputs[MASK]
        sizes = ops.sum(ops.abs(outputs[MODALITY_LOGITS]), axis=-1) * mask
        total = backend.all_reduce_sum(ops.sum(sizes, axis=0))
        count = backend.all_reduce_sum(ops.sum(mask, axis=0))
        mean = ops.maximum(total / ops.maximum(count, 1.0), 1e-6)
        # A modality that is in no sample of the batch keeps what it had.
        before = ops.convert_to_tensor(self.dependence)
        self.dependence.assign(ops.where(count > 0, mean, before))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "gaussian_loss_weight": self.gaussian_loss_weight,
            "level_loss_weight": self.level_loss_weight,
            "noise_from": self.noise_from,
            "weights_from": self.weights_from,
            "noise_probability": self.noise_probability,
            "noise_unit": self.noise_unit,
            "unbiased": self.unbiased,
            "normalization": self.normalization,
        }


def relative(weight: Tensor, mask: Tensor) -> Tensor:
    """Scale `(batch, M)` to a mean of 1 over the modalities that are there."""
    weight = weight * mask
    total = ops.sum(weight, axis=1, keepdims=True)
    count = ops.sum(mask, axis=1, keepdims=True)
    return count * weight / ops.maximum(total, 1e-12)


def divergence_from_noise(
    mean: Tensor, deviation: Tensor, level: Tensor
) -> Tensor:
    """Kullback-Leibler divergence from a normal distribution, `(batch,)`.

    Args:
        mean: `(batch, d)`.
        deviation: `(batch, d)`.
        level: `(batch,)`, the variance of the other one, whose mean is 0.
    """
    level = ops.expand_dims(level, axis=1)
    variance = ops.square(deviation)
    each = (
        (variance + ops.square(mean)) / level
        - ops.log((variance + 1e-8) / level)
        - 1.0
    )
    return 0.5 * ops.sum(each, axis=1)


class _LevelNetwork(keras.layers.Layer):
    """Say the level of noise, `(batch, 1)`, by a distribution's deviation."""

    def __init__(self, seed: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.dropout = keras.layers.Dropout(0.1, seed=seed)
        self.out = keras.layers.Dense(1, dtype="float32", name="out")

    def build(self, input_shape: tuple) -> None:
        units = max(input_shape[-1] // 2, 1)
        self.hidden = keras.layers.Dense(units, dtype="float32", name="hidden")
        self.hidden.build(input_shape)
        self.out.build((*input_shape[:-1], units))

    def call(self, deviation: Tensor, training: bool | None = None) -> Tensor:
        # What it says must not change what it is told.
        x = self.hidden(ops.stop_gradient(deviation))
        x = self.out(self.dropout(x, training=training))
        # Up to e^5: what is further away is no level, and would be inf.
        return ops.exp(0.5 * ops.clip(x, -10.0, 10.0))
