from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel._shapes import map_shapes
from keras_mmrel._shapes import with_batch
from keras_mmrel.backend import upstream
from keras_mmrel.class_scores import made_usable
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import ClassNames
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Names
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import CONFIDENCE
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import PROBABILITIES
from keras_mmrel.contract import QUALITY
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.contract import largest_value
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses.label_crossentropy import LabelCrossentropy
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models import _class_names
from keras_mmrel.models import _quality
from keras_mmrel.models import _saving
from keras_mmrel.models import modality_encoders
from keras_mmrel.models import validation
from keras_mmrel.models._pixel_units import PixelUnits
from keras_mmrel.models.batch_watch import BatchWatch
from keras_mmrel.models.clock import Clock
from keras_mmrel.models.compile_arguments import check_loss
from keras_mmrel.models.compile_arguments import check_metric_names
from keras_mmrel.models.compile_arguments import check_modulation
from keras_mmrel.models.compile_arguments import check_options
from keras_mmrel.models.compile_arguments import known_optimizer
from keras_mmrel.models.compile_arguments import logits_loss
from keras_mmrel.models.metric_routes import MetricRoutes
from keras_mmrel.models.modality_inputs import ModalityInputs
from keras_mmrel.models.modality_inputs import keep_present
from keras_mmrel.models.modulation_slot import ModulationSlot
from keras_mmrel.models.side_input import SideInput
from keras_mmrel.models.stored_model import StoredModel
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.seeds import known_seed
from keras_mmrel.state import add_state


