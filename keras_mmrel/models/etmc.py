from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses.evidential_crossentropy import concentrations
from keras_mmrel.losses.evidential_crossentropy import expected_crossentropy
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models.evidential_model import JOINT_LOGITS
from keras_mmrel.models.evidential_model import EvidentialModel
from keras_mmrel.models.tmc import fused_log_concentrations


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained()
class ETMC(EvidentialModel):
    """Enhanced trusted multi-view classification: an opinion of all together.

    `TMC` hears each modality by itself, and misses what shows only in several
    of them. Here a further opinion, from a linear head on all features, is
    fused with theirs by the same rule, and trained by the same loss, as
    `joint_loss`. What it knows of a missing modality is a feature of zeros;
    without any modality it has no evidence.

    Outputs beside those of `TMC`: `joint_logits` `(batch, num_classes)`, the
    logs of the concentrations of that opinion. `confidence`, `belief` and
    `modality_logits` are of the modalities alone.

    The released code (commit 08d0ca4) has two modalities and the hidden layers
    of an encoder in the heads; losses and fused concentrations of one batch
    are those of this class to 1e-6. Missing modalities are this library's own.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        annealing: Number in [0, 1], the fraction of the training in which
            the weight of `kl_loss` grows to 1; 0 for 1 from the start. The
            authors use 10 of at most 500 epochs.
        modality_loss_weight: Non-negative float, weight of `modality_loss`
            and of `joint_loss`.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.ETMC({"a": (8,), "b": (4,)}, 3)
    >>> x = {"a": np.zeros((2, 8)), "b": np.zeros((2, 4))}
    >>> model.predict(x, verbose=0)["joint_logits"].shape
    (2, 3)

    References:
        - [Han et al., 2022, Trusted multi-view classification with dynamic
          evidential fusion](https://arxiv.org/abs/2204.11423)
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        annealing: float = 1.0,
        modality_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            annealing=annealing,
            modality_loss_weight=modality_loss_weight,
            auxiliary_loss_names=("joint_loss",),
            **kwargs,
        )
        self.joint_head = keras.layers.Dense(
            num_classes, dtype="float32", name="joint_head"
        )
        self.build_from_modalities()

    def fuse_evidence(self, evidence: Tensor, mask: Tensor) -> Tensor:
        return fused_log_concentrations(evidence)

    def joint_evidence(self, features: Sequence[Tensor]) -> Tensor:
        joined = ops.concatenate(
            [ops.cast(f, "float32") for f in features], axis=-1
        )
        return ops.softplus(self.joint_head(joined))

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        labels = one_hot_labels(y, self.num_classes)
        loss = expected_crossentropy(
            labels, concentrations(outputs[JOINT_LOGITS])
        )
        loss = loss * ops.max(outputs[MASK], axis=1)
        return {
            **super().auxiliary_losses(y, outputs, sample_weight),
            "joint_loss": self.modality_loss_weight
            * mean_over_samples(loss[:, None], sample_weight),
        }
