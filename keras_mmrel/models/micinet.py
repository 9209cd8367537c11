from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.callbacks.warmup_schedule import WarmupSchedule
from keras_mmrel.checks import check_share
from keras_mmrel.checks import check_strength
from keras_mmrel.constraints import Number
from keras_mmrel.contract import class_numbers
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers._global_ici import bounded
from keras_mmrel.layers._global_ici import mean_where
from keras_mmrel.layers._ici_fusion import ICIFusion
from keras_mmrel.layers._ici_injection import ICIInjection
from keras_mmrel.layers.corruption_augmentation import CorruptionAugmentation
from keras_mmrel.layers.corruption_augmentation import untouched
from keras_mmrel.layers.gradient_scale import GradientScale
from keras_mmrel.layers.modality_embedding import ModalityEmbedding
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models.multimodal_model import MultimodalModel
from keras_mmrel.models.multimodal_model import encoder_name
from keras_mmrel.models.validation import MASK
from keras_mmrel.state import add_state

ICI_LOSSES = ("reconstruction", "cycle", "specific", "adversary", "shared")


@keras.saving.register_keras_serializable(package="keras_mmrel")
class MICINet(MultimodalModel):
    """Learn what confuses the classes, remove it, compensate what is poor.

    Every modality becomes a standardised feature of `units` numbers
    (`ModalityEmbedding`), and five steps follow:

    1. A first *guess* of the class, from the feature as it is.
    2. `GlobalICI` looks up what usually confuses the guessed classes.
    3. `ICIRemoval` judges every feature by how surprising it is under this
       and removes the sample's own confusing information (ICI).
    4. `DiscriminativePower` says how well each modality, after that, can
       tell the classes apart, and `CrossModalityCompensation` repairs the
       poor ones from the better ones.
    5. The modalities' predictions are multiplied (a product of experts),
       each to the power of its relative discriminative power.

    Plain `fit` does everything. In the first `warmup` of its steps the guess
    and the global ICI are learnt, then everything is. With clean training
    data there would be nothing to remove, so that `ICIInjection` confuses
    some samples; where the training data are noisy, by nature or by
    `CorruptionAugmentation`, it should not. Statistics and the global ICI
    never see what was injected, nor what `augmentation` does: they are taken
    from the samples before it, without gradients.

    Outputs, beside those of every model, `(batch, n_modalities)` each:
    `ici_share` in [0, 1], the share of the modality that was removed;
    `discriminative_power`, which sums to 1; `compensation` in [0, 1], how
    much of the modality comes from others. And `(batch, n_modalities,
    num_classes)` each, what a modality says at first (`guess_logits`), after
    the removal (`kept_logits`), and, as in every model, at the end
    (`modality_logits`). `confidence` is the predicted probability of the true
    class under `kept_logits`. A missing modality has no power, is
    compensated from the others, and takes no part in any statistic.

    Terms that only training has are 0 in validation logs: those of the global
    ICI, `divergence_loss` and `compensation_loss`.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        units: Positive integer, size of every modality's feature.
        dropout: Float in `[0, 1)`.
        warmup: Float in (0, 1), share of the steps of the first `fit`; at
            least two epochs and at most half of it.
        injection: Float in [0, 1], share of the modalities of training
            samples that are confused on purpose, and of a third as many that
            are emptied; `"auto"` is 0.3, and 0 if `augmentation` is a
            `CorruptionAugmentation`.
        tables: See `GlobalICI`.
        modality_loss_weight: Non-negative float, weight of the sums of the
            guesses' and of the kept features' cross-entropies.
        divergence_weight: Non-negative float, see `ICIRemoval`.
        compensation_weight: Non-negative float, weight of the squared error
            of what compensates a clean feature.
        global_prior, removal, compensation, weighting: See `ICIFusion`.
        augmentation: As in `keras_mmrel.models.MultimodalModel`.
        seed: Integer or `None`, seed of dropout, noise and injection.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> model = keras_mmrel.MICINet({"a": (8,), "b": (4,)}, num_classes=3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> history = model.fit(x, np.arange(30) % 3, epochs=3, verbose=0)
    >>> model.predict(x, verbose=0)["ici_share"].shape
    (30, 2)

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1) (its second version is
          another method). The modules' names and roles, and Gaussians for
          pairs of classes, follow the paper. Its other equations are not
          public: every formula is this library's own, found by experiment,
          and results are no reproduction.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        num_classes: int,
        *,
        units: int = 64,
        dropout: float = 0.5,
        warmup: float = 0.15,
        injection: float | str = "auto",
        tables: str = "auto",
        modality_loss_weight: float = 1.0,
        divergence_weight: float = 0.1,
        compensation_weight: float = 0.1,
        global_prior: bool = True,
        removal: bool = True,
        compensation: bool = True,
        weighting: bool = True,
        augmentation: keras.layers.Layer | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not (isinstance(warmup, int | float) and 0 < warmup < 1):
            raise ValueError(
                f"`warmup` must be in (0, 1). Received: warmup={warmup!r}"
            )
        Number(0, 1, high_open=True)("dropout", dropout)
        check_strength("modality_loss_weight", modality_loss_weight)
        check_strength("divergence_weight", divergence_weight)
        check_strength("compensation_weight", compensation_weight)
        if injection != "auto":
            check_share("injection", injection)
        names = ["guess_loss", "kept_loss", "power_loss"]
        names += [f"{name}_loss" for name in ICI_LOSSES if global_prior]
        names += ["divergence_loss"] * bool(removal)
        names += ["compensation_loss"] * bool(compensation)
        super().__init__(
            modalities,
            num_classes,
            augmentation=augmentation,
            auxiliary_loss_names=names,
            **kwargs,
        )

        # === Layers ===
        self.embed = ModalityEmbedding(
            units, dtype=self.dtype_policy, name="modality_embedding"
        )
        self.fusion = ICIFusion(
            num_classes,
            dropout=dropout,
            tables=tables,
            global_prior=global_prior,
            removal=removal,
            compensation=compensation,
            weighting=weighting,
            seed=seed,
            dtype=self.dtype_policy,
            name="ici_fusion",
        )
        noisy = isinstance(augmentation, CorruptionAugmentation)
        self.injection_share: float = (
            (0.0 if noisy else 0.3) if isinstance(injection, str) else injection
        )
        if self.injection_share:
            self.inject = ICIInjection(
                self.injection_share,
                emptying=self.injection_share / 3.0,
                seed=None if seed is None else seed + 3,
                name="injection",
            )
        self.scale_gradient = GradientScale(dtype="float32")

        # === Schedule ===
        self.step = add_state(self, "step")
        self.warmup_steps = add_state(
            self, "warmup_steps", (), keras.initializers.Constant(100)
        )

        # === Config ===
        self.units = units
        self.dropout = dropout
        self.warmup = warmup
        self.injection = injection
        self.tables = tables
        self.modality_loss_weight = modality_loss_weight
        self.divergence_weight = divergence_weight
        self.compensation_weight = compensation_weight
        self.global_prior = global_prior
        self.removal = removal
        self.compensation = compensation
        self.weighting = weighting
        self.seed = seed
        self.build_from_modalities()

    def default_encoder(
        self, name: str, shape: tuple[int, ...]
    ) -> keras.layers.Layer:
        if len(shape) == 1:
            return keras.layers.Identity(name=encoder_name(name))
        return super().default_encoder(name, shape)

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        return keras.optimizers.AdamW(learning_rate=3e-3)

    # -- Forward -------------------------------------------------------------

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        clean = self.prepare_inputs(inputs)
        used = self.augment(clean, training)
        mask = used[MASK]
        features = self.encode(used, training)
        z = self.embed(features, mask, training=False)
        confused, evidence = z, {}
        if training:
            evidence = self._clean_samples(clean, used, features, z)
            if self.injection_share:
                empty = self._empty_features(used)
                confused = self._injected(z, mask, empty, evidence)
        found = self.fusion(confused, mask, training=training)
        if training:
            evidence["analysis"] = found
        return self.make_outputs(
            # In the first phase there is nothing to fuse yet.
            self.scale_gradient(found["logits"], self.second_phase()),
            found["modality_logits"],
            mask,
            ops.sigmoid(found["power_logits"]),
            ici_share=found["ici_fraction"],
            discriminative_power=found["discriminative_power"],
            compensation=found["compensation_gate"],
            kept_logits=found["kept_logits"],
            **{"guess_logits": found["initial_logits"], **evidence},
        )

    # -- Training samples ----------------------------------------------------

    def second_phase(self) -> Any:
        """1 after the warm-up, 0 before."""
        return ops.cast(self.step + 0.0 >= self.warmup_steps + 0.0, "float32")

    def _clean_samples(
        self, clean: dict, used: dict, features: list, z: Any
    ) -> dict[str, Any]:
        """What statistics are taken from, and what was done to the samples."""
        if self.augmentation is not None:
            features = self.encode(clean, training=False)
            z = self.embed(features, clean[MASK], training=False)
        return {
            "clean_features": features,
            "clean_z": z,
            "clean_mask": clean[MASK],
            "untouched": used[MASK]
            * untouched(clean, used, self.modality_names),
            "unreplaced": used[MASK],
        }

    def _empty_features(self, inputs: dict) -> Any:
        """Embedding `(1, n_modalities, units)` of a sample of zeros."""
        nothing = keras.tree.map_structure(
            lambda x: ops.zeros_like(x[:1]), inputs
        )
        nothing[MASK] = ops.ones_like(nothing[MASK])
        return self.embed(self.encode(nothing, training=False), training=False)

    def _injected(self, z: Any, mask: Any, empty: Any, evidence: dict) -> Any:
        """Return the features with ICI injected, and say so in `evidence`."""
        guess_logits = self.fusion.initial_logits(z, training=True)
        p, _, variance = self.fusion.prior(z, guess_logits)
        found = self.inject(
            z,
            variance,
            p,
            self.fusion.confusion(),
            mask,
            empty,
            self.second_phase(),
            training=True,
        )
        # The guess is learnt from the features as they were.
        evidence["guess_logits"] = guess_logits
        evidence["untouched"] = evidence["untouched"] * (
            1.0 - found["injected"]
        )
        evidence["unreplaced"] = mask * (1.0 - found["replaced"])
        return found["features"]

    # -- Losses --------------------------------------------------------------

    def auxiliary_losses(
        self, y: Any, outputs: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        mask, later = outputs[MASK], self.second_phase()
        own = outputs.get("unreplaced", mask)
        crossentropy = self.modality_crossentropy
        guess = crossentropy(y, outputs["guess_logits"], mask, sample_weight)
        kept = crossentropy(y, outputs["kept_logits"], own, sample_weight)
        terms = {
            "guess_loss": self.modality_loss_weight * guess,
            "kept_loss": later * self.modality_loss_weight * kept,
            "power_loss": later * self._power_loss(y, outputs, sample_weight),
        }
        if "analysis" not in outputs:
            none = dict.fromkeys(self.auxiliary_trackers, ops.zeros(()))
            return {**none, **terms}
        found = outputs["analysis"]
        if self.global_prior:
            labels = class_numbers(y, self.num_classes)
            learnt = self.fusion.global_ici.losses_of(
                outputs["clean_z"], labels, outputs["clean_mask"]
            )
            terms.update({f"{n}_loss": loss for n, loss in learnt.items()})
        if self.removal:
            # Large noise must not be forbidden to be removed.
            divergence = mean_where(found["divergence"], outputs["untouched"])
            weight = later * self.divergence_weight
            terms["divergence_loss"] = weight * divergence
        if self.compensation:
            target = ops.stop_gradient(outputs["clean_z"] - found["prior_mean"])
            wrong = bounded(ops.square(found["compensation"] - target))
            wrong = mean_where(wrong, outputs["clean_mask"])
            weight = later * self.compensation_weight
            terms["compensation_loss"] = weight * wrong
        return terms

    def _power_loss(self, y: Any, outputs: Any, sample_weight: Any) -> Any:
        """Cross-entropy of the confidence as the true class' probability."""
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        p = ops.softmax(ops.stop_gradient(outputs["kept_logits"]))
        target = ops.sum(labels * p, axis=-1)
        loss = ops.binary_crossentropy(target, outputs["confidence"])
        return mean_over_samples(loss * outputs[MASK], sample_weight)

    # -- Statistics ----------------------------------------------------------

    def update_statistics(self, y: Any, outputs: Mapping[str, Any]) -> None:
        z, mask = outputs["clean_z"], outputs["clean_mask"]
        if self.global_prior:
            # Slower where the encoders hardly move any more.
            later = self.second_phase()
            self.fusion.global_ici.update_statistics(
                z,
                class_numbers(y, self.num_classes),
                ops.softmax(self.fusion.initial_logits(z)),
                mask,
                decay=0.95 + 0.045 * later,
            )
        self.embed.update_statistics(outputs["clean_features"], mask)
        self.step.assign(self.step + 1.0)

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        return [WarmupSchedule(self.warmup)]

    def explain(self, x: Any) -> dict[str, Any]:
        """Predict, and show what was removed and compensated on the way.

        Returns:
            Dict of NumPy arrays: what `predict` returns, and, each
            `(batch, n_modalities, units)`, the standardised `feature`, of
            it `ici` and what was `kept`, and the `compensated` feature.
            `keras_mmrel.evaluation.plot_ici` draws one sample of it.
        """
        self.check_data(x)
        inputs = self.prepare_inputs(x)
        mask = inputs[MASK]
        features = self.encode(inputs, training=False)
        z = self.embed(features, mask, training=False)
        found = self.fusion(z, mask, training=False)
        parts = {name: found[name] for name in ("ici", "kept", "compensated")}
        outputs = {**self(x, training=False), "feature": z, **parts}
        return {k: ops.convert_to_numpy(v) for k, v in outputs.items()}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "warmup": self.warmup,
            "injection": self.injection,
            "tables": self.tables,
            "modality_loss_weight": self.modality_loss_weight,
            "divergence_weight": self.divergence_weight,
            "compensation_weight": self.compensation_weight,
            "global_prior": self.global_prior,
            "removal": self.removal,
            "compensation": self.compensation,
            "weighting": self.weighting,
            "seed": self.seed,
        }
