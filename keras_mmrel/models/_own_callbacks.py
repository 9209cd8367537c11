"""What every `fit` of the library does between steps."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.callbacks.training_state import TrainingState
from keras_mmrel.contract import Model
from keras_mmrel.models.clock import Clock
from keras_mmrel.user_warning import warn


def callback_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Return what `fit` was given as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras makes a list of its own, with all that `fit` knows.
        callbacks = callbacks.callbacks
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    listed = keras.tree.flatten(callbacks) if callbacks else []
    wrong = [c for c in listed if not isinstance(c, keras.callbacks.Callback)]
    if wrong:
        raise ValueError(
            "`callbacks` must hold objects of `keras.callbacks.Callback`. "
            f"Received: {wrong[0]!r}"
        )
    return listed


def open_state(
    model: Model,
    callbacks: Sequence[keras.callbacks.Callback],
    epochs: int,
    initial_epoch: int,
) -> int:
    """Return the epoch to begin with: that of a `TrainingState`, if any.

    Raises:
        ValueError: If there is more than one, or its state is another's.
    """
    states = [c for c in callbacks if isinstance(c, TrainingState)]
    if len(states) > 1:
        raise ValueError(
            "`callbacks` must hold one `TrainingState` at most. Received: "
            f"{len(states)}"
        )
    for state in states:
        return state.open(model, epochs, initial_epoch)
    return initial_epoch


def with_own_callbacks(
    model: Model,
    callbacks: Sequence[keras.callbacks.Callback],
    initial_epoch: int,
) -> list[keras.callbacks.Callback]:
    """Return the callbacks of a `fit`, the library's ahead of the user's.

    Args:
        model: The model.
        callbacks: What `fit` was given.
        initial_epoch: The first epoch of this `fit`.
    """
    states = [c for c in callbacks if isinstance(c, TrainingState)]
    others = [c for c in callbacks if not isinstance(c, TrainingState)]
    methods = model.training_callbacks()
    for state in states:
        state.watch([*methods, *others])
    slot = model.modulation_slot
    own = [
        WatchCallback(initial_epoch),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: warn_of_infinity(logs, epoch)
        ),
        ClockCallback(initial_epoch),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: slot.begin_epoch(),
            on_epoch_end=lambda epoch, logs: logs.update(slot.epoch_logs()),
        ),
        *methods,
    ]
    # The state of a training is read before all others begin, and written
    # when all are through with an epoch.
    return [*states, *own, *others]


def warn_of_infinity(logs: dict, epoch: int) -> None:
    """Say that a training has gone wrong, which Keras does not."""
    value = logs.get("loss")
    if value is not None and not np.isfinite(value):
        warn(
            f"The loss of epoch {epoch + 1} must be finite: check the learning "
            "rate, the loss and the scale of the inputs; weights may be lost. "
            f"Received: loss={value}"
        )


class WatchCallback(keras.callbacks.Callback):
    """End an epoch of what no check before it can see with a sentence.

    Args:
        initial_epoch: The first epoch of this `fit`.
    """

    def __init__(self, initial_epoch: int = 0) -> None:
        super().__init__()
        self._initial_epoch = initial_epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.model.batch_watch.reset(training=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.batch_watch.stop_if_wrong(training=True)
        self.model.modality_inputs.check_seen()
        if epoch == self._initial_epoch:
            self._warn_of_one_class()

    def _warn_of_one_class(self) -> None:
        """Say what arrays are refused for."""
        counts = ops.convert_to_numpy(self.model.class_counts)
        if (counts > 0).sum() == 1:
            warn(
                "Training data must hold at least two classes to train a "
                f"classifier. Received: only class {counts.argmax()} in "
                f"{counts.sum():.0f} samples"
            )


class ClockCallback(keras.callbacks.Callback):
    """Plan the training of a model and tell its clock each epoch.

    Args:
        initial_epoch: The first epoch of this `fit`.
    """

    def __init__(self, initial_epoch: int = 0) -> None:
        super().__init__()
        self._initial_epoch = initial_epoch

    @property
    def clock(self) -> Clock:
        return self.model.clock

    def _step(self) -> int:
        return int(ops.convert_to_numpy(self.clock.step))

    def on_train_begin(self, logs: dict | None = None) -> None:
        epochs = (self.params.get("epochs") or 1) - self._initial_epoch
        self._epochs = max(epochs, 1)
        self._start = self._step()
        anew = self._initial_epoch == 0 and not self.clock.fulfilled
        self._open = anew or not self.clock.planned
        if not self._open:
            return
        steps = self.params.get("steps")
        if steps:
            self.clock.plan(steps, self._epochs)
            self._open = False
        elif self._start and not self.clock.planned and self._epochs == 1:
            # One epoch after the other, each a `fit`.
            self.clock.plan(self._start, 1)
        else:
            self.clock.expect_plan()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.clock.epoch.assign(float(epoch))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self._open:
            return
        self._open = False
        left = self._epochs - 1
        # With no epoch to come the next `fit` has to decide.
        if left:
            self.clock.plan(self._step() - self._start, left)
