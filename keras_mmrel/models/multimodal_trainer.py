from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.losses.label_crossentropy import LabelCrossentropy
from keras_mmrel.losses.label_crossentropy import one_hot_labels
from keras_mmrel.models import validation


class MultimodalTrainer(keras.Model):
    """How every model of the library is compiled, trained and checked.

    `MultimodalModel` adds what the trainer reads: `modality_names`,
    `modality_shapes`, `encoders`, `num_classes`, `class_counts` and
    `auxiliary_trackers`.
    """

    num_classes: int
    modality_names: list[str]
    modality_shapes: dict[str, tuple[int, ...] | None]
    encoders: list[keras.layers.Layer]
    auxiliary_trackers: dict[str, keras.metrics.Mean]
    class_counts: Any

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
        losses = ops.sum(losses, axis=1)
        if sample_weight is not None:
            weight = ops.cast(sample_weight, losses.dtype)
            losses = losses * ops.reshape(weight, (-1,))
        return ops.mean(losses)

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
            loss = loss + term
        if training:
            labels = one_hot_labels(y, self.num_classes)
            self.class_counts.assign_add(
                backend.all_reduce_sum(ops.sum(labels, axis=0))
            )
            self.update_statistics(y, y_pred)
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
        return gradients

    def gradient_groups(self) -> dict[str, list[Any]]:
        """Group the trainable variables by the layer that owns them.

        Returns:
            Dict of modality name -> its encoder's variables, and `"fusion"`
            -> all others.
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

    def train_step(self, *args: Any) -> Any:
        return backend.train_step(self, *args)

    def default_optimizer(self) -> keras.optimizers.Optimizer:
        """Return the optimizer that `compile()` takes without arguments."""
        return keras.optimizers.AdamW(learning_rate=1e-3)

    def compile(
        self,
        optimizer: Any = "auto",
        loss: Any = "auto",
        *,
        metrics: Any = "auto",
        **kwargs: Any,
    ) -> None:
        """Configure training; every argument has a sensible default.

        Args:
            optimizer: As in `keras.Model.compile`; `"auto"` is AdamW.
            loss: As in `keras.Model.compile`, applied to the fused `logits`;
                `"auto"` is the cross-entropy for integer or one-hot labels.
                The strings `"categorical_crossentropy"` and
                `"sparse_categorical_crossentropy"` mean their `from_logits`
                form here.
            metrics: As in `keras.Model.compile`, computed on the fused
                `logits`; `"auto"` is the accuracy.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            ValueError: If `loss` is a cross-entropy that expects
                probabilities.
        """
        if optimizer == "auto":
            optimizer = self.default_optimizer()
        super().compile(
            optimizer=optimizer,
            loss=_logits_loss(loss),
            metrics=["accuracy"] if metrics == "auto" else metrics,
            **kwargs,
        )

    def compile_from_config(self, config: dict) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

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

        In-memory data are checked completely, a `PyDataset` or `tf.data`
        pipeline by its first batch, before the first step.
        """
        self.check_data(x, y, training=True)
        if validation_data is not None:
            held_out = validation_data
            if isinstance(held_out, list | tuple):
                self.check_data(*held_out[:2])
            else:
                self.check_data(held_out)
        added = self.training_callbacks()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            for callback in added:
                callbacks.append(callback)
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

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        self.check_data(x, y)
        return super().evaluate(x, y, **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> dict[str, Any]:
        self.check_data(x)
        return super().predict(x, **kwargs)

    def check_data(self, x: Any, y: Any = None, training: bool = False) -> None:
        """Refuse data that this model cannot take.

        Raises:
            ValueError: With the first thing that is wrong.
        """
        batch = validation.first_batch(x)
        if batch is not None:
            x, y = batch
            training = False
        elif not isinstance(x, Mapping | Sequence) and not hasattr(x, "shape"):
            return
        count = validation.check_arrays(x, self.modality_shapes)
        if y is not None:
            validation.check_labels(y, self.num_classes, count, training)
        elif training:
            raise ValueError(
                "`y` must hold the labels when `x` is a dict of arrays. "
                "Received: y=None"
            )


def _logits_loss(loss: Any) -> Any:
    """Resolve a `compile` loss into one that takes logits."""
    if isinstance(loss, str):
        if loss == "auto":
            return LabelCrossentropy()
        if loss == "categorical_crossentropy":
            return keras.losses.CategoricalCrossentropy(from_logits=True)
        if loss == "sparse_categorical_crossentropy":
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if isinstance(loss, keras.losses.Loss):
        if loss.get_config().get("from_logits") is False:
            raise ValueError(
                "`loss` must take logits: pass `from_logits=True`. Received: "
                f"loss={type(loss).__name__}(from_logits=False)"
            )
    return loss
