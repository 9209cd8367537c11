from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models.evidential_model import EvidentialModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    conflict_weight=Number(0),
    average=Choice("mean", "sequential"),
)
class RCML(EvidentialModel):
    """Reliable conflictive multi-view learning: opinions that may disagree.

    Dempster's rule, by which `TMC` fuses, grows ever more certain with each
    opinion, also with one that contradicts the others. Here evidence is
    averaged, so that a modality which knows nothing, or says the opposite,
    makes the fused opinion less certain. The *conflict* of two modalities is
    half the distance between their mean probabilities, times what both are
    certain of; its sum over ordered pairs, over the number of other
    modalities, is learnt to be small, as `conflict_loss`.

    Everything else is as in `TMC`: opinions, losses, annealing and outputs.
    The losses are, in total, the paper's times the number of modalities plus
    one, by which it divides. Pairs with a missing modality have no conflict,
    and an average is over those that are present, which is this library's
    own choice.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        annealing: Number in [0, 1], the fraction of the training in which
            the weight of `kl_loss` grows to 1; 0 for 1 from the start.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        conflict_weight: Non-negative float, the paper's `gamma`; 1 in the
            released code.
        average: `"mean"`, the same for each modality, or `"sequential"`, as
            the released code (commit c9c5ab4) does: the second is averaged
            with the first, the third with that, so that the last counts half
            and the order matters. Both are the same with two modalities.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.RCML({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> logs = model.fit(x, np.arange(30) % 3, verbose=0).history
    >>> logs["conflict_loss"][0] >= 0
    True

    References:
        - [Xu et al., 2024, Reliable conflictive multi-view
          learning](https://arxiv.org/abs/2402.16897). One batch's loss and
          gradients are the released code's to 1e-6.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        annealing: float = 1.0,
        modality_loss_weight: float = 1.0,
        conflict_weight: float = 1.0,
        average: str = "mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            annealing=annealing,
            modality_loss_weight=modality_loss_weight,
            auxiliary_loss_names=("conflict_loss",),
            **kwargs,
        )
        self.conflict_weight = conflict_weight
        self.average = average
        self.build_from_modalities()

    def fuse_evidence(self, evidence: Tensor, mask: Tensor) -> Tensor:
        if self.average == "mean":
            count = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
            return ops.log(1.0 + ops.sum(evidence, axis=1) / count)
        fused, seen = evidence[:, 0], mask[:, :1]
        for index in range(1, evidence.shape[1]):
            here = mask[:, index : index + 1]
            # Half of it, all of it where it is the first, none where missing.
            weight = here * (1.0 - 0.5 * seen)
            fused = fused + weight * (evidence[:, index] - fused)
            seen = ops.maximum(seen, here)
        return ops.log(1.0 + fused)

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        conflict = _conflict(outputs[MODALITY_LOGITS], outputs[MASK])
        weight = self.conflict_weight * (len(self.modality_names) + 1)
        return {
            **super().auxiliary_losses(y, outputs, sample_weight),
            "conflict_loss": weight
            * mean_over_samples(conflict, sample_weight),
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "conflict_weight": self.conflict_weight,
            "average": self.average,
        }


def _conflict(logits: Tensor, mask: Tensor) -> Tensor:
    """Degree of conflict of each modality with the others, `(batch, M)`.

    Args:
        logits: Logs of concentrations, `(batch, M, num_classes)`.
        mask: `(batch, M)`.
    """
    p = ops.softmax(logits, axis=-1)
    log_total = ops.logsumexp(logits, axis=-1)
    certain = mask * (1.0 - logits.shape[-1] * ops.exp(-log_total))
    apart = ops.abs(p[:, :, None, :] - p[:, None, :, :])
    distance = 0.5 * ops.sum(apart, axis=-1)
    conflict = distance * certain[:, :, None] * certain[:, None, :]
    others = ops.maximum(ops.sum(mask, axis=1, keepdims=True) - 1.0, 1.0)
    return ops.sum(conflict, axis=2) / others
