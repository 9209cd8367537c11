import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel import backend
from keras_mmrel.checks import check_choice
from keras_mmrel.checks import check_share
from keras_mmrel.checks import check_strength
from keras_mmrel.constraints import Number
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers.information_bottleneck import InformationBottleneck
from keras_mmrel.layers.modality_contribution import ModalityContribution
from keras_mmrel.models.multimodal_model import keep_present
from keras_mmrel.models.shared_head_model import SharedHeadModel
from keras_mmrel.models.validation import MASK
from keras_mmrel.models.validation import to_numpy
from keras_mmrel.modulations.contribution_acceleration import (
    ContributionAcceleration,
)
from keras_mmrel.state import add_state

HELD_OUT = "held_out"
FEW = 50
BOTTLENECKS = ("adaptive", "contribution", "uniform", "inverted")


@keras.saving.register_keras_serializable(package="keras_mmrel")
class CAL(SharedHeadModel):
    """Measure what each modality contributes; learn and compress by it.

    One linear head on all features, and four mechanisms round it:

    - *Unimodal losses* through the shared head, which do most of the work
      where one modality dominates (`modality_loss_weight`).
    - *Contributions*: exact Shapley values of the accuracy of coalitions
      (`keras_mmrel.layers.ModalityContribution`), on samples that are held
      out of the loss. Estimated on samples that are trained on, a modality of
      pure noise that the network memorises looks as good as any other.
    - *Acceleration*: encoders learn faster by their share of the contribution
      (`keras_mmrel.modulations.ContributionAcceleration`, which `compile`
      adds; on updates under Adam-like optimizers).
    - *Asymmetric bottleneck*: a variational bottleneck on every feature
      (`keras_mmrel.layers.InformationBottleneck`) whose strength is
      `bottleneck * clip(1 - phi / contribution_threshold, 0, 1)`, with the
      contribution `phi`: nothing for a modality that contributes, and all
      there is for one that does not.

    A share `holdout` of the training samples is held out for the first
    `release` of the epochs, fixed by `seed`: they stay in their batches with
    a loss weight of 0. After it the contributions are frozen and all samples
    are trained on. With in-memory data `fit` draws them by itself; a pipeline
    may name its own by the input `"held_out"` of shape `(batch,)`, 1 for held
    out, the same for a sample in every epoch. Without either, contributions
    are estimated on all training samples. Each `fit` counts as one training:
    continue one with `initial_epoch`.

    Beside those of `MultimodalModel` the outputs have `contribution`
    (b, M), each sample's Shapley values of the information about the
    predicted class, and `contribution_share` (b, M), the shares of what was
    estimated in training, the same in every row. The logs have
    `<modality>_contribution` and `<modality>_bottleneck`.

    Args:
        modalities: As in `MultimodalModel`.
        num_classes: Integer of at least 2.
        modality_loss_weight: Non-negative float.
        acceleration: Non-negative float, strength of the acceleration. It is
            0, none, by default: with plain SGD and unimodal losses it made
            encoders faster, which any other factor does as well.
        acceleration_scheme: `"contribution"`, `"uniform"` or `"inverted"`.
        bottleneck: Non-negative float, the largest strength of the
            bottleneck; 0 for none.
        bottleneck_scheme: `"adaptive"` as above. With `w` a modality's share,
            `"contribution"` is `bottleneck * M * (1 - w) / (M - 1)`,
            `"uniform"` is `bottleneck`, and `"inverted"` turns the adaptive
            rule round: all there is for a modality that contributes.
        contribution_threshold: Positive float.
        measure: How contributions are measured, as in `ModalityContribution`.
        temperature: Positive float, temperature of the shares.
        warmup: Float in [0, 1], share of the epochs before the acceleration
            begins.
        bottleneck_start: Float in [0, 1], share of the epochs before the
            bottleneck begins, when contributions are known well enough.
        holdout: Float in [0, 1), share of the samples held out.
        release: Float in [0, 1], share of the epochs after which they are
            trained on.
        augmentation: As in `MultimodalModel`.
        seed: Integer or `None`, seed of the held-out samples and the noise.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    With fewer than 50 held-out samples `fit` warns: contributions are then
    mostly chance.

    Example:

    >>> model = keras_mmrel.CAL({"a": (8,), "b": (4,)}, 3, bottleneck=0.0)
    >>> model.compile()
    >>> x = {"a": np.ones((40, 8)), "b": np.ones((40, 4))}
    >>> history = model.fit(x, np.arange(40) % 3, verbose=0).history
    >>> sorted(key for key in history if key.endswith("contribution"))
    ['a_contribution', 'b_contribution']
    >>> model.predict(x, verbose=0)["contribution"].shape
    (40, 2)

    References:
        - [CAL, 2025](https://arxiv.org/abs/2510.26289). Roles follow the
          abstract; the paper's equations are not public, every formula here
          is this library's own, and no result is a reproduction.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        num_classes: int,
        *,
        modality_loss_weight: float = 3.0,
        acceleration: float = 0.0,
        acceleration_scheme: str = "contribution",
        bottleneck: float = 1.0,
        bottleneck_scheme: str = "adaptive",
        contribution_threshold: float = 0.05,
        measure: str = "accuracy",
        temperature: float = 0.25,
        warmup: float = 0.15,
        bottleneck_start: float = 0.25,
        holdout: float = 0.1,
        release: float = 0.4,
        augmentation: keras.layers.Layer | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_strength("acceleration", acceleration)
        check_strength("bottleneck", bottleneck)
        check_choice("bottleneck_scheme", bottleneck_scheme, BOTTLENECKS)
        check_strength("contribution_threshold", contribution_threshold)
        if contribution_threshold == 0:
            raise ValueError(
                "`contribution_threshold` must be positive. Received: "
                "contribution_threshold=0"
            )
        check_share("warmup", warmup)
        check_share("bottleneck_start", bottleneck_start)
        Number(0, 1, high_open=True)("holdout", holdout)
        check_share("release", release)
        if HELD_OUT in modalities:
            raise ValueError(
                f"`modalities` must not be named '{HELD_OUT}', which is an "
                f"input of CAL. Received: {list(modalities)}"
            )
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            augmentation=augmentation,
            auxiliary_loss_names=("bottleneck_loss",) if bottleneck else (),
            **kwargs,
        )
        self.acceleration = acceleration
        self.acceleration_scheme = acceleration_scheme
        self.bottleneck = bottleneck
        self.bottleneck_scheme = bottleneck_scheme
        self.contribution_threshold = contribution_threshold
        self.warmup = warmup
        self.bottleneck_start = bottleneck_start
        self.holdout = holdout
        self.release = release
        self.seed = seed
        # Made now, so that a wrong scheme is found here.
        self.default_modulation()
        self.contribution = ModalityContribution(
            measure, temperature, name="contribution"
        )
        self.bottlenecks = [
            InformationBottleneck(
                seed=None if seed is None else seed + index,
                name=f"bottleneck_{index}",
                dtype=self.dtype_policy,
            )
            for index in range(len(self.modality_names) if bottleneck else 0)
        ]
        self.narrowing = add_state(
            self, "narrowing", (), "zeros" if bottleneck_start else "ones"
        )
        self.released = add_state(
            self, "released", (), "zeros" if release else "ones"
        )
        self.build_from_modalities()

    def default_modulation(self) -> ContributionAcceleration | None:
        acceleration = ContributionAcceleration(
            self.acceleration, self.acceleration_scheme
        )
        return acceleration if self.acceleration else None

    # -- Forward -------------------------------------------------------------

    def prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return super().prepare_inputs(self.modality_inputs(inputs))

    def modality_inputs(self, x: Any) -> Any:
        if not isinstance(x, Mapping):
            return x
        return {name: value for name, value in x.items() if name != HELD_OUT}

    def check_data(
        self,
        x: Any,
        y: Any = None,
        training: bool = False,
        labelled: bool = False,
    ) -> None:
        super().check_data(x, y, training, labelled)
        if isinstance(x, Mapping) and x.get(HELD_OUT) is not None:
            values = to_numpy(x[HELD_OUT])
            if not np.isin(values, (0, 1)).all():
                raise ValueError(
                    f"'{HELD_OUT}' must hold only 0 (trained on) and 1 (held "
                    f"out). Received: values {np.unique(values)[:5].tolist()}"
                )

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        held_out = inputs.get(HELD_OUT) if training else None
        inputs = self.augment(self.prepare_inputs(inputs), training)
        mask = inputs[MASK]
        features = self.encode(inputs, training)
        evidence: dict[str, Any] = {}
        divergences = []
        for index, layer in enumerate(self.bottlenecks):
            feature, divergence = layer(
                features[index], training=training, return_divergence=True
            )
            features[index] = keep_present(feature, mask[:, index])
            divergences.append(divergence * mask[:, index])
        parts = self.classify(features)
        if not training or not self.contribution.built:
            # For users of predictions; a training step has no need of it.
            evidence["contribution"] = self.contribution(parts, self.bias, mask)
        shares = self.contribution.fractions
        evidence["contribution_share"] = ops.zeros_like(mask) + shares
        if training:
            rows = ops.ones_like(mask[:, 0])
            if held_out is not None:
                rows = ops.reshape(ops.cast(held_out, "float32"), (-1,))
            evidence["modality_parts"] = parts
            evidence[HELD_OUT] = rows
        if divergences:
            evidence["divergence"] = ops.stack(divergences, axis=1)
        return self.head_outputs(parts, mask, **evidence)

    # -- Losses and statistics -----------------------------------------------

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if training and isinstance(x, Mapping) and HELD_OUT in x:
            kept = 1.0 - y_pred[HELD_OUT] * (1.0 - self.released)
            # The others make up for them, wherever they are, so that the loss
            # keeps its scale.
            totals = backend.all_reduce_sum(
                ops.stack([ops.sum(ops.ones_like(kept)), ops.sum(kept)])
            )
            kept = kept * totals[0] / ops.maximum(totals[1], 1e-6)
            if sample_weight is not None:
                weight = ops.cast(sample_weight, "float32")
                kept = kept * ops.reshape(weight, (-1,))
            sample_weight = kept
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def auxiliary_losses(
        self, y: Any, outputs: Any, sample_weight: Any = None
    ) -> dict:
        terms = super().auxiliary_losses(y, outputs, sample_weight)
        if self.bottlenecks:
            strengths = ops.stack([b.strength + 0.0 for b in self.bottlenecks])
            divergence = outputs["divergence"]
            if sample_weight is not None:
                weight = ops.cast(sample_weight, "float32")
                divergence = divergence * ops.reshape(weight, (-1, 1))
            divergence = ops.mean(divergence, axis=0)
            terms["bottleneck_loss"] = ops.sum(strengths * divergence)
        return terms

    def update_statistics(self, y: Any, outputs: Mapping[str, Any]) -> None:
        # What was held out is trained on once it is released, and tells
        # nothing new from then on.
        rows = outputs[HELD_OUT]
        if self.holdout and self.release:
            rows = rows * (1.0 - self.released)
        self.contribution.update_statistics(
            one_hot_labels(y, self.num_classes),
            outputs["modality_parts"],
            self.bias,
            outputs[MASK],
            rows,
        )
        factors = self.narrowing * self.bottleneck_factors()
        for index, layer in enumerate(self.bottlenecks):
            layer.strength.assign(self.bottleneck * factors[index])
            # Where nothing is compressed the feature stays as it is.
            layer.noise_scale.assign(ops.minimum(factors[index], 1.0))

    def bottleneck_factors(self) -> Any:
        """Share of `bottleneck` that every modality gets."""
        count = len(self.modality_names)
        share = self.contribution.fractions
        if self.bottleneck_scheme == "adaptive":
            relative = self.contribution.contributions / (
                self.contribution_threshold
            )
            return ops.clip(1.0 - relative, 0.0, 1.0)
        if self.bottleneck_scheme == "contribution":
            return count * (1.0 - share) / max(count - 1, 1)
        if self.bottleneck_scheme == "inverted":
            relative = self.contribution.contributions / (
                self.contribution_threshold
            )
            return ops.clip(relative, 0.0, 1.0)
        return ops.ones_like(share)

    # -- Training ------------------------------------------------------------

    def training_inputs(self, x: Any) -> Any:
        if (
            not isinstance(x, Mapping)
            or HELD_OUT in x
            or 0 in (self.holdout, self.release)
        ):
            return x
        count = len(keras.tree.flatten(dict(x))[0])
        held_out = np.zeros(count, "float32")
        rng = np.random.default_rng(self.seed or 0)
        chosen = rng.permutation(count)[: round(self.holdout * count)]
        held_out[chosen] = 1.0
        if self.bottlenecks and len(chosen) < FEW:
            warnings.warn(
                f"CAL measures contributions on {len(chosen)} held-out "
                f"samples; with fewer than {FEW} its bottleneck may compress "
                "the wrong modality: raise `holdout`, or set `bottleneck=0`.",
                stacklevel=3,
            )
        return {**x, HELD_OUT: held_out}

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        super().begin_epoch(epoch, epochs)
        # Nothing begins or ends inside an epoch.
        progress = (epoch + 1) / epochs - 1e-9
        self.narrowing.assign(float(progress > self.bottleneck_start))
        if progress <= self.bottleneck_start and self.built:
            for layer in self.bottlenecks:
                layer.strength.assign(0.0)
                layer.noise_scale.assign(0.0)
        self.released.assign(float(progress > self.release))
        if (
            isinstance(self.modulation, ContributionAcceleration)
            and progress <= self.warmup
        ):
            self.modulation.active.assign(0.0)

    def epoch_logs(self) -> dict[str, float]:
        found = ops.convert_to_numpy(self.contribution.contributions)
        logs = super().epoch_logs()
        for index, name in enumerate(self.modality_names):
            logs[f"{name}_contribution"] = float(found[index])
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
            "measure": self.contribution.measure,
            "temperature": self.contribution.temperature,
            "warmup": self.warmup,
            "bottleneck_start": self.bottleneck_start,
            "holdout": self.holdout,
            "release": self.release,
            "seed": self.seed,
        }
