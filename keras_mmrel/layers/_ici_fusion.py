import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._dropped import dropped
from keras_mmrel.layers._dropped import keep_rate
from keras_mmrel.layers._global_ici import GlobalICI
from keras_mmrel.layers._glorot import glorot
from keras_mmrel.layers._stack_features import check_stacked
from keras_mmrel.layers.cross_modality_compensation import (
    CrossModalityCompensation,
)
from keras_mmrel.layers.discriminative_power import DiscriminativePower
from keras_mmrel.layers.ici_removal import ICIRemoval
from keras_mmrel.layers.ici_removal import surprise_of
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    num_classes=NUM_CLASSES,
    dropout=Number(0, 1, high_open=True),
    global_prior=Flag(),
    removal=Flag(),
    compensation=Either("modality", Flag()),
    weighting=Flag(),
    seed=SEED,
)
class ICIFusion(TensorLayer):
    """Fuse modalities after removing what confuses their classes.

    Standardised features are judged and repaired in five steps: a first
    prediction, `GlobalICI`, `ICIRemoval`, `DiscriminativePower` and
    `CrossModalityCompensation`. A linear expert answers for each modality,
    and with `r` the discriminative powers the fused logits are
    `√M Σ r log softmax(M expert)`, a product of the `M` experts.

    Args:
        num_classes: Integer of at least 2.
        dropout: Float in `[0, 1)`, before every linear classifier.
        global_prior: Whether there is a global ICI; without it every sample
            is compared with the standard normal distribution.
        removal: Whether ICI is removed.
        compensation: Whether what was removed is filled from other
            modalities, feature by feature; `"modality"`: all features of a
            modality alike. Without `removal` that is missing ones alone.
        weighting: Whether experts are weighted by their power; without it
            all present ones weigh the same.
        seed: Integer, or `None` to draw one. Seed of dropout and noise.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Features `(batch, modalities, d)`.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        quality: `None` or `(batch, modalities)`, see `DiscriminativePower`.
        training: Whether dropout and noise are on.
        dropout_scale: `None` or a float tensor in [0, 1], by which the
            dropout is multiplied.

    Returns:
        Dict of what is computed on the way, in float32. `(batch, modalities,
        d)`: `prior_mean`, `ici`, `kept`, `compensation`, `compensated`.
        `(batch, modalities)`: `ici_fraction`, `divergence`, `own_logits`,
        `power_logits`, `discriminative_power`, `compensation_gate`. `(batch,
        modalities, num_classes)`: `initial_logits`, `kept_logits`,
        `modality_logits`. And `logits`, `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range, or the inputs have not
            three axes.

    Example:

    >>> layer = ICIFusion(num_classes=3)
    >>> layer(np.ones((5, 2, 8)))["logits"].shape
    (5, 3)

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1). The product of
          experts is this library's own choice.
    """

    def __init__(
        self,
        num_classes: int,
        dropout: float = 0.5,
        global_prior: bool = True,
        removal: bool = True,
        compensation: bool | str = True,
        weighting: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout
        self.global_prior = global_prior
        self.removal = removal
        self.compensation = compensation
        self.weighting = weighting
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        if global_prior:
            self.global_ici = GlobalICI(num_classes, name="global_ici")
        if removal:
            self.ici_removal = ICIRemoval(
                seed=self.seed + 1, name="ici_removal"
            )
        self.discriminative_power = DiscriminativePower(
            name="discriminative_power"
        )
        if compensation:
            self.compensate = CrossModalityCompensation(
                dtype=self.dtype_policy, name="compensation"
            )

    def build(
        self,
        inputs_shape: tuple,
        modality_mask_shape: tuple | None = None,
        quality_shape: tuple | None = None,
    ) -> None:
        check_stacked(inputs_shape)
        _, modalities, size = inputs_shape
        self.sizes = (modalities, size)

        def head(name: str, bias_axes: str) -> keras.layers.Layer:
            layer = keras.layers.EinsumDense(
                "bmd,mdk->bmk",
                (modalities, self.num_classes),
                bias_axes=bias_axes,
                kernel_initializer=glorot(size, self.num_classes),
                dtype=self.dtype_policy,
                name=name,
            )
            layer.build(inputs_shape)
            return layer

        self.initial_head = head("initial_head", "mk")
        self.kept_head = head("kept_head", "mk")
        self.expert_head = head("expert_head", "k")
        classes = (None, modalities, self.num_classes)
        pair = (None, modalities)
        if self.global_prior:
            self.global_ici.build(inputs_shape, classes)
        if self.removal:
            self.ici_removal.build(inputs_shape)
        self.discriminative_power.build(classes)
        if self.compensation:
            self.compensate.build(inputs_shape, pair, inputs_shape)

    def call(
        self,
        inputs: Tensor,
        modality_mask: Tensor | None = None,
        quality: Tensor | None = None,
        training: bool | None = None,
        dropout_scale: Tensor | None = None,
    ) -> dict[str, Tensor]:
        z = ops.cast(inputs, "float32")
        keep = self._keep(training, dropout_scale)
        modalities = self.sizes[0]
        check_shape("inputs", z, "batch", *self.sizes)
        mask = presence(modality_mask, z)
        present = mask[:, :, None]
        initial_logits = self._classify(self.initial_head, z, keep)
        mean, variance = self._prior(z, initial_logits)
        if self.removal:
            split = self.ici_removal(z, mean, variance, training=training)
        else:
            split = nothing_removed(z, mean, variance)
        kept = split["kept"] * present
        kept_logits = self._classify(self.kept_head, kept, keep)
        discriminative = self.discriminative_power(
            ops.softmax(ops.stop_gradient(kept_logits)),
            split["surprise"],
            split["ici_fraction"],
            mask,
            quality,
        )
        if self.compensation:
            removed = split["removed"]
            if self.compensation == "modality":
                removed = ops.mean(removed, axis=-1, keepdims=True) + 0.0 * z
            repaired = self.compensate(
                kept,
                discriminative["power_logits"],
                # Of what is missing nothing is there.
                ops.where(present > 0, removed, 1.0),
            )
        else:
            repaired = {
                "compensated": kept,
                "compensation": ops.zeros_like(kept),
                "gate": ops.zeros_like(kept),
            }
        logits = self._classify(self.expert_head, repaired["compensated"], keep)
        experts = ops.log_softmax(modalities * logits)
        weights = discriminative["discriminative_power"]
        if not self.weighting:
            count = ops.sum(mask, axis=1, keepdims=True)
            weights = mask / ops.maximum(count, 1.0)
        return {
            "prior_mean": mean,
            "ici": split["ici"] * present,
            "kept": kept,
            "ici_fraction": split["ici_fraction"] * mask,
            "divergence": split["divergence"],
            "initial_logits": initial_logits,
            "kept_logits": kept_logits,
            "own_logits": discriminative["own_logits"],
            "power_logits": discriminative["power_logits"],
            "discriminative_power": weights * mask,
            "compensation": ops.cast(repaired["compensation"], "float32"),
            "compensated": ops.cast(repaired["compensated"], "float32"),
            "compensation_gate": ops.mean(repaired["gate"], axis=-1),
            "modality_logits": experts,
            "logits": math.sqrt(modalities)
            * ops.sum(weights[:, :, None] * experts, axis=1),
        }

    def _keep(
        self, training: bool | None, scale: Tensor | None
    ) -> Tensor | None:
        """Fraction of features that dropout leaves; `None` without any."""
        if not training or not self.dropout:
            return None
        return keep_rate(self.dropout, scale)

    def _classify(
        self, head: keras.layers.Layer, z: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        if keep is not None:
            z = dropped(z, keep, self.seed_generator)
        return ops.cast(head(z), "float32")

    def initial_logits(self, z: Tensor) -> Tensor:
        """First logits `(batch, modalities, num_classes)`."""
        return self._classify(self.initial_head, z)

    def _prior(
        self, z: Tensor, initial_logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of what confuses the classes predicted first."""
        if not self.global_prior:
            return ops.zeros_like(z), ops.ones_like(z)
        p = ops.softmax(ops.stop_gradient(initial_logits) / 2.0)
        ici = self.global_ici(z, p)
        return ici["mean"], ici["variance"]

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
            "global_prior": self.global_prior,
            "removal": self.removal,
            "compensation": self.compensation,
            "weighting": self.weighting,
            "seed": self.seed,
        }


def nothing_removed(
    z: Tensor, mean: Tensor, variance: Tensor
) -> dict[str, Tensor]:
    """What `ICIRemoval` returns, had it removed nothing."""
    none = ops.zeros_like(z[:, :, 0])
    return {
        "kept": z,
        "ici": ops.zeros_like(z),
        "removed": ops.zeros_like(z),
        "ici_fraction": none,
        "surprise": surprise_of(z, mean, variance),
        "divergence": none,
    }
