from typing import Any

import keras
from keras import ops

UNKNOWN = 1e9


class WarmupSchedule(keras.callbacks.Callback):
    """Tell a model how many steps of the coming `fit` are its warm-up.

    The compiled step cannot read a Python attribute that changes, so the
    number lives in the model's weight `warmup_steps`. It is set at the first
    `fit`; a run that is resumed keeps it, and one that was left before the
    length of its epochs was known gets a new one.

    The warm-up lasts `share` of all steps, but at least two epochs, so that
    statistics see every sample, and at most half of the run. Where the length
    of an epoch is unknown all of the first epoch belongs to the first half of
    the warm-up, and the second half is at least half an epoch.

    Args:
        share: Float in (0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._start = int(ops.convert_to_numpy(self.model.step))
        warmup = float(ops.convert_to_numpy(self.model.warmup_steps))
        self._open = self._start == 0 or warmup >= UNKNOWN
        self._batches = 0
        if self._open:
            self.model.warmup_steps.assign(UNKNOWN)
            if self.params.get("steps"):
                self._set(self.params["steps"], 0)
            elif self._start and (self.params.get("epochs") or 1) == 1:
                # One epoch after the other, each a `fit`.
                self._set(self._start, 0)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._batches = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._open and not self.params.get("steps"):
            # With no epoch to come the next `fit` has to decide.
            if epoch + 1 < (self.params.get("epochs") or 1):
                self._set(self._batches, self._batches)
            self._open = False

    def _set(self, steps: int, done: int) -> None:
        """Set the length of the warm-up.

        Args:
            steps: Steps of an epoch.
            done: Steps of this `fit` that have been made.
        """
        total = steps * (self.params.get("epochs") or 1)
        warmup: Any = max(round(self.share * total), 2 * steps)
        warmup = max(1, min(warmup, total // 2))
        made = self._start + done
        if made:
            # The second half starts now at the latest.
            warmup = max(warmup, made + max(1, steps // 2))
        self.model.warmup_steps.assign(warmup)