@constrained(
    num_classes=NUM_CLASSES,
    augmentation=Either(
        Instance(
            keras.layers.Layer,
            "a Keras layer, such as "
            "`keras_mmrel.layers.CorruptionAugmentation`,",
        ),
        None,
    ),
    quality=Either(_quality.QUALITY_LAYER, None),
    seed=SEED,
    class_names=Either(ClassNames(), None),
    auxiliary_loss_names=Names(),
)
class MultimodalModel(StoredModel):
    """Base of every multimodal classifier of the library.

    It takes a dict of modalities, encodes each, knows which are missing, and
    trains with plain `fit` on every backend.

    Inputs are a dict of modality name -> array with the batch first, plus the
    optional key `"modality_mask"` of shape `(batch, n_modalities)`, 1 for a
    modality that is present and 0 for a missing one. What a missing modality
    holds (NaN, say) has no influence on the prediction. A sample whose
    modalities are all missing is answered with the class prior seen in
    training and a confidence of 0. As missing counts, too, what holds a value
    that is not finite or larger than 1e15 (65504 in float16), where no check
    before the first step has refused it, and a modality that is the same in
    all samples of the arrays that `fit` was given first: it tells nothing.

    Numbers of tokens that are none of the vocabulary of an encoder's embedding
    are refused. It is known of encoders of this library and of graphs of
    layers; a layer of your own says it by the attribute `vocabularies`, a dict
    of the name of an input, `""` for the only one -> how many numbers it may
    be.

    Outputs are a dict, in training and in inference alike:

    - `logits`: `(batch, num_classes)`, fused, in float32.
    - `probabilities`: `(batch, num_classes)`, the softmax of `logits`.
    - `modality_logits`: `(batch, n_modalities, num_classes)`.
    - `confidence`: `(batch, n_modalities)` in [0, 1], 0 where missing.
    - `modality_mask`: `(batch, n_modalities)`, the mask that was used.
    - `modality_quality`: `(batch, n_modalities)` in [0, 1], where a layer
      given as `quality` says how far each input is to be believed.
    - what the method adds as evidence.

    With `training=True` they have `training_record` besides where the method
    hands something on to losses and statistics: a dict of its own entries and
    its side inputs.

    A method is a subclass whose `__init__` ends with
    `self.build_from_modalities()`, with a `call` that begins with
    `prepare_inputs` and `augment` and ends in `make_outputs`. It may override
    eight methods, `get_config` aside:

    1. `call`.
    2. `default_encoder`: of a modality that is given by its shape.
    3. `compile_defaults`: optimizer, loss and modulation of `compile()`.
    4. `loss_weights`: how much each sample counts in a training step.
    5. `auxiliary_losses`: named terms beside the loss of the fused logits.
    6. `update_statistics`: what is estimated from training batches.
    7. `modulate_gradients`: edits a step's gradients (a
       `keras_mmrel.modulations.GradientModulation` does so for any model).
    8. `training_callbacks`: what has to happen between steps.

    What depends on how far the training is asks `self.clock`
    (`keras_mmrel.models.Clock`), and what a method takes beside modalities is
    declared in the class attribute `side_inputs`
    (`keras_mmrel.models.SideInput`).

    Args:
        modalities: Dict of modality name -> input shape without the batch
            axis (a default encoder is made), or -> a dict of the shapes of
            values and their `"padding_mask"`, or -> a `keras.Layer` or
            `keras.Model` that encodes the modality into `(batch, d)`, or -> a
            list of layers, the blocks of an encoder. Its order is the order
            of `modality_names`.
        num_classes: Integer of at least 2.
        augmentation: `None`, or a layer that takes and returns the dict of
            inputs and is active in training only, such as
            `keras_mmrel.layers.CorruptionAugmentation`.
        quality: `None`, or a layer that takes and returns the dict of
            inputs: it may clean them, mask them, and add
            `"modality_quality"`, by which the features of a sample's less
            believed modalities are made smaller. It learns from clean
            training samples, in every step by its `update_statistics`
            (`keras_mmrel.layers.RangeControl`), or before the first one by
            its `adapt` (`keras_mmrel.layers.InputQuality`).
        seed: Non-negative integer, or `None` to draw one, which the
            attribute `seed` and the config then have. Seed of all that the
            model draws (dropout, noise, ...); initial weights follow
            `keras.utils.set_random_seed`, as a drawn seed does.
        class_names: `None`, or the names of the classes in the order of their
            numbers. They are in the model's file; `fit` takes them from data
            that have some (`keras_mmrel.media.MediaTable`), and data of other
            classes are refused.
        auxiliary_loss_names: Names of the terms that `auxiliary_losses`
            returns; each has its own column in `History`.
        **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Raises:
        ValueError: If a name, a shape or another argument is not as above.
    """

    side_inputs: Sequence[SideInput] = ()
    # Whether the layer of `quality` is the method's own choice (`"auto"`).
    quality_is_own: bool = False
    # Whether a modulation can find the encoder of a modality.
    takes_modulation: bool = True

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        augmentation: keras.layers.Layer | None = None,
        quality: keras.layers.Layer | None = None,
        seed: int | None = None,
        class_names: Sequence[str] | None = None,
        auxiliary_loss_names: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        validation.check_modalities(modalities)
        # Inputs stay in float32: statistics are kept from them, and every
        # layer casts what it takes to its own compute dtype.
        super().__init__(autocast=False, **kwargs)
        validation.check_compute_dtype(self.compute_dtype)
        self.num_classes = num_classes
        self.class_names = _class_names.checked(class_names, num_classes)
        self.seed = known_seed(seed)
        self.seed_given = seed is not None
        self.modality_names = list(modalities)
        self.modality_specs = {
            name: modality_encoders.layer_or_shape(spec)
            for name, spec in modalities.items()
        }
        self.modality_shapes = {
            name: modality_encoders.known_shape(spec)
            for name, spec in self.modality_specs.items()
        }

        # === Parts ===
        self.modality_inputs = ModalityInputs(self)
        self.batch_watch = BatchWatch(
            self.modality_names,
            num_classes,
            largest_value(self.compute_dtype),
            [side.name for side in self.side_inputs],
            self.modality_inputs.tokens.sizes,
        )
        self.clock = Clock()
        self.modulation_slot = ModulationSlot(lambda: self.encoders)
        self.augmentation = augmentation
        self.quality = quality
        self.encoders = [
            self._encoder_of(name, spec)
            for name, spec in self.modality_specs.items()
        ]
        self.pixel_units = PixelUnits(self)
        modality_encoders.check_sharing(self.modality_names, self.encoders)
        self.auxiliary_trackers = {
            name: keras.metrics.Mean(name=name) for name in auxiliary_loss_names
        }
        self.class_counts = add_state(self, "class_counts", (self.num_classes,))
        self.informative = add_state(
            self, "informative", (len(self.modality_names),), "ones"
        )

    # -- Building ------------------------------------------------------------

    def _encoder_of(self, name: str, spec: Any) -> keras.layers.Layer:
        if isinstance(spec, keras.layers.Layer):
            return spec
        if isinstance(spec, Mapping):
            # No method has an encoder of its own for several tensors.
            return MultimodalModel.default_encoder(self, name, spec)
        return self.default_encoder(name, spec)

    def default_encoder(self, name: str, shape: Any) -> keras.layers.Layer:
        """Return the encoder of a modality that is given by its shape."""
        return modality_encoders.default_encoder(
            name, shape, self.dtype_policy, self.seed
        )

    def build_from_modalities(self) -> None:
        """Build every weight now, where all input shapes are known.

        A model with an encoder that does not know its input shape is built
        by its first call, like any Keras model.
        """
        if None not in self.modality_shapes.values():
            self.build(map_shapes(with_batch, self.modality_shapes))

    def build(self, input_shape: Mapping[str, Any]) -> None:
        shapes = {
            name: self.modality_shapes[name]
            or map_shapes(lambda s: tuple(s[1:]), input_shape[name])
            for name in self.modality_names
        }
        self.modality_shapes = dict(shapes)
        with upstream.one_symbolic_batch():
            self.call(
                map_shapes(lambda s: keras.KerasTensor(with_batch(s)), shapes)
            )
        upstream.keep_seeds(self)

    def get_build_config(self) -> dict | None:
        if not self.built:
            return None
        return {"shapes": map_shapes(list, self.modality_shapes)}

    def build_from_config(self, config: dict | None) -> None:
        if config and not self.built:
            self.build(map_shapes(with_batch, config["shapes"]))

    # -- Pieces of a method's `call` -----------------------------------------

    def prepare_inputs(self, inputs: Modalities) -> dict[str, Any]:
        """Empty missing modalities and complete the mask.

        Returns:
            Dict of the modalities, zero where missing, and the float32
            `"modality_mask"` of shape `(batch, n_modalities)`.
        """
        return self.modality_inputs.prepare(inputs)

    def augment(
        self,
        inputs: dict[str, Any],
        training: bool | None = None,
        learnt: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Apply the training-time augmentation, then the quality control.

        Args:
            inputs: What `prepare_inputs` returned.
            training: Whether this is a training step.
            learnt: What a quality layer learns from that learns in the steps
                themselves, where that is not `inputs`.
        """
        used = inputs
        if self.augmentation is not None and training:
            used = self.augmentation(inputs, training=training)
        if self.quality is not None:
            streams = hasattr(self.quality, "update_statistics")
            if training and streams and self.quality.trainable:
                self.quality.update_statistics(learnt or inputs)
            used = self.quality(used, training=False)
        return used

    def encode(
        self,
        inputs: Modalities,
        training: bool | None = None,
        weighed: bool = True,
        encoders: Sequence[keras.layers.Layer] | None = None,
    ) -> list[Tensor]:
        """Encode prepared inputs into one `(batch, d)` feature a modality.

        The feature of a missing modality is zero.

        Args:
            inputs: What `augment` returned.
            training: Whether encoders are in training.
            weighed: Whether a feature is made smaller by how much less than
                the sample's best one its modality is to be believed.
            encoders: Others than the model's own, one a modality.
        """
        features = []
        for index, name in enumerate(self.modality_names):
            encoder = (encoders or self.encoders)[index]
            feature = encoder(inputs[name], training=training)
            validation.check_feature(name, feature)
            if not weighed:
                feature = keep_present(feature, inputs[MASK][:, index])
            else:
                feature = _quality.weighed(feature, inputs, index)
            features.append(feature)
        return features

    def make_outputs(
        self,
        logits: Tensor,
        modality_logits: Tensor,
        inputs: Modalities,
        confidence: Tensor = None,
        training_record: dict[str, Any] | None = None,
        **evidence: Tensor,
    ) -> dict[str, Any]:
        """Complete the output dict that every model returns.

        Args:
            logits: Fused logits `(batch, num_classes)`.
            modality_logits: `(batch, n_modalities, num_classes)`.
            inputs: What `augment` returned, for its mask and its quality.
            confidence: `(batch, n_modalities)` in [0, 1]; by default how far
                each modality's largest probability is above chance. What is
                not to be believed lowers it.
            training_record: What losses and statistics need, in training.
            **evidence: Further outputs of the method.
        """
        modality_mask = inputs[MASK]
        modality_logits = ops.cast(modality_logits, "float32")
        if confidence is None:
            confidence = chance_corrected_confidence(modality_logits)
        counts = ops.convert_to_tensor(self.class_counts) + 1.0
        prior = ops.log(counts / ops.sum(counts))
        any_present = ops.max(modality_mask, axis=1, keepdims=True) > 0
        logits = ops.where(any_present, ops.cast(logits, "float32"), prior)
        outputs = {
            LOGITS: logits,
            PROBABILITIES: ops.softmax(logits, axis=-1),
            MODALITY_LOGITS: modality_logits,
            CONFIDENCE: ops.cast(confidence, "float32") * modality_mask,
            MASK: modality_mask,
            **evidence,
        }
        if inputs.get(QUALITY) is not None:
            outputs[QUALITY] = inputs[QUALITY]
            outputs[CONFIDENCE] = outputs[CONFIDENCE] * inputs[QUALITY]
        if training_record:
            outputs[TRAINING_RECORD] = training_record
        return outputs

    # -- Losses and statistics -----------------------------------------------

    def loss_weights(self, outputs: Outputs, sample_weight: Tensor) -> Tensor:
        """Return the sample weights of a training step, `(batch,)` or `None`.

        Args:
            outputs: What `call` returned, with its `training_record`.
            sample_weight: `(batch,)` or `None`, as passed to `fit`.
        """
        return sample_weight

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        """Return named, weighted loss terms that a method adds.

        Args:
            y: Labels as passed to `fit`.
            outputs: What `call` returned.
            sample_weight: `(batch,)` or `None`.
        """
        return {}

    def update_statistics(self, y: Labels, outputs: Outputs) -> None:
        """Update what a method estimates from training batches.

        Called in training steps only. `outputs` is what `call` returned with
        `training=True`; assignments to non-trainable weights persist.

        A sample of weight 0 is absent: in a training step all its modalities
        are missing. Any other weight says how much a sample matters to the
        loss, not how often it occurs.
        """

    def modality_crossentropy(
        self,
        y: Labels,
        logits: Tensor,
        modality_mask: Tensor,
        sample_weight: Tensor = None,
    ) -> Tensor:
        """Cross-entropy summed over present modalities, averaged over samples.

        Args:
            y: Labels as passed to `fit`.
            logits: `(batch, n_modalities, num_classes)`.
            modality_mask: `(batch, n_modalities)`.
            sample_weight: `(batch,)` or `None`.
        """
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        losses = -ops.sum(labels * ops.log_softmax(logits), axis=-1)
        return mean_over_samples(losses * modality_mask, sample_weight)

    def compute_loss(
        self,
        x: Modalities | None = None,
        y: Labels = None,
        y_pred: Outputs | None = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Return the loss of a batch; in training, learn from the batch too.

        The loss is that of `compile` on the fused logits plus the auxiliary
        losses. **With `training=True`, Keras' default, this also changes the
        model's state**: class counts, the method's statistics, the
        modulation's coefficients and the clock move by one step. Pass
        `training=False` for the loss alone.

        Args:
            x: The batch's inputs, for the side inputs among them.
            y: Labels.
            y_pred: What `call` returned.
            sample_weight: `(batch,)` or `None`.
            training: Whether this is a training step.
        """
        if y is None:
            raise ValueError(
                "`y` must hold a label for each sample. Received: y=None"
            )
        outputs: Outputs = dict(y_pred or {})
        y, sample_weight, counted = self.batch_watch.look(
            x, y, sample_weight, training
        )
        if training:
            self.batch_watch.look_aside(x or {})
            record = {
                **outputs.get(TRAINING_RECORD, {}),
                **self.modality_inputs.side_values(x or {}),
                **self.modulation_slot.record(x),
            }
            outputs = {**outputs, TRAINING_RECORD: record}
            sample_weight = self.loss_weights(outputs, sample_weight)
            labels = one_hot_labels(y, self.num_classes)
            outputs, sample_weight = self.modulation_slot.modulate_outputs(
                labels, outputs, sample_weight, self.clock
            )
        with made_usable():
            loss = super().compute_loss(
                x, y, outputs[LOGITS], sample_weight, training
            )
        terms = self.auxiliary_losses(y, outputs, sample_weight)
        validation.check_terms(terms, self.auxiliary_trackers)
        batch = ops.shape(outputs[LOGITS])[0]
        for name, term in terms.items():
            self.auxiliary_trackers[name].update_state(
                term, sample_weight=batch
            )
            loss = loss + backend.replica_share(term)
        if training:
            loss = self.modulation_slot.add_loss(
                loss, labels, outputs, sample_weight
            )
            self._learn_from(y, labels, outputs, counted)
        return loss

    def _learn_from(
        self, y: Labels, labels: Tensor, outputs: Outputs, counted: Tensor
    ) -> None:
        """Everything that a training step changes beside the gradients."""
        self.class_counts.assign_add(
            backend.all_reduce_sum(ops.sum(labels * counted, axis=0))
        )
        self.update_statistics(y, outputs)
        self.modulation_slot.update(labels, outputs)
        self.clock.advance()

    def compute_metrics(
        self,
        x: Modalities,
        y: Labels,
        y_pred: Outputs,
        sample_weight: Tensor = None,
    ) -> dict:
        y, _ = self.batch_watch.usable_labels(y)
        sample_weight, _ = self.batch_watch.usable_weights(sample_weight)
        slots = self.metric_routes.slots(y, y_pred)
        with made_usable():
            return super().compute_metrics(x, *slots, sample_weight)

    # -- Gradients -----------------------------------------------------------

    @property
    def modulation(self) -> GradientModulation | None:
        """The modulation that `compile` was given, if any."""
        return self.modulation_slot.modulation

    def modulate_gradients(
        self, gradients: Sequence[Tensor], variables: Variables, signals: dict
    ) -> Sequence[Tensor]:
        """Edit this step's gradients, one a variable; `None` passes through.

        Args:
            gradients: Gradients of the (loss-scaled) loss.
            variables: The trainable variables, in the same order.
            signals: Dict with the step's `y` and `y_pred`, and
                `added_gradients`, those of the loss that the modulation adds
                alone, where it adds one.
        """
        return self.modulation_slot.edit_gradients(
            gradients, variables, signals.get("added_gradients")
        )

    def gradient_groups(self) -> dict[str, list[Any]]:
        """Return modality name -> the trainable variables of its encoder.

        Those of no encoder are under `"fusion"`.
        """
        return self.modulation_slot.groups(
            self.modality_names, self.trainable_variables
        )

    def train_step(self, *args: Any) -> Any:
        *state, data = args
        args = (*state, self.modality_inputs.without_uncounted(data))
        return backend.train_step(self, *args)

    # -- Compiling -----------------------------------------------------------

    def compile_defaults(self) -> dict[str, Any]:
        """Return what `"auto"` means for this method in `compile`.

        Returns:
            Dict of `optimizer`, `loss` and `modulation`.
        """
        return {
            "optimizer": keras.optimizers.AdamW(learning_rate=1e-3),
            "loss": LabelCrossentropy(),
            "modulation": None,
        }

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        metrics: Any = "auto",
        weighted_metrics: Any = None,
        modulation: GradientModulation | str | None = "auto",
        **kwargs: Any,
    ) -> None:
        """Configure training; every argument has a sensible default.

        Args:
            optimizer: As in `keras.Model.compile`; `"auto"` is the method's
                own, mostly AdamW.
            loss: As in `keras.Model.compile`, applied to the fused `logits`;
                `"auto"` is the method's own, mostly the cross-entropy.
                A string such as `"sparse_categorical_crossentropy"` means
                its `from_logits` form here, and a loss of Keras gets the
                labels as class numbers or one-hot rows, as it takes them.
            metrics: As in `keras.Model.compile`; `"auto"` is the accuracy.
                They count every sample in full, one of weight 0 too.
                A metric with `from_logits` gets logits or probabilities as
                it says; one of Keras, such as `keras.metrics.AUC`, gets the
                scores and the form of labels that it takes (one-vs-rest
                over all classes); any other gets the fused `logits`. A dict
                with the keys `"logits"` and `"probabilities"` says it
                outright. Names in `History` are those of the metrics.
            weighted_metrics: Likewise, weighted by `sample_weight` and
                `class_weight`.
            modulation: A `keras_mmrel.modulations.GradientModulation`, which
                decides how fast each encoder learns, or `None`; `"auto"` is
                what the method itself brings, mostly nothing.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            ValueError: If `loss` expects probabilities, a metric expects
                neither these nor logits, or `modulation` is none.
        """
        given = {"optimizer": optimizer, "loss": loss, "modulation": modulation}
        for name, value in given.items():
            if isinstance(value, str) and value == "auto":
                given[name] = self.compile_defaults()[name]
        check_modulation(given["modulation"], self)
        check_options(**kwargs)
        check_metric_names([metrics, weighted_metrics], self)
        given["optimizer"] = known_optimizer(given["optimizer"])
        given["loss"] = logits_loss(given["loss"])
        check_loss(given["loss"], self.num_classes)
        routes = MetricRoutes.of(metrics, weighted_metrics)
        super().compile(
            optimizer=given["optimizer"],
            loss=given["loss"],
            **routes.arguments(),
            **kwargs,
        )
        self.metric_routes = routes
        self.jit_asked = kwargs.get("jit_compile", "auto")
        self.modulation_slot.put(given["modulation"], self)

    def get_compile_config(self) -> dict:
        config = super().get_compile_config()
        if config:
            config.update(self.metric_routes.compile_config())
            # Keras keeps what "auto" is on this backend.
            config["jit_compile"] = self.jit_asked
            config["optimizer"] = upstream.neutral_optimizer(
                config["optimizer"]
            )
            config["modulation"] = keras.saving.serialize_keras_object(
                self.modulation
            )
        return config

    def compile_from_config(self, config: dict) -> None:
        optimizer = upstream.neutral_optimizer(config["optimizer"])
        given = keras.saving.deserialize_keras_object(
            {**config, "optimizer": optimizer}
        )
        upstream.fit_compile_arguments(given)
        self.compile(**given)
        self._build_optimizer()

    # -- Running -------------------------------------------------------------

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """Return callbacks that every `fit` of this method needs.

        They run before the user's: what they put into the logs, `History`
        and `TensorBoard` have.
        """
        return []

    # -- Saving --------------------------------------------------------------

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            **_saving.data_config(self),
            "modalities": _saving.serialize_specs(self.modality_specs),
            "num_classes": self.num_classes,
            "class_names": self.class_names and list(self.class_names),
            "augmentation": _saving.serialize(self.augmentation),
            "quality": (
                "auto"
                if self.quality_is_own
                else _saving.serialize(self.quality)
            ),
            "seed": self.seed,
        }

    @classmethod
    def from_config(
        cls, config: dict, custom_objects: dict | None = None
    ) -> "MultimodalModel":
        return _saving.restore(cls, config, custom_objects)


def chance_corrected_confidence(logits: Tensor) -> Tensor:
    """Largest probability on a scale from chance (0) to certainty (1)."""
    largest = ops.max(ops.softmax(logits, axis=-1), axis=-1)
    chance = 1.0 / logits.shape[-1]
    return (largest - chance) / (1.0 - chance)
