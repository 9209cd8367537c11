from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import DEPTH
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import to_numpy
from keras_mmrel.layers import DynamicDepthFusion
from keras_mmrel.layers import FeatureGate
from keras_mmrel.layers import InputQuality
from keras_mmrel.layers import PrototypeConfidence
from keras_mmrel.layers._stack_features import stack_features
from keras_mmrel.models import validation
from keras_mmrel.models._quality import OWN_QUALITY
from keras_mmrel.models._tables import reads_tables
from keras_mmrel.models.modality_encoders import derive_seed
from keras_mmrel.models.modality_encoders import encoder_name
from keras_mmrel.models.multimodal_model import MultimodalModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    max_depth=DEPTH,
    hidden_dim=SIZE,
    embedding_dim=SIZE,
    temperature=Either(Number(0, low_open=True), None),
    dropout=Number(0, 1, high_open=True),
    prototype_fraction=Number(0, 1),
    modality_loss_weight=Number(0),
    prototype_loss_weight=Number(0),
    warmup=Number(0, 1, low_open=True, high_open=True),
    dynamic_parameters=Flag(),
    dynamic_depth=Flag(),
    quality=OWN_QUALITY,
    inference=Choice("masked", "skip"),
)
class QADMNet(MultimodalModel):
    """Quality-adaptive dynamic multimodal network.

    Each sample is answered by a network of its own, made by how good its
    modalities and their features are:

    1. `InputQuality` says how far each modality is to be believed: whether
       its features fit each other, and what that means for the decision.
    2. `FeatureGate` compares every feature with clean class statistics and
       pulls unreliable ones to the mean. So the network's parameters are
       dynamic: with the feature qualities `q` of a sample the first block's
       weights are `diag(q) W`. The class information that is lost so lowers
       the modality's quality.
    3. `DynamicDepthFusion` runs each modality's blocks as deep as the
       modality's quality, relative to the sample's best one, allows, and
       fuses the modalities by it.
    4. `PrototypeConfidence` compares each modality with noise-free class
       prototypes, which share in its prediction, and says how confident the
       modality is.

    Plain `fit` does everything. `InputQuality` is adapted to the training
    data before the first step; where these can be read only once it is not,
    and the gate's typicality takes its place, as it does for modalities that
    `InputQuality` does not judge. In the first `warmup` of the steps clean
    statistics are gathered from the training batches: class means and
    deviations in the first half, how far clean samples lie from them in the
    second. When it ends they are frozen. `adapt` fits them beforehand
    instead; call it where each `fit` is short. Corruption made by
    `augmentation` never enters a statistic.

    Vector modalities given by their shape are used as they are: scale each
    feature to [0, 1], or standardise it, which learns faster and overfits
    sooner. For images, spectrograms, and modalities with an encoder, steps 2
    to 4 happen on the encoder's feature, and its statistics follow it; single
    features that do not fit the others are repaired before the encoder.

    Outputs, beside those of every model: `depth` `(batch, n_modalities)`,
    whole numbers from 0 to `max_depth`; `fusion_weights`
    `(batch, n_modalities)`, which sum to 1 where any is present; `exit_logits`
    `(batch, n_modalities, max_depth, num_classes)`; and `prototype_logits`
    `(batch, n_modalities, num_classes)`. A missing modality has depth 0,
    weight 0, and takes no part in any statistic.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        max_depth: Positive integer, the most blocks that run on a modality.
        hidden_dim: Positive integer, units of a block.
        embedding_dim: Positive integer, size of the embedding in which the
            prototypes live.
        temperature: Positive float or `None`, see `PrototypeConfidence`.
        dropout: Float in `[0, 1)`.
        prototype_fraction: Float in [0, 1], see `DynamicDepthFusion`.
        modality_loss_weight: Non-negative float, weight of the sum of the
            modalities' own cross-entropies beside that of the fused output.
        prototype_loss_weight: Non-negative float, weight of the prototypes'
            mean cross-entropy and of their orthogonality.
        warmup: Float in (0, 1), fraction of the training, see
            `keras_mmrel.models.Clock.warmup_steps`.
        dynamic_parameters: Whether parameters follow the features' quality;
            without it no feature is gated.
        dynamic_depth: Whether depth follows the quality; without it all
            present modalities have full depth. Weights follow it anyway.
        quality: `"auto"` for `InputQuality(cleaning=False)` where the gate
            sees the inputs themselves, and cleans them; behind an encoder,
            which mixes them before, for `InputQuality(cleaning="repair")`; or
            as in `keras_mmrel.models.MultimodalModel`.
        inference: `"masked"` or `"skip"`, see `DynamicDepthFusion`.
        **kwargs: `augmentation` and `seed`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = keras_mmrel.QADMNet({"a": (8,), "b": (4,)}, num_classes=3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> history = model.fit(x, np.arange(30) % 3, epochs=3, verbose=0)
    >>> model.predict(x, verbose=0)["depth"].shape
    (30, 2)

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489) (renamed Multi-QuAD in
          its third version). The roles of the parts (noise-free prototypes,
          classifier-free confidence, globally normalised depth, parameters
          per sample) follow its abstract. The paper's equations were
          not available to us: every formula is this library's own, chosen by
          cross-validation, and no result is a reproduction.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        max_depth: int = 4,
        hidden_dim: int = 64,
        embedding_dim: int = 32,
        temperature: float | None = None,
        dropout: float = 0.5,
        prototype_fraction: float = 0.3,
        modality_loss_weight: float = 2.0,
        prototype_loss_weight: float = 2.0,
        warmup: float = 0.1,
        dynamic_parameters: bool = True,
        dynamic_depth: bool = True,
        quality: keras.layers.Layer | str | None = "auto",
        inference: str = "masked",
        **kwargs: Any,
    ) -> None:
        own = InputQuality(cleaning="repair" if encoded(modalities) else False)
        super().__init__(
            modalities,
            num_classes,
            quality=own if quality == "auto" else quality,
            auxiliary_loss_names=(
                "modality_loss",
                "prototype_loss",
                "orthogonality_loss",
            ),
            **kwargs,
        )
        self.quality_is_own = quality == "auto"

        # === Layers ===
        # A vector that is given by its shape is fixed; the feature of an
        # encoder moves while the encoder learns.
        self.moving = np.array(
            [not isinstance(e, keras.layers.Identity) for e in self.encoders],
            "float32",
        )
        self.gate = FeatureGate(
            num_classes,
            forgetting=[0.99 if moving else 1.0 for moving in self.moving],
            name="feature_gate",
        )
        self.prototype = PrototypeConfidence(
            num_classes,
            embedding_dim=embedding_dim,
            temperature=temperature,
            dropout=dropout,
            seed=derive_seed(self.seed, "prototype_confidence"),
            dtype=self.dtype_policy,
            name="prototype_confidence",
        )
        self.fusion = DynamicDepthFusion(
            num_classes,
            max_depth=max_depth,
            hidden_dim=hidden_dim,
            dropout=dropout,
            prototype_fraction=prototype_fraction,
            dynamic_depth=dynamic_depth,
            inference=inference,
            seed=derive_seed(self.seed, "dynamic_depth_fusion"),
            dtype=self.dtype_policy,
            name="dynamic_depth_fusion",
        )

        # === Config ===
        self.max_depth = max_depth
        self.hidden_dim = hidden_dim
        self.embedding_dim = embedding_dim
        self.temperature = temperature
        self.dropout = dropout
        self.prototype_fraction = prototype_fraction
        self.modality_loss_weight = modality_loss_weight
        self.prototype_loss_weight = prototype_loss_weight
        self.warmup = warmup
        self.dynamic_parameters = dynamic_parameters
        self.dynamic_depth = dynamic_depth
        self.inference = inference
        self.build_from_modalities()

    def default_encoder(
        self, name: str, shape: tuple[int, ...]
    ) -> keras.layers.Layer:
        if len(shape) == 1:
            return keras.layers.Identity(name=encoder_name(name))
        return super().default_encoder(name, shape)

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        clean = self.prepare_inputs(inputs)
        used = self.augment(clean, training)
        mask = used[MASK]
        # What is not to be believed runs less deep, as it is.
        features = self.encode(used, training, weighed=False)
        gate = self._gate(features, mask)
        typicality = self._typicality(gate["typicality"])
        quality = typicality * gate["retained"]
        if used.get(QUALITY) is not None:
            quality = quality * used[QUALITY]
        prototype = self.prototype(
            gate["gated"], typicality, mask, training=training
        )
        fused = self.fusion(
            gate["cleaned"],
            quality,
            prototype["probabilities"],
            modality_mask=mask,
            training=training,
        )
        record: dict[str, Any] = {}
        if training:
            record = self._clean_samples(clean, features)
        return self.make_outputs(
            fused["logits"],
            fused["modality_logits"],
            used,
            prototype["confidence"],
            depth=fused["depth"],
            fusion_weights=fused["weights"],
            exit_logits=fused["exit_logits"],
            prototype_logits=prototype["logits"],
            training_record=record,
        )

    def _gate(self, features: list[Tensor], mask: Tensor) -> dict[str, Tensor]:
        gate = self.gate(features, modality_mask=mask)
        if not self.dynamic_parameters:
            gate["cleaned"] = stack_features(features)
            gate["gated"] = gate["standardised"]
            gate["retained"] = mask
        return gate

    def _typicality(self, typicality: Tensor) -> Tensor:
        """The gate's, for modalities that the quality layer does not know."""
        knows = getattr(self.quality, "knows", None)
        if knows is None:
            return typicality
        return ops.where(knows(self.modality_names) > 0, 1.0, typicality)

    def _clean_samples(
        self, clean: dict[str, Any], features: list[Tensor]
    ) -> dict[str, Any]:
        """What `update_statistics` needs, without corruption or dropout.

        Args:
            clean: Prepared inputs before augmentation.
            features: Features of the training pass, which serve where
                nothing corrupts them and no encoder drops out.
        """
        if self.augmentation is not None or self.moving.any():
            features = self.encode(clean, training=False, weighed=False)
        return {"clean_features": features, "clean_mask": clean[MASK]}

    # -- Training ------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        mask = outputs[MASK]
        exits = ops.cast(outputs["exit_logits"], "float32")
        # All exits alike: a modality may have to answer at any of them.
        modality_loss = sum(
            self.modality_crossentropy(
                y, exits[:, :, level], mask, sample_weight
            )
            for level in range(self.max_depth)
        )
        modality_loss = modality_loss / self.max_depth
        prototype_loss = self.modality_crossentropy(
            y, outputs["prototype_logits"], mask, sample_weight
        )
        weight = self.prototype_loss_weight
        return {
            "modality_loss": self.modality_loss_weight * modality_loss,
            "prototype_loss": weight
            * (prototype_loss / len(self.modality_names)),
            "orthogonality_loss": weight
            * (len(self.modality_names) * self.prototype.orthogonality_loss()),
        }

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        record = outputs[TRAINING_RECORD]
        mask = record["clean_mask"]
        step = ops.convert_to_tensor(self.clock.step)
        warmup = self.clock.warmup_steps(self.warmup)
        half = ops.maximum(ops.floor(warmup / 2.0), 1.0)

        def flag(condition: Any) -> Any:
            return ops.cast(condition, "float32")

        first = flag(step < half)
        second = ops.maximum(1.0 - first, flag(warmup < 2.0))
        # After the warm-up, and after `adapt`, fixed statistics stay.
        ready = ops.convert_to_tensor(self.gate.ready)
        unknown = 1.0 - ready
        moving = ops.convert_to_tensor(self.moving)
        self.gate.update_statistics(
            record["clean_features"],
            y,
            mask,
            moments=ops.maximum(first * unknown, moving),
            distances=ops.maximum(second * unknown, moving),
        )
        known = ops.max(ops.convert_to_tensor(self.gate.distance_counts)) > 0
        ends = flag(ops.logical_and(step >= warmup - 1.0, known))
        self.gate.ready.assign(ops.maximum(ready, ends))

    @reads_tables
    @constrained(batch_size=Integer(1))
    def adapt(self, x: Modalities, y: Labels, batch_size: int = 256) -> None:
        """Fit the input statistics on clean data before training.

        Args:
            x: Dict of arrays, as for `fit`.
            y: Labels, as for `fit`.
            batch_size: Positive integer.

        Raises:
            ValueError: If the data are not what `fit` takes.
        """
        if not isinstance(x, Mapping):
            raise ValueError(
                "`x` must be a dict of modality names to arrays. Received: "
                f"{type(x).__name__}"
            )
        self.modality_inputs.check(x, y, fits=True, labelled=True)
        if not self.built:
            self.build(keras.tree.map_structure(np.shape, dict(x)))
        y = to_numpy(y)
        self.gate.reset_statistics()
        for moments, distances in ((1.0, 0.0), (0.0, 1.0)):
            for start in range(0, len(y), batch_size):
                part = slice(start, start + batch_size)
                clean = self.prepare_inputs(
                    keras.tree.map_structure(lambda v, p=part: v[p], x)
                )
                self.gate.update_statistics(
                    self.encode(clean, training=False),
                    y[part],
                    clean[MASK],
                    moments,
                    distances,
                )
        self.gate.ready.assign(1.0)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "max_depth": self.max_depth,
            "hidden_dim": self.hidden_dim,
            "embedding_dim": self.embedding_dim,
            "temperature": self.temperature,
            "dropout": self.dropout,
            "prototype_fraction": self.prototype_fraction,
            "modality_loss_weight": self.modality_loss_weight,
            "prototype_loss_weight": self.prototype_loss_weight,
            "warmup": self.warmup,
            "dynamic_parameters": self.dynamic_parameters,
            "dynamic_depth": self.dynamic_depth,
            "inference": self.inference,
        }


def encoded(modalities: ModalitySpecs) -> bool:
    """Whether an encoder mixes the features of a modality before the gate."""
    validation.check_modalities(modalities)
    given = [
        isinstance(spec, keras.layers.Identity)
        if isinstance(spec, keras.layers.Layer)
        else not validation.is_block_list(spec)
        and not isinstance(spec, Mapping)
        and len(spec) == 1
        for spec in modalities.values()
    ]
    return not all(given)
