from collections.abc import Iterator
from collections.abc import Mapping
from types import GeneratorType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.checks import check_flag
from keras_mmrel.checks import check_positive_integer
from keras_mmrel.checks import check_strength
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers.sample_history import SampleHistory
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.losses.rank_loss import RankLoss
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.validation import MASK
from keras_mmrel.models.validation import first_batch
from keras_mmrel.models.validation import to_numpy

SAMPLE_ID = "sample_id"
SCALE = 10.0


@keras.saving.register_keras_serializable(package="keras_mmrel")
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
        augmentation: As in `MultimodalModel`.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range, or samples for
            training have no usable id.

    Example:

    >>> model = keras_mmrel.QMF({"a": (8,), "b": (4,)}, 3, history_size=6)
    >>> model.compile()
    >>> x = {"a": np.ones((6, 8)), "b": np.ones((6, 4))}
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

    def __init__(
        self,
        modalities: Mapping[str, Any],
        num_classes: int,
        *,
        rank_weight: float = 0.1,
        modality_loss_weight: float = 1.0,
        detach_confidence: bool = False,
        history_size: int = 10_000,
        augmentation: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        check_strength("rank_weight", rank_weight)
        check_strength("modality_loss_weight", modality_loss_weight)
        check_flag("detach_confidence", detach_confidence)
        check_positive_integer("history_size", history_size)
        if SAMPLE_ID in modalities:
            raise ValueError(
                f"`modalities` must not be named '{SAMPLE_ID}', which is an "
                f"input of QMF. Received: {list(modalities)}"
            )
        names = ("modality_loss", "rank_loss")
        super().__init__(
            modalities,
            num_classes,
            augmentation=augmentation,
            auxiliary_loss_names=names if rank_weight else names[:1],
            **kwargs,
        )
        self.rank_weight = rank_weight
        self.modality_loss_weight = modality_loss_weight
        self.detach_confidence = detach_confidence
        self.history_size = history_size
        count = len(self.modality_names)
        self.heads = linear_heads(num_classes, count)
        self.sample_history = None
        if rank_weight:
            self.sample_history = SampleHistory(
                history_size, count, name="sample_history"
            )
            self.ranking = RankLoss(reduction=None, dtype="float32")
        self.build_from_modalities()

    # -- Forward -------------------------------------------------------------

    def prepare_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return super().prepare_inputs(self.modality_inputs(inputs))

    def modality_inputs(self, x: Any) -> Any:
        if not isinstance(x, Mapping):
            return x
        return {name: value for name, value in x.items() if name != SAMPLE_ID}

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = self.encode(inputs, training)
        modality_logits = head_logits(self.heads, features)
        mask = inputs[MASK]
        energy = ops.logsumexp(modality_logits, axis=-1) / SCALE * mask
        weight = ops.stop_gradient(energy) if self.detach_confidence else energy
        return self.make_outputs(
            ops.sum(weight[:, :, None] * modality_logits, axis=1),
            modality_logits,
            mask,
            ops.sigmoid(energy),
            energy_confidence=energy,
        )

    # -- Losses --------------------------------------------------------------

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        if training and self.sample_history is not None:
            if not isinstance(x, Mapping) or x.get(SAMPLE_ID) is None:
                raise ValueError(_missing(x))
            # What a batch is ranked by includes its own losses.
            ids = x[SAMPLE_ID]
            self.sample_history.update_statistics(
                ids,
                self._crossentropies(y, y_pred["modality_logits"]),
                _weights(y_pred[MASK], sample_weight),
            )
            y_pred = {**y_pred, "history": self.sample_history.read(ids)}
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def _crossentropies(self, y: Any, logits: Any) -> Any:
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        return -ops.sum(labels * ops.log_softmax(logits), axis=-1)

    def auxiliary_losses(
        self, y: Any, outputs: Any, sample_weight: Any = None
    ) -> dict:
        loss = self.modality_crossentropy(
            y, outputs["modality_logits"], outputs[MASK], sample_weight
        )
        terms = {"modality_loss": self.modality_loss_weight * loss}
        if self.rank_weight:
            rank = ops.zeros(())
            # There is none outside training.
            if "history" in outputs:
                losses = self.ranking(
                    outputs["history"],
                    outputs["energy_confidence"],
                    _weights(outputs[MASK], sample_weight),
                )
                rank = mean_over_samples(losses)
            terms["rank_loss"] = self.rank_weight * rank
        return terms

    # -- Sample ids ----------------------------------------------------------

    def training_inputs(self, x: Any) -> Any:
        if self.sample_history is None:
            return x
        if isinstance(x, GeneratorType):
            return self._checked(x)
        if isinstance(x, Mapping) and x.get(SAMPLE_ID) is None:
            return {**x, SAMPLE_ID: np.arange(_count(x), dtype="int32")}
        return x

    def _checked(self, batches: GeneratorType) -> Iterator:
        """Check the first batch, which Keras draws before the first step."""
        for index, batch in enumerate(batches):
            if index == 0:
                self._check_ids(batch[0])
            yield batch

    def check_data(
        self,
        x: Any,
        y: Any = None,
        training: bool = False,
        labelled: bool = False,
    ) -> None:
        super().check_data(x, y, training, labelled)
        if not training or self.sample_history is None:
            return
        batch = first_batch(x)
        if batch is not None:
            self._check_ids(batch[0])
        elif isinstance(x, Mapping):
            if x.get(SAMPLE_ID) is not None:
                self._check_ids(x)
            elif _count(x) > self.history_size:
                raise ValueError(
                    "`history_size` must be at least the number of samples, "
                    f"{_count(x)}. Received: history_size={self.history_size}"
                )

    def _check_ids(self, x: Any) -> None:
        if not isinstance(x, Mapping) or x.get(SAMPLE_ID) is None:
            raise ValueError(_missing(x))
        ids = to_numpy(x[SAMPLE_ID])
        if not np.issubdtype(ids.dtype, np.integer) or ids.size != _count(x):
            raise ValueError(
                f"'{SAMPLE_ID}' must hold one integer a sample, of shape "
                f"(batch,). Received: shape={ids.shape}, dtype={ids.dtype}"
            )
        if ids.min() < 0 or ids.max() >= self.history_size:
            raise ValueError(
                f"'{SAMPLE_ID}' must hold integers in [0, `history_size`), "
                f"which is {self.history_size}. Received: values from "
                f"{ids.min()} to {ids.max()}"
            )

    def train_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        if self.sample_history is not None and isinstance(x, Mapping):
            self.check_data(x, y, labelled=True)
            self._check_ids(x)
        return super().train_on_batch(x, y, *args, **kwargs)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        super().begin_epoch(epoch, epochs)
        if self.sample_history is not None:
            self.sample_history.outside.assign(0.0)

    def epoch_logs(self) -> dict[str, float]:
        if self.sample_history is not None:
            outside = int(ops.convert_to_numpy(self.sample_history.outside))
            if outside:
                raise ValueError(
                    f"'{SAMPLE_ID}' must hold integers in [0, `history_size`), "
                    f"which is {self.history_size}. Received: {outside} "
                    "others in this epoch"
                )
        return super().epoch_logs()

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "rank_weight": self.rank_weight,
            "modality_loss_weight": self.modality_loss_weight,
            "detach_confidence": self.detach_confidence,
            "history_size": self.history_size,
        }


def _count(x: Mapping[str, Any]) -> int:
    modalities = {k: v for k, v in x.items() if k not in (SAMPLE_ID, MASK)}
    return len(keras.tree.flatten(modalities)[0])


def _missing(x: Any) -> str:
    received = list(x) if isinstance(x, Mapping) else type(x).__name__
    return (
        f"Training data of QMF must have the input '{SAMPLE_ID}' with an "
        "integer for each sample; only `fit` with a dict of arrays adds it by "
        f"itself, and `rank_weight=0` needs none. Received: {received}"
    )


def _weights(mask: Any, sample_weight: Any) -> Any:
    """Weight of each sample in each modality, 0 for what does not exist."""
    if sample_weight is None:
        return mask
    weight = ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
    return mask * weight
