from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import CONFIDENCE
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel

# Keeps ratios of numbers defined that may all be 0.
TINY = 1e-7


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    calibrate=Flag(),
    modality_loss_weight=Number(0),
    confidence_loss_weight=Number(0),
    confidence_units=SIZE,
)
class PDF(MultimodalModel):
    """Weight each modality's logits by its predicted true-class probability.

    Every modality has a linear head with the probabilities `p_m`, and a small
    network that predicts from the feature, without a label, what probability
    the head gives to the true class: the mono-confidence `c_m`. The
    holo-confidence says how little there is to expect of the others,

    `holo_m = sum_{j != m} log c_j / sum_j log c_j`,

    and the weights of the fused logits are `softmax(c + holo)`. Only
    modalities that are present take part in any of that. At test time the sum
    `c + holo` is first multiplied by `min(1, DU_m / DU_others)`, where
    `DU_m = mean_k |p_m,k - 1 / K|` tells how far a prediction is from uniform
    and `DU_others` is the mean over the other modalities: one whose
    prediction is vaguer than theirs, such as a corrupted one, loses weight
    although it may claim a high confidence.

    Added to the cross-entropy of the fused logits are `modality_loss`, the
    modalities' own cross-entropies, and `confidence_loss`,
    `(c_m - p_m(y))^2` with the probability `p_m(y)` of the true class as a
    constant, both summed over modalities. Neither the weights nor the
    confidences pass a gradient on to encoders and heads.

    Beside those of `MultimodalModel` the outputs have `fusion_weights`
    (b, M), 0 where missing. `confidence` is `c_m`.

    Args:
        modalities: As in `MultimodalModel`.
        num_classes: Integer of at least 2.
        calibrate: Whether weights are calibrated at test time.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        confidence_loss_weight: Non-negative float, weight of
            `confidence_loss`.
        confidence_units: Positive integer, hidden units of the networks that
            predict confidences.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.PDF({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> x = {"a": np.zeros((2, 8)), "b": np.zeros((2, 4))}
    >>> model.predict(x, verbose=0)["fusion_weights"].sum(axis=1).round(4)
    array([1., 1.], dtype=float32)

    References:
        - [Cao et al., 2024, Predictive Dynamic
          Fusion](https://arxiv.org/abs/2406.04802). The released code has two
          modalities; for them the formulas here are the same. Those for more,
          or for a missing one, the hidden layer with a ReLU and the default
          encoders are this library's own choice.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        calibrate: bool = True,
        modality_loss_weight: float = 1.0,
        confidence_loss_weight: float = 1.0,
        confidence_units: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=("modality_loss", "confidence_loss"),
            **kwargs,
        )
        self.calibrate = calibrate
        self.modality_loss_weight = modality_loss_weight
        self.confidence_loss_weight = confidence_loss_weight
        self.confidence_units = confidence_units

        def dense(units: int, name: str, activation: Any = None) -> list:
            return [
                keras.layers.Dense(
                    units, activation, dtype="float32", name=f"{name}_{i}"
                )
                for i in range(len(self.modality_names))
            ]

        self.heads = linear_heads(num_classes, len(self.modality_names))
        self.confidence_hidden = dense(
            confidence_units, "confidence_hidden", "relu"
        )
        self.confidence_outputs = dense(1, "confidence")
        self.build_from_modalities()

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = self.encode(inputs, training)
        mask = inputs[MASK]
        scores = []
        for index, feature in enumerate(features):
            hidden = self.confidence_hidden[index](ops.stop_gradient(feature))
            scores.append(self.confidence_outputs[index](hidden))
        logits = head_logits(self.heads, features)
        score = ops.concatenate(scores, axis=1)
        belief = ops.sigmoid(score) + holo_confidence(score, mask)
        if self.calibrate and not training:
            belief = belief * relative_calibration(logits, mask)
        weights = ops.softmax(ops.where(mask > 0, belief, -1e9), axis=-1) * mask
        weights = ops.stop_gradient(weights)
        return self.make_outputs(
            ops.sum(weights[:, :, None] * logits, axis=1),
            logits,
            inputs,
            ops.sigmoid(score),
            fusion_weights=weights,
        )

    # -- Losses --------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        logits, mask = outputs[MODALITY_LOGITS], outputs[MASK]
        loss = self.modality_crossentropy(y, logits, mask, sample_weight)
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        target = ops.sum(labels * ops.softmax(logits, axis=-1), axis=-1)
        target = ops.stop_gradient(target) * mask
        error = ops.square(outputs[CONFIDENCE] - target)
        return {
            "modality_loss": self.modality_loss_weight * loss,
            "confidence_loss": self.confidence_loss_weight
            * mean_over_samples(error, sample_weight),
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "calibrate": self.calibrate,
            "modality_loss_weight": self.modality_loss_weight,
            "confidence_loss_weight": self.confidence_loss_weight,
            "confidence_units": self.confidence_units,
        }


def holo_confidence(score: Tensor, modality_mask: Tensor) -> Tensor:
    """Fraction of the others in the sum of all log-confidences, in [0, 1].

    Args:
        score: `(batch, modalities)`, confidences before their sigmoid.
        modality_mask: `(batch, modalities)`.
    """
    # Minus the log of the sigmoid, which stays exact near 0 and 1.
    costs = (ops.softplus(-score) + TINY) * modality_mask
    total = ops.sum(costs, axis=1, keepdims=True)
    return (total - costs) / ops.maximum(total, TINY)


def relative_calibration(logits: Tensor, modality_mask: Tensor) -> Tensor:
    """Factors in (0, 1] of modalities that predict more vaguely than others.

    Args:
        logits: `(batch, modalities, classes)`.
        modality_mask: `(batch, modalities)`.
    """
    probabilities = ops.softmax(logits, axis=-1)
    chance = 1.0 / logits.shape[-1]
    distance = ops.mean(ops.abs(probabilities - chance), axis=-1)
    distance = distance * modality_mask
    others = ops.sum(distance, axis=1, keepdims=True) - distance
    count = ops.sum(modality_mask, axis=1, keepdims=True) - modality_mask
    others = others / ops.maximum(count, 1.0)
    return ops.minimum((distance + TINY) / (others + TINY), 1.0)
