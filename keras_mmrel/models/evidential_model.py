import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_mmrel.constraints import Names
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses.evidential_crossentropy import EvidentialCrossentropy
from keras_mmrel.losses.evidential_crossentropy import concentrations
from keras_mmrel.losses.evidential_crossentropy import divergence_of_the_rest
from keras_mmrel.losses.evidential_crossentropy import expected_crossentropy
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel

# Output of the models that have an opinion of all modalities together.
JOINT_LOGITS = "joint_logits"


@constrained(
    annealing=Number(0, 1),
    modality_loss_weight=Number(0),
    auxiliary_loss_names=Names(),
)
class EvidentialModel(MultimodalModel):
    """Base of the models that fuse opinions: evidence, not features.

    A linear head on each modality's feature gives the evidence
    `e = softplus(head(feature))` for every class. A subclass says in
    `fuse_evidence` what becomes of several, and may have further opinions,
    as `joint_evidence`.

    Args:
        modalities: As in `MultimodalModel`.
        num_classes: Integer of at least 2.
        annealing: Number in [0, 1], the fraction of the training in which
            the weight of `kl_loss` grows to 1; 0 for 1 from the start.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        auxiliary_loss_names: Names of further terms of a subclass.
        **kwargs: Arguments of `MultimodalModel`.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        annealing: float = 1.0,
        modality_loss_weight: float = 1.0,
        auxiliary_loss_names: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        names = ("modality_loss", "kl_loss", *auxiliary_loss_names)
        super().__init__(
            modalities, num_classes, auxiliary_loss_names=names, **kwargs
        )
        self.annealing = annealing
        self.modality_loss_weight = modality_loss_weight
        self.heads = linear_heads(num_classes, len(self.modality_names))

    def compile_defaults(self) -> dict[str, Any]:
        return {**super().compile_defaults(), "loss": EvidentialCrossentropy()}

    # -- What a subclass says ------------------------------------------------

    def fuse_evidence(self, evidence: Tensor, mask: Tensor) -> Tensor:
        """Return the logs of the fused concentrations, `(batch, num_classes)`.

        Args:
            evidence: Non-negative `(batch, opinions, num_classes)`, 0 where
                there is none; the modalities' come first.
            mask: `(batch, opinions)`, 1 where there is one.
        """
        raise NotImplementedError

    def joint_evidence(self, features: Sequence[Tensor]) -> Tensor | None:
        """Return evidence of all modalities together, if there is any.

        Args:
            features: One `(batch, d)` a modality, zero where missing.

        Returns:
            Non-negative `(batch, num_classes)`, or `None`.
        """
        return None

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        mask = inputs[MASK]
        features = self.encode(inputs, training)
        scores = head_logits(self.heads, features)
        # Without the mask a head's bias would be evidence.
        evidence = mask[:, :, None] * ops.softplus(scores)
        totals = ops.sum(evidence, axis=-1)
        any_present = ops.max(mask, axis=1, keepdims=True)
        opinions, there, more = evidence, mask, {}
        joint = self.joint_evidence(features)
        if joint is not None:
            joint = any_present * joint
            opinions = ops.concatenate([evidence, joint[:, None]], axis=1)
            there = ops.concatenate([mask, any_present], axis=1)
            more = {JOINT_LOGITS: ops.log(1.0 + joint)}
        outputs = self.make_outputs(
            self.fuse_evidence(opinions, there),
            ops.log(1.0 + evidence),
            inputs,
            totals / (totals + self.num_classes),
            belief=evidence / (totals + self.num_classes)[:, :, None],
            **more,
        )
        # The prior that stands in for all modalities has no evidence.
        none = 1.0 - any_present
        logits = outputs[LOGITS] + math.log(self.num_classes) * none
        log_total = ops.logsumexp(logits, axis=-1)
        uncertainty = ops.exp(math.log(self.num_classes) - log_total)
        return {
            **outputs,
            LOGITS: logits,
            "uncertainty": ops.minimum(uncertainty, 1.0),
        }

    # -- Training ------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        mask = outputs[MASK]
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        alpha = concentrations(outputs[MODALITY_LOGITS])
        own = expected_crossentropy(labels, alpha) * mask
        any_present = ops.max(mask, axis=1, keepdims=True)
        names = [name for name in (LOGITS, JOINT_LOGITS) if name in outputs]
        whole = [concentrations(outputs[name])[:, None, :] for name in names]
        divergence = divergence_of_the_rest(
            labels, ops.concatenate([alpha, *whole], axis=1)
        )
        there = [mask, *[any_present] * len(whole)]
        divergence = divergence * ops.concatenate(there, axis=1)
        return {
            "modality_loss": self.modality_loss_weight
            * mean_over_samples(own, sample_weight),
            "kl_loss": self.divergence_weight()
            * mean_over_samples(divergence, sample_weight),
        }

    def divergence_weight(self) -> Tensor:
        """Weight of `kl_loss` at this point of the training, in [0, 1]."""
        if not self.annealing:
            return ops.ones(())
        return ops.minimum((self.clock.progress + 0.0) / self.annealing, 1.0)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "annealing": self.annealing,
            "modality_loss_weight": self.modality_loss_weight,
        }
