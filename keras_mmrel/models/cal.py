from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.contract import to_numpy
from keras_mmrel.layers._feature_typicality import FeatureTypicality
from keras_mmrel.layers.information_bottleneck import InformationBottleneck
from keras_mmrel.layers.modality_contribution import MEASURES
from keras_mmrel.layers.modality_contribution import ModalityContribution
from keras_mmrel.models._quality import weighed
from keras_mmrel.models.modality_inputs import keep_present
from keras_mmrel.models.seen_values import SeenValues
from keras_mmrel.models.shared_head_model import SharedHeadModel
from keras_mmrel.models.side_input import SideInput
from keras_mmrel.modulations.contribution_acceleration import SCHEMES
from keras_mmrel.modulations.contribution_acceleration import (
    ContributionAcceleration,
)
from keras_mmrel.state import add_state
from keras_mmrel.user_warning import warn

HELD_OUT = "held_out"
GROUP = "holdout_group"
FEW = 50


def _check_held_out(model: Any, values: Array) -> None:
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"'{HELD_OUT}' must hold only 0 (trained on) and 1 (held "
            f"out). Received: values {np.unique(values)[:5].tolist()}"
        )


def _check_some_are_held_out(model: Any, values: Array) -> None:
    if values.all():
        raise ValueError(
            f"'{HELD_OUT}' must leave samples to train on. Received: all "
            f"{len(values)} held out"
        )
    if not values.any():
        warn(
            f"'{HELD_OUT}' holds out none of {len(values)} samples: CAL has "
            "nothing to measure contributions on."
        )


def _check_seen_held_out(model: Any, seen: SeenValues) -> None:
    _check_held_out(
        model, np.array([seen.smallest, seen.largest, seen.broken or 0.0])
    )
    if seen.smallest == 1:
        raise ValueError(
            f"'{HELD_OUT}' must leave samples to train on. Received: all "
            f"{seen.samples} of this epoch held out"
        )


def _check_group(model: Any, values: Array) -> None:
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise ValueError(
            f"'{GROUP}' must hold whole numbers, one a group. Received: "
            f"values {np.unique(values)[:5].tolist()}"
        )


