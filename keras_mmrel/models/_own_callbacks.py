"""What every `fit` of the library does between steps."""

from typing import Any

import keras
from keras import ops

from keras_mmrel.models.clock import Clock


def with_own_callbacks(model: Any, callbacks: Any) -> Any:
    """Return the callbacks of a `fit`, the library's ahead of the user's."""
    slot = model.modulation_slot
    own = [
        ClockCallback(),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: slot.begin_epoch(),
            on_epoch_end=lambda epoch, logs: logs.update(slot.epoch_logs()),
        ),
        *model.training_callbacks(),
    ]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        for callback in own:
            callback.set_model(model)
            callback.set_params(callbacks.params)
            callbacks.callbacks.append(callback)
        return callbacks
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    return [*own, *(callbacks or [])]


class ClockCallback(keras.callbacks.Callback):
    """Plan the training of a model and tell its clock each epoch."""

    @property
    def clock(self) -> Clock:
        return self.model.clock

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._steps = self.params.get("steps")
        self._epochs = self.params.get("epochs") or 1
        self._batches = 0
        start = int(ops.convert_to_numpy(self.clock.step))
        self._open = start == 0 or not self.clock.planned
        if not self._open:
            return
        self.clock.expect_plan()
        if self._steps:
            self.clock.plan(self._steps, self._epochs)
        elif start and self._epochs == 1:
            # One epoch after the other, each a `fit`.
            self.clock.plan(start, 1)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.clock.epoch.assign(float(epoch))

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._batches = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._open and not self._steps:
            # With no epoch to come the next `fit` has to decide.
            if epoch + 1 < self._epochs:
                self.clock.plan(self._batches, self._epochs)
            self._open = False
