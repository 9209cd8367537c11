from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import SAMPLES
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Array
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers.sample_history import SampleHistory
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.losses.rank_loss import RankLoss
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.seen_values import SeenValues
from keras_mmrel.models.side_input import SideInput
from keras_mmrel.user_warning import warn

SAMPLE_ID = "sample_id"
SCALE = 10.0


def _check_ids(model: Any, ids: Array) -> None:
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"'{SAMPLE_ID}' must hold one integer a sample, of shape "
            f"(batch,). Received: shape={ids.shape}, dtype={ids.dtype}"
        )
    if ids.min() < 0 or ids.max() >= model.history_size:
        raise ValueError(
            f"'{SAMPLE_ID}' must hold integers in [0, `history_size`), "
            f"which is {model.history_size}. Received: values from "
            f"{ids.min()} to {ids.max()}"
        )


def _check_numbering(model: Any, ids: Array) -> None:
    numbers = len(np.unique(ids))
    if numbers == 1 < ids.size:
        raise ValueError(
            f"'{SAMPLE_ID}' must number the samples. Received: {ids[0]} for "
            f"all {ids.size} of them"
        )
    if numbers < ids.size:
        warn(
            f"'{SAMPLE_ID}' holds {numbers} numbers for {ids.size} samples: "
            "those of one number share one history."
        )


def _check_seen_ids(model: Any, seen: SeenValues) -> None:
    if seen.broken is not None:
        raise ValueError(
            f"'{SAMPLE_ID}' must hold one integer a sample. Received: "
            f"{seen.broken} in this epoch"
        )
    if seen.samples > 1 and seen.smallest == seen.largest:
        raise ValueError(
            f"'{SAMPLE_ID}' must number the samples. Received: "
            f"{seen.smallest:.0f} for all {seen.samples} of this epoch"
        )


