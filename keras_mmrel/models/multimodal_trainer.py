from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.callbacks.epoch_record import EpochRecord
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses.label_crossentropy import LabelCrossentropy
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models import validation
from keras_mmrel.models.compile_arguments import check_modulation
from keras_mmrel.models.compile_arguments import logits_loss
from keras_mmrel.models.compile_arguments import logits_metrics
from keras_mmrel.modulations.gradient_modulation import GradientModulation


class MultimodalTrainer(keras.Model):
    """How every model of the library is compiled, trained and checked.

    `MultimodalModel` adds what the trainer reads: `modality_names`,
    `modality_shapes`, `encoders`, `num_classes`, `class_counts` and
    `auxiliary_trackers`.
    """

    num_classes: int
    modality_names: list[str]
    modality_shapes: dict[str, Any]
    encoders: list[keras.layers.Layer]
    auxiliary_trackers: dict[str, keras.metrics.Mean]
    class_counts: Any
    modulation: GradientModulation | None

    # -- Losses --------------------------------------------------------------

    def auxiliary_losses(
        self, y: Any, outputs: Mapping[str, Any], sample_weight: Any = None
    ) -> dict[str, Any]:
        """Return named, weighted loss terms that a method adds.

        Args:
            y: Labels as passed to `fit`.
            outputs: What `call` returned.
            sample_weight: `(batch,)` or `None`.
        """
        return {}

    def update_statistics(self, y: Any, outputs: Mapping[str, Any]) -> None:
        """Update what a method estimates from training batches.

        Called in training steps only. `outputs` is what `call` returned with
        `training=True`; assignments to non-trainable weights persist.
        """

    def modality_crossentropy(
        self, y: Any, logits: Any, mask: Any, sample_weight: Any = None
    ) -> Any:
        """Cross-entropy summed over present modalities, averaged over samples.

        Args:
            y: Labels as passed to `fit`.
            logits: `(batch, n_modalities, num_classes)`.
            mask: `(batch, n_modalities)`.
            sample_weight: `(batch,)` or `None`.
        """
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        losses = -ops.sum(labels * ops.log_softmax(logits), axis=-1) * mask
        return mean_over_samples(losses, sample_weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(
            x, y, y_pred["logits"], sample_weight, training
        )
        terms = self.auxiliary_losses(y, y_pred, sample_weight)
        if set(terms) != set(self.auxiliary_trackers):
            raise ValueError(
                "`auxiliary_losses` must return the terms named by "
                f"`auxiliary_loss_names` {sorted(self.auxiliary_trackers)}. "
                f"Received: {sorted(terms)}"
            )
        batch = ops.shape(y_pred["logits"])[0]
        for name, term in terms.items():
            self.auxiliary_trackers[name].update_state(
                term, sample_weight=batch
            )
            loss = loss + backend.replica_share(term)
        if training:
            labels = one_hot_labels(y, self.num_classes)
            self.class_counts.assign_add(
                backend.all_reduce_sum(ops.sum(labels, axis=0))
            )
            self.update_statistics(y, y_pred)
            if self.modulation is not None:
                self.modulation.update(labels, y_pred)
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict:
        return super().compute_metrics(x, y, y_pred["logits"], sample_weight)

    # -- Training ------------------------------------------------------------

    def modulate_gradients(
        self, gradients: Sequence[Any], variables: Sequence[Any], signals: dict
    ) -> Sequence[Any]:
        """Edit this step's gradients, one a variable; `None` passes through.

        Args:
            gradients: Gradients of the (loss-scaled) loss.
            variables: The trainable variables, in the same order.
            signals: Dict with the step's `y` and `y_pred`.
        """
        if self.modulation is None:
            return gradients
        return self.modulation.modulate_gradients(
            gradients, variables, self.variable_owners(variables)
        )

    @property
    def edits_updates(self) -> bool:
        """Whether the train step has to call `modulate_updates`."""
        return self.modulation is not None and self.modulation.edits_updates

    def modulate_updates(
        self, old: Sequence[Any], new: Sequence[Any], variables: Sequence[Any]
    ) -> Sequence[Any]:
        """Edit what the optimizer did to the weights in this step.

        Args:
            old: Values before the optimizer's step, one a variable.
            new: Values after it.
            variables: The trainable variables, in the same order.
        """
        modulation = self.modulation
        assert modulation is not None
        owners = modulation.touched(variables, self.variable_owners(variables))
        return modulation.modulate_updates(old, new, owners, self.optimizer)

    def gradient_groups(self) -> dict[str, list[Any]]:
        """Return modality name -> the trainable variables of its encoder.

        Those of no encoder are under `"fusion"`.
        """
        groups = {
            name: list(encoder.trainable_variables)
            for name, encoder in zip(
                self.modality_names, self.encoders, strict=True
            )
        }
        owned = {id(v) for group in groups.values() for v in group}
        groups["fusion"] = [
            v for v in self.trainable_variables if id(v) not in owned
        ]
        return groups

    def variable_owners(self, variables: Sequence[Any]) -> list[int | None]:
        """Index of the modality whose encoder owns a variable, or `None`."""
        groups = self.gradient_groups()
        owners = {
            id(v): index
            for index, name in enumerate(self.modality_names)
            for v in groups[name]
        }
        return [owners.get(id(v)) for v in variables]

    def train_step(self, *args: Any) -> Any:
        return backend.train_step(self, *args)

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Return the optimizer that `compile()` takes without arguments."""
        return keras.optimizers.AdamW(learning_rate=1e-3)

    def default_loss(self) -> keras.losses.Loss:
        """Return the loss that `compile()` takes without arguments."""
        return LabelCrossentropy()

    def default_modulation(self) -> GradientModulation | None:
        """Return the modulation that `compile()` takes without arguments."""
        return None

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        metrics: Any = "auto",
        modulation: Any = "auto",
        **kwargs: Any,
    ) -> None:
        """Configure training; every argument has a sensible default.

        Args:
            optimizer: As in `keras.Model.compile`; `"auto"` is AdamW.
            loss: As in `keras.Model.compile`, applied to the fused `logits`;
                `"auto"` is the method's own, mostly the cross-entropy.
                A string such as `"sparse_categorical_crossentropy"` means
                its `from_logits` form here.
            metrics: As in `keras.Model.compile`, computed on the fused
                `logits`; `"auto"` is the accuracy.
            modulation: A `keras_mmrel.modulations.GradientModulation`, which
                decides how fast each encoder learns, or `None`; `"auto"` is
                what the method itself brings, mostly nothing.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            ValueError: If `loss`, or a metric given by its name, expects
                probabilities, or `modulation` is none.
        """
        if optimizer == "auto":
            optimizer = self.default_optimizer()
        if isinstance(loss, str) and loss == "auto":
            loss = self.default_loss()
        if isinstance(modulation, str) and modulation == "auto":
            modulation = self.default_modulation()
        check_modulation(modulation)
        super().compile(
            optimizer=optimizer,
            loss=logits_loss(loss),
            metrics=logits_metrics(metrics),
            **kwargs,
        )
        self._set_modulation(modulation)

    def _set_modulation(self, modulation: GradientModulation | None) -> None:
        if modulation is not None:
            modulation.setup(self)
        # Keras locks the state of a model once it is built; a modulation is
        # state that comes with `compile`, before any step is traced.
        locked = self._tracker.locked
        self._tracker.unlock()
        if self.modulation is not None:
            self._tracker.untrack(self.modulation)
        self.modulation = modulation
        if locked:
            self._lock_state()

    def get_compile_config(self) -> dict:
        config = super().get_compile_config()
        if config:
            config["modulation"] = keras.saving.serialize_keras_object(
                self.modulation
            )
        return config

    def compile_from_config(self, config: dict) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weights that depend on how far the training is.

        Args:
            epoch: Number of the epoch that begins, from 0.
            epochs: The number at which this `fit` ends.
        """
        if self.modulation is not None:
            self.modulation.begin_epoch(epoch)

    def epoch_logs(self) -> dict[str, float]:
        """Return what the end of an epoch adds to the logs."""
        if self.modulation is None:
            return {}
        return self.modulation.epoch_logs()

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """Return callbacks that every `fit` of this method needs."""
        return []

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, after checking the data.

        Before the first step in-memory data are checked completely, and a
        source that can be read twice (`PyDataset`, `tf.data`, `DataLoader`)
        by its first batch. A generator is not checked.
        """
        self.check_data(x, y, training=True)
        held_out = validation_data
        if isinstance(held_out, list | tuple):
            held_y = held_out[1] if len(held_out) > 1 else None
            self.check_data(held_out[0], held_y, labelled=True)
        elif held_out is not None:
            self.check_data(held_out, labelled=True)
        x = self.training_inputs(x)
        # Callbacks read and assign weights before the first step.
        shapes = validation.data_shapes(x, self.modality_names)
        if shapes and not self.built:
            self.build(shapes)
        added = [EpochRecord(), *self.training_callbacks()]
        if isinstance(callbacks, keras.callbacks.CallbackList):
            for callback in added:
                callback.set_model(self)
                callback.set_params(callbacks.params)
                callbacks.callbacks.append(callback)
        else:
            if isinstance(callbacks, keras.callbacks.Callback):
                callbacks = [callbacks]
            callbacks = [*added, *(callbacks or [])]
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            **kwargs,
        )

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        # `fit` has checked what it hands over after every epoch.
        if not kwargs.get("_use_cached_eval_dataset"):
            self.check_data(x, y, labelled=True)
        return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.check_data(x)
        return super().predict(x, *args, **kwargs)

    def train_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        self.check_data(x, y, labelled=True)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        self.check_data(x, y, labelled=True)
        return super().test_on_batch(x, y, *args, **kwargs)

    def training_inputs(self, x: Any) -> Any:
        """Return the checked data of a `fit`, with what a method adds."""
        return x

    def modality_inputs(self, x: Any) -> Any:
        """Return the inputs without what a method takes beside modalities."""
        return x

    def check_data(
        self,
        x: Any,
        y: Any = None,
        training: bool = False,
        labelled: bool = False,
    ) -> None:
        """Refuse data that this model cannot take.

        Args:
            x: Dict of arrays, or a data source.
            y: Labels of a dict of arrays.
            training: Whether these are all the data of a training, which
                need labels of two classes.
            labelled: Whether labels are needed.

        Raises:
            ValueError: With the first thing that is wrong.
        """
        labelled = labelled or training
        batch = validation.first_batch(x)
        if batch is not None:
            x, y = batch
            training = False
        elif not isinstance(x, Mapping | Sequence) and not hasattr(x, "shape"):
            return
        elif isinstance(x, Mapping):
            validation.check_order(self.modality_inputs(x), self.modality_names)
        if isinstance(x, Mapping):
            x = self.modality_inputs(x)
        count = validation.check_arrays(x, self.modality_shapes)
        if y is not None:
            validation.check_labels(y, self.num_classes, count, training)
        elif labelled:
            raise ValueError(
                "`y` must hold a label for each sample. Received: y=None"
            )