def _hold_out(model: Any, x: Modalities, samples: int) -> Array | None:
    """Draw the samples that `fit` holds out of in-memory data."""
    if 0 in (model.holdout, model.release):
        return None
    rng = np.random.default_rng(model.seed)
    aim = round(model.holdout * samples)
    groups = np.arange(samples)
    if x.get(GROUP) is not None:
        groups = to_numpy(x[GROUP]).reshape(-1)
        aim = max(aim, 1)
    names, sizes = np.unique(groups, return_counts=True)
    order = rng.permutation(len(names))
    # Whole groups; at least one is left to train on.
    before = np.cumsum(sizes[order]) - sizes[order]
    count = min(int((before < aim).sum()), len(names) - 1)
    chosen = np.isin(groups, names[order[:count]])
    if model.bottlenecks and chosen.sum() < FEW:
        warn(
            f"CAL measures contributions on {chosen.sum()} held-out "
            f"samples; with fewer than {FEW} its bottleneck may compress "
            "the wrong modality: raise `holdout`, or set `bottleneck=0`."
        )
    return chosen


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    acceleration=Number(0),
    acceleration_scheme=Choice(*SCHEMES),
    bottleneck=Number(0),
    bottleneck_scheme=Choice("contribution", "uniform", "inverted"),
    sample_bottleneck=Either(Choice("typicality"), None),
    contribution_threshold=Number(0, low_open=True),
    warmup=Number(0, 1),
    bottleneck_start=Number(0, 1),
    holdout=Number(0, 1, high_open=True),
    release=Number(0, 1),
    measure=Choice(*MEASURES),
    temperature=Number(0, low_open=True),
)
class CAL(SharedHeadModel):
    """Measure what each modality contributes; learn and compress by it.

    One linear head on all features, and five mechanisms round it:

    - *Unimodal losses* through the shared head, which do most of the work
      where one modality dominates (`modality_loss_weight`).
    - *Contributions*: of each modality `W = (relu(I) + D) / 2`, where `I` is
      the Shapley value of the information of coalitions and `D` the calibrated
      confidence (`keras_mmrel.layers.ModalityContribution`), on samples that
      are held out of the loss. Estimated on samples that are trained on, a
      modality of pure noise that the network memorises looks as good as any.
    - *Asymmetric bottleneck*: a variational bottleneck on every feature
      (`keras_mmrel.layers.InformationBottleneck`) whose strength is
      `bottleneck * clip(1 - W / contribution_threshold, 0, 1)`: nothing for a
      modality that contributes, and all there is for one that does not. An
      encoder that has not learnt yet looks like noise too, so this needs
      unimodal losses: with `modality_loss_weight=0` nothing is compressed.
    - *A bottleneck of each sample*, at inference: the feature of a modality
      is multiplied by its typicality, relative to the sample's most typical
      one. A feature's typicality falls with its distance from all classes, in
      units of the spread within classes in training. So what is noise in one
      sample counts less there. It cannot see a modality that belongs to
      another sample, which is typical, and does not help where all modalities
      suffer alike.
    - *Acceleration*, off by default: encoders learn faster by their part of
      the contribution, and others slower
      (`keras_mmrel.modulations.ContributionAcceleration`, which `compile`
      adds; on updates under Adam-like optimizers).

    A fraction `holdout` of the training samples is held out for the first
    `release` of the training, fixed by `seed`: they stay in their batches with
    a loss weight of 0. After it the contributions are frozen and all samples
    are trained on. With in-memory data `fit` draws them by itself. Give it
    the input `"holdout_group"` of shape `(batch,)`, whole numbers, and it
    holds out whole groups (speakers, patients), at least one: contributions
    are then those on samples of a group that the network does not know. A
    pipeline may name its own by the input `"held_out"`, 1 for held out, the
    same for a sample in every epoch, in place of groups. Without any,
    contributions are estimated on all training samples.

    Beside those of `MultimodalModel` the outputs have `contribution`
    (b, M), each sample's Shapley values of the information about the
    predicted class, `contribution_fraction` (b, M), the fractions of what
    was estimated in training, the same in every row, and `modality_quality`,
    the typicality, which lowers the `confidence` too. With a `bottleneck` there
    is `divergence` (b, M): the nats that each feature's distribution is away
    from a standard normal one, 0 where the modality is missing. The logs have
    `<modality>_contribution` and `<modality>_bottleneck`.

    Args:
        modalities: As in `MultimodalModel`.
        num_classes: Integer of at least 2.
        modality_loss_weight: Non-negative float.
        acceleration: Non-negative float, strength of the acceleration. It is
            0, none, by default: no setting was better than the learning rate
            of the dominant modality alone.
        acceleration_scheme: `"contribution"` or `"inverted"`.
        bottleneck: Non-negative float, the largest strength of the
            bottleneck; 0 for none.
        bottleneck_scheme: `"contribution"` as above, or a control:
            `"uniform"` is `bottleneck` for all, and `"inverted"` turns the
            rule round: all there is for a modality that contributes.
        contribution_threshold: Positive float.
        sample_bottleneck: `"typicality"`, or `None` for none.
        measure: How contributions are measured, as in `ModalityContribution`.
        temperature: Positive float, temperature of the fractions.
        warmup: Float in [0, 1], fraction of the training before the
            acceleration begins, see `keras_mmrel.models.Clock.warmup_steps`.
        bottleneck_start: Float in [0, 1], fraction of the training before the
            bottleneck begins, when contributions are known well enough.
        holdout: Float in [0, 1), fraction of the samples held out.
        release: Float in [0, 1], fraction of the training after which they
            are trained on.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `MultimodalModel`, and arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    With fewer than 50 held-out samples `fit` warns: contributions are then
    mostly chance.

    Example:

    >>> model = keras_mmrel.CAL({"a": (8,), "b": (4,)}, 3, bottleneck=0.0)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(40, 8)), "b": rng.uniform(size=(40, 4))}
    >>> history = model.fit(x, np.arange(40) % 3, verbose=0).history
    >>> sorted(key for key in history if key.endswith("contribution"))
    ['a_contribution', 'b_contribution']
    >>> model.predict(x, verbose=0)["contribution"].shape
    (40, 2)

    References:
        - [CAL, 2025](https://arxiv.org/abs/2510.26289). Roles follow the
          abstract; the paper's equations were not available to us, every
          formula here is this library's own, and no result is a
          reproduction.
    """

    side_inputs = (
        SideInput(
            HELD_OUT,
            "float32",
            check=_check_held_out,
            check_whole=_check_some_are_held_out,
            check_seen=_check_seen_held_out,
            default=_hold_out,
        ),
        SideInput(GROUP, "int32", check=_check_group, instead_of=(HELD_OUT,)),
    )

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        modality_loss_weight: float = 3.0,
        acceleration: float = 0.0,
        acceleration_scheme: str = "contribution",
        bottleneck: float = 1.0,
        bottleneck_scheme: str = "contribution",
        contribution_threshold: float = 0.05,
        sample_bottleneck: str | None = "typicality",
        measure: str = "combined",
        temperature: float = 0.25,
        warmup: float = 0.15,
        bottleneck_start: float = 0.25,
        holdout: float = 0.1,
        release: float = 0.4,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            auxiliary_loss_names=("bottleneck_loss",) if bottleneck else (),
            **kwargs,
        )
        if self.fusion is not None:
            raise ValueError(
                "`fusion` must be None for CAL, which measures contributions "
                f"by each modality's summand of the logits. Received: "
                f"fusion={self.fusion!r}"
            )
        self.acceleration = acceleration
        self.acceleration_scheme = acceleration_scheme
        self.bottleneck = bottleneck
        self.bottleneck_scheme = bottleneck_scheme
        self.contribution_threshold = contribution_threshold
        self.sample_bottleneck = sample_bottleneck
        self.warmup = warmup
        self.bottleneck_start = bottleneck_start
        self.holdout = holdout
        self.release = release
        self.contribution = ModalityContribution(
            measure, temperature, name="contribution"
        )
        self.bottlenecks = [
            InformationBottleneck(
                noise_scale=0.0 if bottleneck_start else 1.0,
                seed=self.seed + index,
                name=f"bottleneck_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(len(self.modality_names) if bottleneck else 0)
        ]
        self.typicalities = [
            FeatureTypicality(num_classes, name=f"typicality_{index}")
            for index in range(
                len(self.modality_names) if sample_bottleneck else 0
            )
        ]
        self.held_out_counts = add_state(
            self, "held_out_counts", (self.num_classes,)
        )
        self.build_from_modalities()

    def compile_defaults(self) -> dict[str, Any]:
        acceleration = ContributionAcceleration(
            self.acceleration, self.acceleration_scheme, warmup=self.warmup
        )
        modulation = acceleration if self.acceleration else None
        return {**super().compile_defaults(), "modulation": modulation}

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        mask = inputs[MASK]
        plain = self.encode(inputs, training, weighed=False)
        with_quality = self._with_quality(plain, inputs)
        # A sample in training is typical by what it teaches.
        used = inputs if training else with_quality
        features = [weighed(f, used, index) for index, f in enumerate(plain)]
        evidence: dict[str, Any] = {}
        divergences = []
        for index, layer in enumerate(self.bottlenecks):
            feature, divergence = layer(
                features[index], training=training, return_divergence=True
            )
            features[index] = keep_present(feature, mask[:, index])
            divergences.append(divergence * mask[:, index])
        if divergences:
            evidence["divergence"] = ops.stack(divergences, axis=1)
        partial_logits = self.classify(features)
        evidence["contribution"] = self.contribution(
            partial_logits, self.bias, mask
        )
        fractions = self.contribution.fractions
        evidence["contribution_fraction"] = ops.zeros_like(mask) + fractions
        if training:
            evidence[TRAINING_RECORD] = {
                "partial_logits": partial_logits,
                "features": plain,
                "fused_features": features,
            }
        return self.make_outputs(
            ops.sum(partial_logits, axis=1) + self.bias,
            partial_logits + self.bias,
            with_quality,
            **evidence,
        )

    def _with_quality(
        self, features: list[Tensor], inputs: Modalities
    ) -> Modalities:
        """Inputs with a quality that tells how typical features are."""
        if not self.typicalities:
            return inputs
        typical = [
            layer(feature)
            for layer, feature in zip(self.typicalities, features, strict=True)
        ]
        quality = ops.stack(typical, axis=1) * inputs[MASK]
        if inputs.get(QUALITY) is not None:
            quality = quality * inputs[QUALITY]
        return {**inputs, QUALITY: quality}

    # -- Losses and statistics -----------------------------------------------

    def loss_weights(self, outputs: Outputs, sample_weight: Tensor) -> Tensor:
        held_out = outputs[TRAINING_RECORD].get(HELD_OUT)
        if held_out is None:
            holds_out = 0 not in (self.holdout, self.release)
            if GROUP in outputs[TRAINING_RECORD] and holds_out:
                raise ValueError(
                    f"'{GROUP}' must come in a dict of arrays, of which `fit` "
                    f"holds out groups; a pipeline gives '{HELD_OUT}'. "
                    f"Received: batches with '{GROUP}' alone"
                )
            return sample_weight
        # Any other value ends the epoch, and makes no weight negative.
        held_out = ops.cast(held_out == 1.0, "float32")
        kept = 1.0 - held_out * (1.0 - self.clock.passed(self.release))
        # The others make up for them, wherever they are, so that the loss
        # keeps its scale.
        totals = backend.all_reduce_sum(
            ops.stack([ops.sum(ops.ones_like(kept)), ops.sum(kept)])
        )
        kept = kept * totals[0] / ops.maximum(totals[1], 1e-6)
        if sample_weight is None:
            return kept
        weight = ops.convert_to_tensor(sample_weight, "float32")
        return kept * ops.reshape(weight, (-1,))

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        terms = super().auxiliary_losses(y, outputs, sample_weight)
        if self.bottlenecks:
            strengths = ops.stack([b.strength + 0.0 for b in self.bottlenecks])
            divergence = outputs["divergence"]
            if sample_weight is not None:
                weight = ops.convert_to_tensor(sample_weight, "float32")
                divergence = divergence * ops.reshape(weight, (-1, 1))
            divergence = ops.mean(divergence, axis=0)
            terms["bottleneck_loss"] = ops.sum(strengths * divergence)
        return terms

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        record = outputs[TRAINING_RECORD]
        rows = record.get(HELD_OUT)
        if rows is None:
            rows = ops.ones_like(outputs[MASK][:, 0])
        # What was held out is trained on once it is released, and tells
        # nothing new from then on.
        if self.holdout and self.release:
            rows = rows * (1.0 - self.clock.passed(self.release))
        if HELD_OUT in record:
            labels = one_hot_labels(y, self.num_classes)
            there = rows * ops.max(outputs[MASK], axis=1)
            counts = ops.sum(labels * ops.reshape(there, (-1, 1)), axis=0)
            self.held_out_counts.assign_add(backend.all_reduce_sum(counts))
        self.contribution.update_statistics(
            y,
            record["partial_logits"],
            self.bias,
            outputs[MASK],
            rows,
        )
        for index, layer in enumerate(self.typicalities):
            layer.update_statistics(
                record["features"][index], y, outputs[MASK][:, index]
            )
        narrowing = self.clock.passed(self.bottleneck_start)
        factors = narrowing * self.bottleneck_factors()
        for index, layer in enumerate(self.bottlenecks):
            layer.strength.assign(self.bottleneck * factors[index])
            # Where nothing is compressed the feature stays as it is.
            layer.noise_scale.assign(ops.minimum(factors[index], 1.0))

    def bottleneck_factors(self) -> Tensor:
        """Fraction of `bottleneck` that every modality gets."""
        contributions = self.contribution.contributions
        relative = contributions / self.contribution_threshold
        if self.bottleneck_scheme == "uniform":
            return ops.ones_like(relative)
        if self.bottleneck_scheme == "inverted":
            return ops.clip(relative, 0.0, 1.0)
        # Nobody has made an encoder learn that has no loss of its own: that
        # it tells nothing yet does not mean that it is noise.
        learnt = float(self.modality_loss_weight > 0)
        return learnt * ops.clip(1.0 - relative, 0.0, 1.0)

    # -- Logs ----------------------------------------------------------------

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        return [
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: self._end_epoch(epoch, logs)
            )
        ]

    def _end_epoch(self, epoch: int, logs: dict[str, float]) -> None:
        logs.update(self._logs())
        classes = np.flatnonzero(ops.convert_to_numpy(self.held_out_counts))
        if epoch == 0 and len(classes) == 1:
            warn(
                f"'{HELD_OUT}' must hold out samples of two classes and more, "
                "or CAL measures what modalities contribute to one class. "
                f"Received: only class {classes[0]}"
            )

    def _logs(self) -> dict[str, float]:
        contributions = ops.convert_to_numpy(self.contribution.contributions)
        logs = {}
        for index, name in enumerate(self.modality_names):
            logs[f"{name}_contribution"] = float(contributions[index])
            if self.bottlenecks:
                logs[f"{name}_bottleneck"] = float(
                    ops.convert_to_numpy(self.bottlenecks[index].strength)
                )
        return logs

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "acceleration": self.acceleration,
            "acceleration_scheme": self.acceleration_scheme,
            "bottleneck": self.bottleneck,
            "bottleneck_scheme": self.bottleneck_scheme,
            "contribution_threshold": self.contribution_threshold,
            "sample_bottleneck": self.sample_bottleneck,
            "measure": self.contribution.measure,
            "temperature": self.contribution.temperature,
            "warmup": self.warmup,
            "bottleneck_start": self.bottleneck_start,
            "holdout": self.holdout,
            "release": self.release,
        }