def _number_samples(model: Any, x: Modalities, samples: int) -> Array | None:
    if model.sample_history is None:
        return None
    if samples > model.history_size:
        raise ValueError(
            "`history_size` must be at least the number of samples, "
            f"{samples}. Received: history_size={model.history_size}"
        )
    return np.arange(samples)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    rank_weight=Number(0),
    modality_loss_weight=Number(0),
    detach_confidence=Flag(),
    history_size=SAMPLES,
)
class QMF(MultimodalModel):
    """Weight each modality's logits by its energy, ranked by past losses.

    Every modality has a linear head. The confidence of a modality is
    `c_m = logsumexp(l_m) / 10` of its logits, and the fused logits are
    `sum_m c_m l_m` over the modalities that are present. Two terms are added
    to the cross-entropy of the fused logits:

    - `modality_loss`: the modalities' own cross-entropies, summed over them.
    - `rank_loss`: `keras_mmrel.losses.RankLoss` between a modality's
      confidences and what its cross-entropy has summed up to over the
      training for the same samples, on a scale from 0 to 1. A sample that
      was harder must get less confidence. A missing modality, and a sample
      with a weight of 0, takes part in no pair and leaves no history.

    The history belongs to samples, so training needs to know them. `fit` with
    in-memory data numbers them by itself. A pipeline has to carry the input
    `"sample_id"` of shape `(batch,)`, an integer in [0, `history_size`) that
    is the same for a sample in every epoch; `train_on_batch` needs it too. An
    id outside the range in a later batch of a pipeline is left out of the
    history, and ends the training after the epoch. Prediction and
    evaluation need no ids; there `rank_loss` is 0 and the history stays as it
    is. It is saved with the model. Call `model.sample_history.reset()` before
    a training on other data.

    Beside those of `MultimodalModel` the outputs have `energy_confidence`
    (b, M), which is `c_m`, 0 where missing. `confidence` is the sigmoid of
    it: the same order, in [0, 1].

    Args:
        modalities: As in `MultimodalModel`, none named `"sample_id"`.
        num_classes: Integer of at least 2.
        rank_weight: Non-negative float, weight of `rank_loss`. The authors
            use 0.1 for images with depth and 1 for images with text. With 0
            there is no such term, no history, and no id is needed.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        detach_confidence: Whether `c_m` is a constant in the fused logits, as
            in the authors' code for images with text, or learns from them,
            as in the one for images with depth.
        history_size: Positive integer, the number of training samples that
            there is room for.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range, or samples for
            training have no usable id.

    Example:

    >>> model = keras_mmrel.QMF({"a": (8,), "b": (4,)}, 3, history_size=6)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(6, 8)), "b": rng.uniform(size=(6, 4))}
    >>> history = model.fit(x, np.arange(6) % 3, verbose=0).history
    >>> sorted(key for key in history if key.endswith("loss"))
    ['loss', 'modality_loss', 'rank_loss']
    >>> model.predict(x, verbose=0)["energy_confidence"].shape
    (6, 2)

    References:
        - [Zhang et al., 2023, Provable Dynamic Fusion for Low-Quality
          Multimodal Data](https://arxiv.org/abs/2306.02050). This library's
          own choices are the sigmoid, what happens to missing modalities and
          to weights, and the default encoders.
    """

    side_inputs = (
        SideInput(
            SAMPLE_ID,
            "int32",
            check=_check_ids,
            check_whole=_check_numbering,
            check_seen=_check_seen_ids,
            default=_number_samples,
            required=lambda model: model.sample_history is not None,
            missing=", and `rank_weight=0` needs none",
        ),
    )

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        rank_weight: float = 0.1,
        modality_loss_weight: float = 1.0,
        detach_confidence: bool = False,
        history_size: int = 10_000,
        **kwargs: Any,
    ) -> None:
        names = ("modality_loss", "rank_loss")
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=names if rank_weight else names[:1],
            **kwargs,
        )
        self.rank_weight = rank_weight
        self.modality_loss_weight = modality_loss_weight
        self.detach_confidence = detach_confidence
        self.history_size = history_size
        count = len(self.modality_names)
        self.heads = linear_heads(num_classes, count)
        self.sample_history: Any = None
        if rank_weight:
            self.sample_history = SampleHistory(
                history_size, count, name="sample_history"
            )
            self.ranking = RankLoss(reduction=None, dtype="float32")
        self.build_from_modalities()

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = self.encode(inputs, training)
        modality_logits = head_logits(self.heads, features)
        mask = inputs[MASK]
        energy = ops.logsumexp(modality_logits, axis=-1) / SCALE * mask
        weight = ops.stop_gradient(energy) if self.detach_confidence else energy
        return self.make_outputs(
            ops.sum(weight[:, :, None] * modality_logits, axis=1),
            modality_logits,
            inputs,
            ops.sigmoid(energy),
            energy_confidence=energy,
        )

    # -- Losses --------------------------------------------------------------

    def _crossentropies(self, y: Labels, logits: Tensor) -> Tensor:
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        return -ops.sum(labels * ops.log_softmax(logits), axis=-1)

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        loss = self.modality_crossentropy(
            y, outputs[MODALITY_LOGITS], outputs[MASK], sample_weight
        )
        terms = {"modality_loss": self.modality_loss_weight * loss}
        if self.rank_weight:
            rank = ops.zeros(())
            # There is no history to learn from outside training.
            if TRAINING_RECORD in outputs:
                rank = self._rank_loss(y, outputs, sample_weight)
            terms["rank_loss"] = self.rank_weight * rank
        return terms

    def _rank_loss(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        ids = outputs[TRAINING_RECORD][SAMPLE_ID]
        weights = _weights(outputs[MASK], sample_weight)
        # What a batch is ranked by includes its own losses.
        self.sample_history.update_statistics(
            ids, self._crossentropies(y, outputs[MODALITY_LOGITS]), weights
        )
        history = self.sample_history.read(ids)
        losses = self.ranking(history, outputs["energy_confidence"], weights)
        return mean_over_samples(losses)

    # -- Training ------------------------------------------------------------

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        if self.sample_history is None:
            return []
        return [
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: self._forget_outside(),
                on_epoch_end=lambda epoch, logs: self._refuse_outside(),
            )
        ]

    def _forget_outside(self) -> None:
        self.sample_history.outside.assign(0.0)

    def _refuse_outside(self) -> None:
        """Stop for ids that a compiled step could only leave out."""
        outside = int(ops.convert_to_numpy(self.sample_history.outside))
        if outside:
            raise ValueError(
                f"'{SAMPLE_ID}' must hold integers in [0, `history_size`), "
                f"which is {self.history_size}. Received: {outside} "
                "others in this epoch"
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "rank_weight": self.rank_weight,
            "modality_loss_weight": self.modality_loss_weight,
            "detach_confidence": self.detach_confidence,
            "history_size": self.history_size,
        }


def _weights(mask: Tensor, sample_weight: Tensor) -> Tensor:
    """Weight of each sample in each modality, 0 for what does not exist."""
    if sample_weight is None:
        return mask
    weight = ops.reshape(
        ops.convert_to_tensor(sample_weight, "float32"), (-1, 1)
    )
    return mask * weight
