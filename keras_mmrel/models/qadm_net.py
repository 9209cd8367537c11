from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.callbacks.warmup_schedule import WarmupSchedule
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers import DynamicDepthFusion
from keras_mmrel.layers import FeatureGate
from keras_mmrel.layers import PrototypeConfidence
from keras_mmrel.layers._stack_features import stack_features
from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.multimodal_model import encoder_name
from keras_mmrel.models.validation import MASK


@keras.saving.register_keras_serializable(package="keras_mmrel")
class QADMNet(MultimodalModel):
    """Quality-adaptive dynamic multimodal network.

    Three layers work in a row:

    1. `FeatureGate` compares every feature with clean class statistics and
       pulls unreliable ones to the mean.
    2. `PrototypeConfidence` says, per sample and modality, how far the
       modality can be trusted: probability of the nearest noise-free
       prototype times how typical the sample is.
    3. `DynamicDepthFusion` turns this into a depth per sample and modality,
       runs that many blocks, and fuses the modalities by their depths.

    Plain `fit` does everything. In the first `warmup` of its steps all
    modalities have full depth, and clean statistics are gathered from the
    training batches: class means and deviations in the first half, how far
    clean samples lie from them in the second. When it ends the statistics
    are frozen and depth becomes dynamic. `adapt` fits the statistics
    beforehand instead; call it where each `fit` is short. Corruption made by
    `augmentation` never enters a statistic.

    Vector modalities given by their shape are used as they are: scale each
    feature to [0, 1], or standardise it, which learns faster and overfits
    sooner. For images, spectrograms, and modalities with an encoder, all of
    this happens on the encoder's feature, and its statistics follow it.

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
        hidden_dim: Positive integer, units of all blocks of a modality
            together; a multiple of `max_depth`.
        embedding_dim: Positive integer, size of the embedding in which the
            prototypes live.
        temperature: Positive float or `None`, see `PrototypeConfidence`.
        dropout: Float in `[0, 1)`.
        prototype_share: Float in [0, 1], see `DynamicDepthFusion`.
        modality_loss_weight: Non-negative float, weight of the sum of the
            modalities' own cross-entropies beside that of the fused output.
        prototype_loss_weight: Non-negative float, weight of the prototypes'
            mean cross-entropy and of their orthogonality.
        warmup: Float in (0, 1), share of the steps of the first `fit`; at
            least two epochs and at most half of it.
        predicted_parameters: Whether blocks are modulated by parameters
            predicted for each sample, see `DynamicDepthFusion`.
        feature_quality: Whether unreliable features are pulled to the mean.
        typicality: Whether typicality enters the confidence.
        dynamic_depth: Whether depth follows the confidence; without it all
            present modalities have full depth and equal weights.
        inference: `"masked"` or `"skip"`, see `DynamicDepthFusion`.
        augmentation: As in `keras_mmrel.models.MultimodalModel`.
        **kwargs: Arguments of `keras.Model`.

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
          per sample) follow its abstract. The paper's equations are not
          public: every formula is this library's own, chosen by
          cross-validation, and results are no reproduction.
    """

    def __init__(
        self,
        modalities: Any,
        num_classes: int,
        *,
        max_depth: int = 4,
        hidden_dim: int = 64,
        embedding_dim: int = 32,
        temperature: float | None = None,
        dropout: float = 0.5,
        prototype_share: float = 0.3,
        modality_loss_weight: float = 2.0,
        prototype_loss_weight: float = 2.0,
        warmup: float = 0.1,
        predicted_parameters: bool = False,
        feature_quality: bool = True,
        typicality: bool = True,
        dynamic_depth: bool = True,
        inference: str = "masked",
        augmentation: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(warmup, int | float) or not 0 < warmup < 1:
            raise ValueError(
                f"`warmup` must be in (0, 1). Received: warmup={warmup!r}"
            )
        if not (modality_loss_weight >= 0 and prototype_loss_weight >= 0):
            raise ValueError(
                "Loss weights must not be negative. Received: "
                f"modality_loss_weight={modality_loss_weight}, "
                f"prototype_loss_weight={prototype_loss_weight}"
            )
        super().__init__(
            modalities,
            num_classes,
            augmentation=augmentation,
            auxiliary_loss_names=(
                "modality_loss",
                "prototype_loss",
                "orthogonality_loss",
            ),
            **kwargs,
        )

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
            dtype=self.dtype_policy,
            name="prototype_confidence",
        )
        self.fusion = DynamicDepthFusion(
            num_classes,
            max_depth=max_depth,
            hidden_dim=hidden_dim,
            dropout=dropout,
            prototype_fraction=prototype_share,
            predicted_parameters=predicted_parameters,
            inference=inference,
            dtype=self.dtype_policy,
            name="dynamic_depth_fusion",
        )

        # === Schedule ===
        def counter(name: str, value: float) -> Any:
            return self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(value),
                trainable=False,
                dtype="float32",
                aggregation="only_first_replica",
                name=name,
            )

        self.step = counter("step", 0)
        self.warmup_steps = counter("warmup_steps", 100)

        # === Config ===
        self.max_depth = max_depth
        self.hidden_dim = hidden_dim
        self.embedding_dim = embedding_dim
        self.temperature = temperature
        self.dropout = dropout
        self.prototype_share = prototype_share
        self.modality_loss_weight = modality_loss_weight
        self.prototype_loss_weight = prototype_loss_weight
        self.warmup = warmup
        self.predicted_parameters = predicted_parameters
        self.feature_quality = feature_quality
        self.typicality = typicality
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

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        clean = self.prepare_inputs(inputs)
        used = self.augment(clean, training)
        mask = used[MASK]
        features = self._stack(self.encode(used, training))
        gate = self._gate(features, mask)
        judged = self.prototype(
            gate["gated"], gate["typicality"], mask, training=training
        )
        confidence = judged["confidence"]
        evidence = {}
        if training:
            evidence["statistics"] = self._clean_statistics(
                clean, features, confidence
            )
        fused = self.fusion(
            gate["cleaned"],
            confidence,
            judged["probabilities"],
            mask,
            # `update_statistics` moves the scale, by clean samples alone.
            depth=self.fusion.allocator(confidence, mask, training=False),
            training=training,
        )
        return self.make_outputs(
            fused["logits"],
            fused["modality_logits"],
            mask,
            confidence,
            depth=fused["depth"],
            fusion_weights=fused["weights"],
            exit_logits=fused["exit_logits"],
            prototype_logits=judged["logits"],
            **evidence,
        )

    def _stack(self, features: list[Any]) -> Any:
        if self.gate.feature_sizes is None:
            self.gate.feature_sizes = tuple(f.shape[1] for f in features)
        return stack_features(features)

    def _gate(self, features: Any, mask: Any) -> dict[str, Any]:
        gate = self.gate(features, modality_mask=mask)
        if not self.typicality:
            gate["typicality"] = mask
        if not self.feature_quality:
            gate["cleaned"] = features
            gate["gated"] = gate["standardised"]
        return gate

    def _clean_statistics(
        self, clean: dict[str, Any], features: Any, confidence: Any
    ) -> dict[str, Any]:
        """What `update_statistics` needs, without corruption or dropout.

        Args:
            clean: Prepared inputs before augmentation.
            features: Features of the training pass, which serve where
                nothing corrupts them and no encoder drops out.
            confidence: Likewise.
        """
        mask = clean[MASK]
        if self.augmentation is not None or self.moving.any():
            features = self._stack(self.encode(clean, training=False))
            gate = self._gate(features, mask)
            confidence = self.prototype(
                gate["gated"], gate["typicality"], mask, training=False
            )["confidence"]
        return {"features": features, "confidence": confidence, MASK: mask}

    # -- Training ------------------------------------------------------------

    def auxiliary_losses(
        self, y: Any, outputs: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        mask = outputs[MASK]
        exits = ops.cast(outputs["exit_logits"], "float32")
        # Half for the last exit, half spread over those before it.
        shares = [0.5 / max(self.max_depth - 1, 1)] * self.max_depth
        shares[-1] = 1.0 - sum(shares[:-1])
        modality_loss = sum(
            share
            * self.modality_crossentropy(
                y, exits[:, :, level], mask, sample_weight
            )
            for level, share in enumerate(shares)
        )
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

    def update_statistics(self, y: Any, outputs: Any) -> None:
        clean = outputs["statistics"]
        mask = clean[MASK]
        labels = one_hot_labels(y, self.num_classes)
        step = ops.convert_to_tensor(self.step)
        warmup = ops.convert_to_tensor(self.warmup_steps)
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
            clean["features"],
            labels,
            mask,
            moments=ops.maximum(first * unknown, moving),
            distances=ops.maximum(second * unknown, moving),
        )
        known = ops.max(ops.convert_to_tensor(self.gate.distance_counts)) > 0
        ends = flag(ops.logical_and(step >= warmup - 1.0, known))
        self.gate.ready.assign(ops.maximum(ready, ends))
        if self.dynamic_depth:
            self.fusion.allocator.update_statistics(
                clean["confidence"], mask, use=ready * flag(step >= warmup)
            )
        self.step.assign(step + 1.0)

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        return [WarmupSchedule(self.warmup)]

    def adapt(self, x: Any, y: Any, batch_size: int = 256) -> None:
        """Fit the input statistics on clean data before training.

        Args:
            x: Dict of arrays, as for `fit`.
            y: Labels, as for `fit`.
            batch_size: Positive integer.

        Raises:
            ValueError: If the data are not what `fit` takes.
        """
        self.check_data(x, y, training=True)
        if not self.built:
            self.build(keras.tree.map_structure(np.shape, dict(x)))
        y = np.asarray(y)
        self.gate.reset_statistics()
        for moments, distances in ((1.0, 0.0), (0.0, 1.0)):
            for start in range(0, len(y), batch_size):
                part = slice(start, start + batch_size)
                clean = self.prepare_inputs(
                    keras.tree.map_structure(lambda v, p=part: v[p], x)
                )
                self.gate.update_statistics(
                    self._stack(self.encode(clean, training=False)),
                    one_hot_labels(y[part], self.num_classes),
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
            "prototype_share": self.prototype_share,
            "modality_loss_weight": self.modality_loss_weight,
            "prototype_loss_weight": self.prototype_loss_weight,
            "warmup": self.warmup,
            "predicted_parameters": self.predicted_parameters,
            "feature_quality": self.feature_quality,
            "typicality": self.typicality,
            "dynamic_depth": self.dynamic_depth,
            "inference": self.inference,
        }
