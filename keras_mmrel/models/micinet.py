from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import CONFIDENCE
from keras_mmrel.contract import MASK
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers._global_ici import bounded
from keras_mmrel.layers._global_ici import mean_where
from keras_mmrel.layers._ici_fusion import ICIFusion
from keras_mmrel.layers._ici_injection import ICIInjection
from keras_mmrel.layers.corruption_augmentation import CorruptionAugmentation
from keras_mmrel.layers.corruption_augmentation import untouched
from keras_mmrel.layers.input_quality import InputQuality
from keras_mmrel.layers.modality_embedding import ModalityEmbedding
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models._quality import OWN_QUALITY
from keras_mmrel.models._quality import relative_quality
from keras_mmrel.models._tables import reads_tables
from keras_mmrel.models.modality_encoders import encoder_name
from keras_mmrel.models.multimodal_model import MultimodalModel

# Epochs in which dropout rises to what was asked for.
DROPOUT_EPOCHS = 10.0


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    units=SIZE,
    dropout=Number(0, 1, high_open=True),
    input_dropout=Number(0, 1, high_open=True),
    warmup=Number(0, 1, low_open=True, high_open=True),
    injection=Either("auto", Number(0, 1)),
    modality_loss_weight=Number(0),
    divergence_weight=Number(0),
    compensation_weight=Number(0),
    global_prior=Flag(),
    removal=Flag(),
    compensation=Either("modality", Flag()),
    quality=OWN_QUALITY,
    weighting=Flag(),
)
class MICINet(MultimodalModel):
    """Learn what confuses the classes, remove it, compensate what is poor.

    Inputs are judged before anything mixes them: a feature that does not fit
    the others of its modality is replaced by what they let expect
    (`InputQuality`). Then every modality becomes a standardised feature of
    `units` numbers (`ModalityEmbedding`), and five steps follow:

    1. *Initial logits*, from the feature as it is.
    2. The *global ICI*: what the classes that these logits hesitate between
       have in common.
    3. `ICIRemoval` judges every number by how surprising it is under this
       and removes the sample's own confusing information (ICI).
    4. `DiscriminativePower` says how well each modality, after that, can
       tell the classes apart, less what was seen of its input;
       `CrossModalityCompensation` fills what was removed of each from the
       others, number by number: the more, the better the others are.
    5. The modalities' predictions are multiplied (a product of experts),
       each to the power of its relative discriminative power.

    Plain `fit` does everything. Before its first step the judge of inputs
    learns from the training data. With clean training data there would be
    nothing to remove, so that after the first `warmup` of the steps some
    samples are confused on purpose, in their inputs; where the training data
    are noisy, by nature or by `CorruptionAugmentation`, it should not.
    Statistics and the global ICI never see what was injected, nor what
    `augmentation` does. Both kinds of dropout rise from 0 in the first ten
    epochs: a short training could not learn against them, and in a long one
    they are what keeps few samples from being learnt by heart.

    Outputs, beside those of every model, `(batch, n_modalities)` each:
    `ici_fraction` in [0, 1], the fraction of the modality that was removed;
    `discriminative_power`, which sums to 1; `compensation` in [0, 1], how
    much of the modality was filled from others. And `(batch, n_modalities,
    num_classes)` each, what a modality says at first (`initial_logits`), after
    the removal (`kept_logits`), and, as in every model, at the end
    (`modality_logits`). `confidence` is the predicted probability of the true
    class under `kept_logits`. A missing modality has no power, is
    compensated from the others, and takes no part in any statistic.

    Terms that only training has are 0 in validation logs: `divergence_loss`
    and `compensation_loss`.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        units: Positive integer, size of every modality's feature.
        dropout: Float in `[0, 1)`, before every linear classifier, from the
            tenth epoch on.
        input_dropout: Float in `[0, 1)`, likewise, see `ModalityEmbedding`.
        warmup: Float in (0, 1), fraction of the training before anything is
            injected, see `keras_mmrel.models.Clock.warmup_steps`. The global
            ICI forgets faster in it.
        quality: As in `keras_mmrel.models.MultimodalModel`; `"auto"` is
            `keras_mmrel.layers.InputQuality(cleaning="repair")`, and `None`
            lets all pass.
            Where the data of `fit` can be read only once it lets all pass,
            too, and says so: `model.quality.adapt(inputs, y)` before helps.
        injection: Float in [0, 1], fraction of the modalities of training
            samples that are confused on purpose (35 % each by noise and by
            another sample, 30 % emptied, half of them announced as missing),
            and of samples of which two thirds as many are hit in some
            features; `"auto"` is 0.3, and 0 if `augmentation` is a
            `CorruptionAugmentation`.
        modality_loss_weight: Non-negative float, weight of the sums of the
            initial logits' and of the kept features' cross-entropies.
        divergence_weight: Non-negative float, see `ICIRemoval`.
        compensation_weight: Non-negative float, weight of the squared error
            of what compensates a clean feature.
        global_prior: Whether there is a global ICI; without it every sample
            is compared with the standard normal distribution.
        removal: Whether ICI is removed.
        compensation: Whether what was removed is filled from other
            modalities, feature by feature; `"modality"`: all features of a
            modality alike. Without `removal` that is missing ones alone.
        weighting: Whether modalities are weighted by their discriminative
            power; without it all present ones weigh the same.
        **kwargs: `augmentation` and `seed`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = keras_mmrel.MICINet({"a": (8,), "b": (4,)}, num_classes=3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> history = model.fit(x, np.arange(30) % 3, epochs=3, verbose=0)
    >>> model.predict(x, verbose=0)["ici_fraction"].shape
    (30, 2)

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1) (its second version is
          another method). The modules' names and roles, and Gaussians for
          pairs of classes, follow the paper. Its other equations were
          not available to us: every formula is this library's own, found by
          experiment, and no result is a reproduction.
        - [Curriculum dropout](https://arxiv.org/abs/1703.06229), a dropout
          that rises with training; its pace is this library's own choice.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        units: int = 64,
        dropout: float = 0.5,
        input_dropout: float = 0.5,
        warmup: float = 0.15,
        quality: keras.layers.Layer | str | None = "auto",
        injection: float | str = "auto",
        modality_loss_weight: float = 1.0,
        divergence_weight: float = 0.1,
        compensation_weight: float = 0.1,
        global_prior: bool = True,
        removal: bool = True,
        compensation: bool | str = True,
        weighting: bool = True,
        **kwargs: Any,
    ) -> None:
        names = ["initial_loss", "kept_loss", "confidence_loss"]
        names += ["divergence_loss"] * bool(removal)
        names += ["compensation_loss"] * bool(compensation)
        own = InputQuality(cleaning="repair", name="input_quality")
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=names,
            quality=own if quality == "auto" else quality,
            **kwargs,
        )
        self.quality_is_own = quality == "auto"

        # === Layers ===
        self.embed = ModalityEmbedding(
            units,
            dropout=input_dropout,
            seed=self.seed + 2,
            dtype=self.dtype_policy,
            name="modality_embedding",
        )
        self.fusion = ICIFusion(
            num_classes,
            dropout=dropout,
            global_prior=global_prior,
            removal=removal,
            compensation=compensation,
            weighting=weighting,
            seed=self.seed,
            dtype=self.dtype_policy,
            name="ici_fusion",
        )
        noisy = isinstance(self.augmentation, CorruptionAugmentation)
        self.injection_fraction: float = (
            (0.0 if noisy else 0.3) if isinstance(injection, str) else injection
        )
        if self.injection_fraction:
            fraction = self.injection_fraction
            self.inject = ICIInjection(
                noise=0.35 * fraction,
                replacement=0.35 * fraction,
                emptying=0.3 * fraction,
                sparse=2.0 / 3.0 * fraction,
                seed=self.seed + 3,
                name="injection",
            )
            # It has no weights. Where a layer is not built, Keras has JAX run
            # the first prediction operation by operation.
            self.inject.built = True

        # === Config ===
        self.units = units
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.warmup = warmup
        self.injection = injection
        self.modality_loss_weight = modality_loss_weight
        self.divergence_weight = divergence_weight
        self.compensation_weight = compensation_weight
        self.global_prior = global_prior
        self.removal = removal
        self.compensation = compensation
        self.weighting = weighting
        self.build_from_modalities()

    def default_encoder(
        self, name: str, shape: tuple[int, ...]
    ) -> keras.layers.Layer:
        if len(shape) == 1:
            return keras.layers.Identity(name=encoder_name(name))
        return super().default_encoder(name, shape)

    def compile_defaults(self) -> dict[str, Any]:
        optimizer = keras.optimizers.AdamW(learning_rate=3e-3)
        return {**super().compile_defaults(), "optimizer": optimizer}

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        clean = self.prepare_inputs(inputs)
        given, flags = clean, None
        later = scale = None
        if training:
            later = self.clock.warmed_up(self.warmup)
            scale = self.clock.ramp(DROPOUT_EPOCHS)
        if training and self.injection_fraction:
            flags = self.inject(clean, later, training=True)
            given = flags["inputs"]
        used = self.augment(given, training, learnt=clean)
        mask = used[MASK]
        features = self.embed.stacked(
            self.encode(used, training, weighed=False)
        )
        z = self.embed.embed(features, mask, training, scale)
        quality = relative_quality(used) if QUALITY in used else None
        fused = self.fusion(
            z, mask, quality, training=training, dropout_scale=scale
        )
        record = {}
        if training:
            record = {
                "clean_features": features,
                "clean_z": z,
                "clean_initial_logits": fused["initial_logits"],
                **self._what_happened(clean, used, flags),
                "fusion": fused,
                "later": later,
            }
        return self.make_outputs(
            fused["logits"],
            fused["modality_logits"],
            used,
            ops.sigmoid(fused["own_logits"]),
            training_record=record,
            ici_fraction=fused["ici_fraction"],
            discriminative_power=fused["discriminative_power"],
            compensation=fused["compensation_gate"],
            initial_logits=fused["initial_logits"],
            kept_logits=fused["kept_logits"],
        )

    # -- Training samples ----------------------------------------------------

    def _what_happened(
        self, clean: dict, used: dict, flags: dict | None
    ) -> dict[str, Any]:
        """What was done to the samples, and where clean ones are."""
        mask = used[MASK]
        own = initial_mask = mask
        if flags is not None:
            own = mask * (1.0 - flags["replaced"])
            initial_mask = mask * (1.0 - flags["injected"])
        record = {"own": own, "initial_mask": initial_mask}
        if self.augmentation is None:
            # Enough samples are left as they were.
            return {
                **record,
                "untouched": initial_mask,
                "clean_mask": initial_mask,
            }
        calm = self.augment(clean, training=False)
        features = self.embed.stacked(
            self.encode(calm, training=False, weighed=False)
        )
        z = self.embed.embed(features, calm[MASK])
        return {
            **record,
            "untouched": initial_mask
            * untouched(clean, used, self.modality_names),
            "clean_mask": calm[MASK],
            "clean_features": features,
            "clean_z": z,
            "clean_initial_logits": self.fusion.initial_logits(z),
        }

    # -- Losses --------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        mask, record = outputs[MASK], outputs.get(TRAINING_RECORD, outputs)
        crossentropy = self.modality_crossentropy
        initial = crossentropy(
            y,
            outputs["initial_logits"],
            record.get("initial_mask", mask),
            sample_weight,
        )
        kept = crossentropy(
            y, outputs["kept_logits"], record.get("own", mask), sample_weight
        )
        terms = {
            "initial_loss": self.modality_loss_weight * initial,
            "kept_loss": self.modality_loss_weight * kept,
            "confidence_loss": self._confidence_loss(y, outputs, sample_weight),
        }
        if TRAINING_RECORD not in outputs:
            none = dict.fromkeys(self.auxiliary_trackers, ops.zeros(()))
            return {**none, **terms}
        return {**terms, **self._training_losses(record)}

    def _training_losses(self, record: dict[str, Any]) -> Losses:
        """Terms that evaluation has not: those of clean samples."""
        terms: Losses = {}
        fused = record["fusion"]
        if self.removal:
            # Large noise must not be forbidden to be removed.
            divergence = mean_where(fused["divergence"], record["untouched"])
            terms["divergence_loss"] = self.divergence_weight * divergence
        if self.compensation:
            target = ops.stop_gradient(record["clean_z"] - fused["prior_mean"])
            wrong = bounded(ops.square(fused["compensation"] - target))
            wrong = mean_where(wrong, record["clean_mask"])
            terms["compensation_loss"] = self.compensation_weight * wrong
        return terms

    def _confidence_loss(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        """Cross-entropy of the confidence as the true class' probability."""
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        p = ops.softmax(ops.stop_gradient(outputs["kept_logits"]))
        target = ops.sum(labels * p, axis=-1)
        if TRAINING_RECORD in outputs:
            # Without what is known of the input, which must not be unlearnt.
            # From logits: of probabilities, backends clip unlike each other.
            fused = outputs[TRAINING_RECORD]["fusion"]
            loss = ops.binary_crossentropy(
                target, fused["own_logits"], from_logits=True
            )
        else:
            loss = ops.binary_crossentropy(target, outputs[CONFIDENCE])
        return mean_over_samples(loss * outputs[MASK], sample_weight)

    # -- Statistics ----------------------------------------------------------

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        record = outputs[TRAINING_RECORD]
        mask = record["clean_mask"]
        if self.global_prior:
            # Slower where the embedding hardly moves any more.
            self.fusion.global_ici.update_statistics(
                record["clean_z"],
                y,
                ops.softmax(record["clean_initial_logits"]),
                mask,
                decay=0.95 + 0.045 * record["later"],
            )
        self.embed.update_statistics(record["clean_features"], mask)

    @reads_tables
    def explain(self, x: Modalities) -> dict[str, Any]:
        """Predict, and show what was removed and compensated on the way.

        Returns:
            Dict of NumPy arrays: what `predict` returns, and, each
            `(batch, n_modalities, units)`, the standardised `feature`, of
            it `ici` and what was `kept`, and the `compensated` feature.
            `keras_mmrel.evaluation.plot_ici` draws one sample of it.
        """
        self.modality_inputs.check(x)
        inputs = self.augment(self.prepare_inputs(x), training=False)
        mask = inputs[MASK]
        features = self.encode(inputs, training=False, weighed=False)
        z = self.embed.embed(features, mask)
        quality = relative_quality(inputs) if QUALITY in inputs else None
        fused = self.fusion(z, mask, quality, training=False)
        inner = {name: fused[name] for name in ("ici", "kept", "compensated")}
        outputs = {**self(x, training=False), "feature": z, **inner}
        return {k: ops.convert_to_numpy(v) for k, v in outputs.items()}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
            "warmup": self.warmup,
            "injection": self.injection,
            "modality_loss_weight": self.modality_loss_weight,
            "divergence_weight": self.divergence_weight,
            "compensation_weight": self.compensation_weight,
            "global_prior": self.global_prior,
            "removal": self.removal,
            "compensation": self.compensation,
            "weighting": self.weighting,
        }
