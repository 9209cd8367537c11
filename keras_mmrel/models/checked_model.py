import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.backend import upstream
from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers
from keras_mmrel.models import _class_names
from keras_mmrel.models import _own_callbacks
from keras_mmrel.models import pipelines
from keras_mmrel.models import validation
from keras_mmrel.models._batch_form import BatchForm
from keras_mmrel.models._pixel_units import PixelUnits
from keras_mmrel.models._quality import adapt_quality
from keras_mmrel.models._quality import put_back
from keras_mmrel.models._quality import training_part
from keras_mmrel.models._sampled_rows import counted
from keras_mmrel.models._scaled import adapt_scaling
from keras_mmrel.models._scaled import check_adapted
from keras_mmrel.models._scaled import every_scaling
from keras_mmrel.models._tables import reads_tables
from keras_mmrel.models.batch_watch import BatchWatch
from keras_mmrel.models.clock import Clock
from keras_mmrel.models.compile_arguments import check_optimizer_is_own
from keras_mmrel.models.modality_inputs import ModalityInputs
from keras_mmrel.models.uninformative import note_informative


class CheckedModel(keras.Model):
    """A `keras.Model` that says what is wrong with data and arguments.

    Everything that a user runs passes here first. A subclass makes the parts
    that know what its data look like.

    Attributes:
        modality_names: Names of the modalities, in order.
        modality_inputs: Checks what is there before the first step.
        batch_watch: Counts in the step what nobody saw before.
        clock: Says how far the training is.
        quality: Layer that judges inputs, or `None`.
        class_names: Names of the classes, or `None`.
        informative: Weight `(n_modalities,)`, 1 for what varies in training.
        pixel_units: What pixels are divided by.
    """

    modality_names: list[str]
    modality_inputs: ModalityInputs
    batch_watch: BatchWatch
    clock: Clock
    quality: keras.layers.Layer | None
    class_names: list[str] | None
    informative: keras.Variable
    pixel_units: PixelUnits
    _runs = 0

    @reads_tables
    def fit(
        self,
        x: DataSource = None,
        y: Labels = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: DataSource = None,
        shuffle: bool = True,
        class_weight: dict | None = None,
        sample_weight: Tensor = None,
        initial_epoch: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, after checking the data.

        Before the first step in-memory data are checked completely, and a
        pipeline (`PyDataset`, `tf.data`, `DataLoader`, generator) by its
        first batch. A later batch must hold what the first one does. What is
        wrong with its values harms no weight of the model and ends the epoch
        with a `ValueError`.

        A sample of weight 0 (`sample_weight`, `class_weight`) is absent, from
        losses and from statistics. Other weights scale losses; in statistics
        each sample counts once. `metrics` of `compile`, with the accuracy by
        default, count samples of weight 0 in full, as Keras' do; its
        `weighted_metrics` do not.
        """
        validation.check_compiled(self)
        validation.check_run(
            "fit",
            batch_size=batch_size,
            epochs=epochs,
            validation_split=validation_split,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
            verbose=verbose,
            **kwargs,
        )
        pipelines.check_beside(
            x,
            class_weight,
            y=y,
            sample_weight=sample_weight,
            batch_size=batch_size,
            validation_split=validation_split,
        )
        self.modality_inputs.check(
            x,
            y,
            fits=True,
            trains=True,
            labelled=True,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_split=validation_split,
        )
        form = self.modality_inputs.form()
        validation_data = self.modality_inputs.checked_validation(
            x, validation_data, form, kwargs.get("validation_batch_size")
        )
        callbacks = _own_callbacks.callback_list(callbacks)
        initial_epoch = _own_callbacks.open_state(
            self, callbacks, epochs, initial_epoch
        )
        x = self.modality_inputs.complete(x, form)
        # Callbacks read and assign weights before the first step.
        shapes = pipelines.data_shapes(x, self.modality_names)
        if shapes and not self.built:
            self.build(shapes)
        validation.check_weights(self)
        with put_back(self, self.quality, *every_scaling(self)):
            parts = training_part(x, y, sample_weight, validation_split)
            self._look_at(*parts, class_weight)
            # TensorFlow would trace the step once to make them, once to run.
            self._build_training(x)
            with self._running(form):
                return super().fit(
                    x,
                    y,
                    batch_size=batch_size,
                    epochs=epochs,
                    verbose=verbose,
                    callbacks=_own_callbacks.with_own_callbacks(
                        self, callbacks, initial_epoch
                    ),
                    validation_split=validation_split,
                    validation_data=validation_data,
                    shuffle=shuffle,
                    class_weight=class_weight,
                    sample_weight=sample_weight,
                    initial_epoch=initial_epoch,
                    **kwargs,
                )

    @reads_tables
    def evaluate(
        self,
        x: DataSource = None,
        y: Labels = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Tensor = None,
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate` does, after checking the data.

        The loss and `weighted_metrics` of `compile` are weighted by
        `sample_weight`. Its `metrics`, with the accuracy by default, count
        every sample in full, one of weight 0 too, as Keras' do. A modality
        whose key is not in a dict of arrays, or in the batches of a
        `PyDataset` or generator, is missing.
        """
        form = self.modality_inputs.form()
        x = self.modality_inputs.with_absent(x)
        # `fit` has checked what it hands over after every epoch.
        if not kwargs.get(upstream.CACHED_EVALUATION):
            validation.check_compiled(self)
            validation.check_run(
                "evaluate",
                batch_size=batch_size,
                steps=steps,
                verbose=verbose,
                **kwargs,
            )
            _own_callbacks.callback_list(kwargs.get("callbacks"))
            pipelines.check_beside(
                x, y=y, sample_weight=sample_weight, batch_size=batch_size
            )
            rows = steps and steps * (batch_size or 32)
            self.modality_inputs.check(
                x,
                y,
                labelled=True,
                fills=True,
                rows=rows,
                sample_weight=sample_weight,
            )
            check_adapted(self, trains=False)
            x = self.modality_inputs.watched(
                x, form, labelled=True, trains=False, fills=True
            )
            self._build_ahead(x)
        self.batch_watch.reset(training=False)
        with self._running(form):
            scores = super().evaluate(
                x, y, batch_size, verbose, sample_weight, steps, *args, **kwargs
            )
        self.batch_watch.stop_if_wrong(training=False)
        return scores

    @reads_tables
    def predict(
        self,
        x: DataSource,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Predict as `keras.Model.predict` does, after checking the data.

        In-memory data are checked completely, a pipeline by its first batch.
        A modality whose key is not in a dict of arrays, or in the batches of
        a `PyDataset` or generator, is missing, as `modality_mask` in the
        outputs says; so is, in a later batch, one with
        NaN, infinite or huge values, which is refused without a mask among
        the inputs.
        """
        # A table that shuffles its rows answers in their own order.
        ordered = getattr(x, "in_order", None)
        x = ordered() if callable(ordered) else x
        x = self.modality_inputs.with_absent(x)
        validation.check_run(
            "predict",
            batch_size=batch_size,
            steps=steps,
            verbose=verbose,
            **kwargs,
        )
        _own_callbacks.callback_list(kwargs.get("callbacks"))
        pipelines.check_beside(x, batch_size=batch_size)
        rows = steps and steps * (batch_size or 32)
        self.modality_inputs.check(x, fills=True, rows=rows)
        check_adapted(self, trains=False)
        form = self.modality_inputs.form()
        watched = self.modality_inputs.watched(
            x, form, labelled=False, trains=False, fills=True
        )
        with self._running(form):
            outputs = super().predict(
                watched, batch_size, verbose, steps, *args, **kwargs
            )
        if pipelines.is_pipeline(x):
            self.modality_inputs.check_predictions(x, outputs)
        validation.warn_of_broken_predictions(outputs)
        return outputs

    @reads_tables
    def train_on_batch(
        self,
        x: Modalities,
        y: Labels = None,
        sample_weight: Tensor = None,
        class_weight: dict | None = None,
        **kwargs: Any,
    ) -> Any:
        validation.check_compiled(self)
        validation.check_run("train_on_batch", **kwargs)
        self.modality_inputs.check_structure(x)
        self.modality_inputs.check(
            x,
            y,
            labelled=True,
            trains=True,
            sample_weight=sample_weight,
            class_weight=class_weight,
        )
        self.modality_inputs.check_present(x, sample_weight)
        check_adapted(self, trains=True)
        check_optimizer_is_own(self)
        self.modality_inputs.ranges.keep()
        self.pixel_units.keep()
        with self._running():
            return super().train_on_batch(
                x, y, sample_weight, class_weight, **kwargs
            )

    @reads_tables
    def test_on_batch(
        self,
        x: Modalities,
        y: Labels = None,
        sample_weight: Tensor = None,
        **kwargs: Any,
    ) -> Any:
        validation.check_compiled(self)
        validation.check_run("test_on_batch", **kwargs)
        x = self.modality_inputs.with_absent(x)
        self.modality_inputs.check_structure(x)
        self.modality_inputs.check(
            x, y, labelled=True, sample_weight=sample_weight
        )
        check_adapted(self, trains=False)
        with self._running():
            return super().test_on_batch(x, y, sample_weight, **kwargs)

    @reads_tables
    def predict_on_batch(self, x: Modalities) -> Any:
        x = self.modality_inputs.with_absent(x)
        self.modality_inputs.check_structure(x)
        self.modality_inputs.check(x)
        check_adapted(self, trains=False)
        with self._running():
            return super().predict_on_batch(x)

    def _look_at(
        self,
        x: DataSource,
        y: Labels,
        sample_weight: Tensor,
        class_weight: dict | None,
    ) -> None:
        """Learn from all training data what has to be known before a step."""
        _class_names.take(self, x)
        self.modality_inputs.ranges.keep()
        self.pixel_units.keep()
        kept = sample_weight
        if class_weight and isinstance(x, Mapping):
            numbers = ops.convert_to_numpy(class_numbers(y, self.num_classes))
            kept = counted(numbers, sample_weight, class_weight)
        note_informative(self, x, kept)
        adapt_quality(self, x, y, sample_weight, class_weight)
        adapt_scaling(self, x, y, sample_weight, class_weight)

    def _build_training(self, x: DataSource) -> None:
        """Build what a training needs beside the model's own weights."""
        self._build_optimizer()
        self._build_ahead(x)

    def _build_ahead(self, x: DataSource) -> None:
        """Build what Keras would else draw a batch from workers for."""
        batch = pipelines.first_batch(x) if pipelines.has_workers(x) else None
        if batch is not None:
            upstream.build_state(self, batch)

    def _build_optimizer(self) -> None:
        """Make the optimizer's variables, if the model's are known."""
        check_optimizer_is_own(self)
        optimizer = self.optimizer
        if self.built and optimizer is not None and not optimizer.built:
            with backend.variable_scope(self):
                optimizer.build(self.trainable_variables)

    @contextlib.contextmanager
    def _running(self, form: BatchForm | None = None) -> Iterator[None]:
        """Run steps, which count what is wrong with the values of a batch."""
        self._runs += 1
        try:
            with (
                backend.kept_state(self),
                form.told() if form else contextlib.nullcontext(),
            ):
                yield
        finally:
            self._runs -= 1

    def __call__(self, inputs: Modalities, *args: Any, **kwargs: Any) -> Any:
        # From here an error is one sentence, from `call` it has Keras' lines.
        self.modality_inputs.check_structure(inputs)
        if not self._runs:
            self.modality_inputs.tokens.check_known(inputs)
        return super().__call__(inputs, *args, **kwargs)
