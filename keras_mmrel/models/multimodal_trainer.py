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
    modality_shapes: dict[str, Any]
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
                A string such as `"sparse_categorical_crossentropy"` means
                its `from_logits` form here.
            metrics: As in `keras.Model.compile`, computed on the fused
                `logits`; `"auto"` is the accuracy.
            **kwargs: Other arguments of `keras.Model.compile`.

        Raises:
            ValueError: If `loss`, or a metric given by its name, expects
                probabilities.
        """
        if optimizer == "auto":
            optimizer = self.default_optimizer()
        super().compile(
            optimizer=optimizer,
            loss=_logits_loss(loss),
            metrics=_logits_metrics(metrics),
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
        added = self.training_callbacks()
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
            validation.check_order(x, self.modality_names)
        count = validation.check_arrays(x, self.modality_shapes)
        if y is not None:
            validation.check_labels(y, self.num_classes, count, training)
        elif labelled:
            raise ValueError(
                "`y` must hold a label for each sample. Received: y=None"
            )


# What takes logits if it is told so, by the name of its function.
_FROM_LOGITS = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "categorical_focal_crossentropy": keras.losses.CategoricalFocalCrossentropy,
    "sparse_categorical_crossentropy": (
        keras.losses.SparseCategoricalCrossentropy
    ),
}
_PROBABILITIES_ONLY = ("kl_divergence", "poisson")
_PROBABILITY_METRICS = {
    *_FROM_LOGITS,
    *(cls.__name__.lower() for cls in _FROM_LOGITS.values()),
    *_PROBABILITIES_ONLY,
    *("auc", "precision", "recall", "f1_score", "fbeta_score", "f1score"),
}


def _logits_loss(loss: Any) -> Any:
    """Resolve a `compile` loss into one that takes logits."""
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, dict | list | tuple):
        raise ValueError(
            "`loss` must be one loss, which is applied to the fused logits. "
            f"Received: loss={loss!r}"
        )
    if isinstance(loss, str) and loss == "auto":
        return LabelCrossentropy()
    named = isinstance(loss, str)
    chosen = keras.losses.get(loss) if named else loss
    is_loss = isinstance(chosen, keras.losses.Loss)
    function = chosen.name if is_loss else getattr(chosen, "__name__", "")
    if named and function in _FROM_LOGITS:
        return _FROM_LOGITS[function](from_logits=True)
    takes_logits = not is_loss or chosen.get_config().get("from_logits", True)
    is_keras = is_loss or chosen is getattr(keras.losses, function, None)
    if not takes_logits or (
        is_keras
        and (
            function in _PROBABILITIES_ONLY
            or (not is_loss and function in _FROM_LOGITS)
        )
    ):
        raise ValueError(
            "`loss` must take logits: pass a loss object with "
            f"`from_logits=True`. Received: loss={loss!r}"
        )
    return loss


def _logits_metrics(metrics: Any) -> Any:
    """Refuse the names of metrics that would take logits for probabilities."""
    if metrics == "auto":
        return ["accuracy"]
    for name in keras.tree.flatten(metrics):
        if isinstance(name, str) and name.lower() in _PROBABILITY_METRICS:
            raise ValueError(
                "`metrics` are computed on the fused logits: pass an object "
                "that takes logits (`from_logits=True`) instead of a name. "
                f"Received: '{name}'"
            )
    return metrics
