from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.layers import InputQuality
from keras_mmrel.models._quality import OWN_QUALITY
from keras_mmrel.models._quality import relative_quality
from keras_mmrel.models.modality_encoders import derive_seed
from keras_mmrel.models.modality_encoders import encoder_name
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    hidden_dim=SIZE,
    dropout=Number(0, 1, high_open=True),
    modality_loss_weight=Number(0),
    joint_weight=Number(0),
    agreement=Flag(),
    quality=OWN_QUALITY,
)
class ReliableFusion(MultimodalModel):
    """The model for who does not want to choose: what earned its place.

    1. *Balance*: every modality has a classifier of its own with a loss of its
       own, so that no encoder is held back by a better modality.
    2. *Judgement and repair*: `InputQuality` replaces single features that do
       not fit by what the others let expect, and says how far each modality
       of each sample is to be believed. With `w` that quality,
       relative to the sample's best modality, the classifiers vote,
       `sum_m w_m p_m / sum_m w_m`: one vote each, however large the logits of
       a broken modality are.
    3. *A joint expert*: one linear head on all features multiplies the votes,
       where all modalities are believed:

           log p = log(sum_m w_m p_m / sum_m w_m)
                   + joint_weight * min_m w_m * agreement * log p_joint

       It says what only the modalities together show. Encoders do not learn
       from it, and what is missing or broken switches it off. So does a
       contradiction: one linear head follows a modality with large logits,
       where the votes of the others should decide. With `BC(p, q) = sum_c
       sqrt(p_c q_c)`, `u` the uniform distribution and `p_-m` the vote of the
       other modalities,

           r_m = min(1, BC(p_m, p_-m) / min(BC(p_m, u), BC(p_-m, u)))
           agreement = min_m (1 - w_m (1 - r_m))^2

       is 1 unless modalities are sure of different classes: further from each
       other than from knowing nothing. It is applied at inference; a training
       is the same without it.

    Outputs beside those of every model: `joint_logits` `(batch, num_classes)`
    and `fusion_weights` `(batch, n_modalities)`, which sum to 1 where any
    modality is present.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`. A vector that
            is given by its shape should be scaled to [0, 1] or standardised.
        num_classes: Integer of at least 2.
        hidden_dim: Positive integer, units of the encoder of a vector that
            is given by its shape.
        dropout: Float in [0, 1), likewise.
        modality_loss_weight: Non-negative float, weight of `modality_loss`,
            the sum of the modalities' own cross-entropies.
        joint_weight: Non-negative float, the say of the joint expert beside
            that of all votes together; 0 for none.
        agreement: Boolean, whether a contradiction takes the joint expert's
            say, as above.
        quality: `"auto"` for `InputQuality(cleaning="repair")`, or as in
            `keras_mmrel.models.MultimodalModel`. It is adapted to the
            training data before the first step; where these can be read only
            once, `"auto"` does without.
        **kwargs: `augmentation` and `seed`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = keras_mmrel.ReliableFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(60, 8)), "b": rng.uniform(size=(60, 4))}
    >>> history = model.fit(x, np.arange(60) % 3, epochs=2, verbose=0)
    >>> model.predict(x, verbose=0)["modality_quality"].shape
    (60, 2)

    References:
        - All of it is this library's own choice, by comparison on training
          data. Votes of probabilities and a joint product of experts are
          common; unimodal losses against modality competition as in
          [Du et al., 2023](https://arxiv.org/abs/2305.01233).
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        hidden_dim: int = 128,
        dropout: float = 0.5,
        modality_loss_weight: float = 1.0,
        joint_weight: float = 1.0,
        agreement: bool = True,
        quality: keras.layers.Layer | str | None = "auto",
        **kwargs: Any,
    ) -> None:
        # `default_encoder` is called by the constructor of the base.
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        super().__init__(
            modalities,
            num_classes,
            quality=InputQuality(cleaning="repair")
            if quality == "auto"
            else quality,
            auxiliary_loss_names=(
                ("modality_loss", "joint_loss")
                if joint_weight
                else ("modality_loss",)
            ),
            **kwargs,
        )
        self.quality_is_own = quality == "auto"
        self.modality_loss_weight = modality_loss_weight
        self.joint_weight = joint_weight
        self.agreement = agreement
        self.heads = linear_heads(num_classes, len(self.modality_names))
        if joint_weight:
            self.joint = keras.layers.Dense(
                num_classes, dtype="float32", name="joint"
            )
        self.build_from_modalities()

    def default_encoder(
        self, name: str, shape: tuple[int, ...]
    ) -> keras.layers.Layer:
        if len(shape) != 1:
            return super().default_encoder(name, shape)
        return MLPEncoder(
            (self.hidden_dim,),
            dropout=self.dropout,
            seed=derive_seed(self.seed, name),
            dtype=self.dtype_policy,
            name=encoder_name(name),
        )

    def compile_defaults(self) -> dict[str, Any]:
        optimizer = keras.optimizers.AdamW(learning_rate=3e-3)
        return {**super().compile_defaults(), "optimizer": optimizer}

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        # A modality votes as it is; the quality says how much that counts.
        features = self.encode(inputs, training, weighed=False)
        modality_logits = head_logits(self.heads, features)
        quality = relative_quality(inputs)
        total = ops.sum(quality, axis=1, keepdims=True)
        weights = quality / ops.maximum(total, 1e-6)
        probabilities = ops.softmax(modality_logits, axis=-1)
        votes = ops.sum(weights[:, :, None] * probabilities, axis=1)
        logits = ops.log(votes + 1e-7)
        evidence = {"fusion_weights": weights}
        if self.joint_weight:
            joint = self._joint_logits(features, quality)
            say = self.joint_weight * ops.min(quality, axis=1, keepdims=True)
            if self.agreement and not training:
                say = say * agreement(probabilities, quality)
            logits = logits + say * ops.log_softmax(joint, axis=-1)
            evidence["joint_logits"] = joint
        return self.make_outputs(logits, modality_logits, inputs, **evidence)

    def _joint_logits(self, features: list[Tensor], quality: Tensor) -> Tensor:
        parts = [
            # An encoder that learnt for it would be worse alone.
            ops.stop_gradient(ops.cast(feature, "float32"))
            * quality[:, index, None]
            for index, feature in enumerate(features)
        ]
        return self.joint(ops.concatenate(parts, axis=-1))

    # -- Training ------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        loss = self.modality_crossentropy(
            y, outputs[MODALITY_LOGITS], outputs[MASK], sample_weight
        )
        losses = {"modality_loss": self.modality_loss_weight * loss}
        if self.joint_weight:
            losses["joint_loss"] = self.modality_crossentropy(
                y,
                outputs["joint_logits"][:, None, :],
                ops.max(outputs[MASK], axis=1, keepdims=True),
                sample_weight,
            )
        return losses

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "modality_loss_weight": self.modality_loss_weight,
            "joint_weight": self.joint_weight,
            "agreement": self.agreement,
        }


def agreement(probabilities: Tensor, quality: Tensor) -> Tensor:
    """Say how far modalities that are believed do not contradict each other.

    Args:
        probabilities: `(batch, modalities, classes)`.
        quality: `(batch, modalities)` in [0, 1], 0 where missing.

    Returns:
        Tensor `(batch, 1)` in [0, 1]; no gradient passes.
    """
    p = ops.stop_gradient(probabilities)
    weights = quality[:, :, None]
    total = ops.sum(weights * p, axis=1, keepdims=True)
    count = ops.sum(weights, axis=1, keepdims=True) - weights
    # What one modality leaves of a sum is positive but for rounding.
    others = ops.maximum(total - weights * p, 0.0) / ops.maximum(count, 1e-3)
    same = ops.sum(ops.sqrt(p * others + 1e-12), axis=-1)
    # Against a guess: 1 / sqrt(classes) where one is sure.
    scale = p.shape[-1] ** -0.5
    guess = ops.minimum(
        ops.sum(ops.sqrt(p), axis=-1), ops.sum(ops.sqrt(others), axis=-1)
    )
    ratio = ops.minimum(same / (scale * guess + 1e-6), 1.0)
    believed = 1.0 - quality * (1.0 - ratio)
    # Nobody contradicts a modality that stands alone.
    alone = count[:, :, 0] < 1e-3
    believed = ops.where(alone, 1.0, believed)
    return ops.square(ops.min(believed, axis=1, keepdims=True))
