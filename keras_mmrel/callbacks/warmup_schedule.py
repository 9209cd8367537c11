from typing import Any

import keras
from keras import ops


class WarmupSchedule(keras.callbacks.Callback):
    """Tell a model how many steps of the coming `fit` are its warm-up.

    The compiled step cannot read a Python attribute that changes, so the
    number lives in the model's weight `warmup_steps`. It is set once, at the
    first `fit`; a run that is resumed keeps it.

    The warm-up lasts `share` of all steps, but at least two epochs, so that
    statistics see every sample, and at most half of the run. Where the length
    of an epoch is unknown the first epoch counts as the first half of the
    warm-up, and the second follows from it.

    Args:
        share: Float in (0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._fresh = int(ops.convert_to_numpy(self.model.step)) == 0
        self._batches = 0
        steps = self.params.get("steps")
        if self._fresh:
            # Unknown: all of the first epoch belongs to the warm-up.
            self.model.warmup_steps.assign(1e9)
            if steps:
                self._set(steps)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._batches = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._fresh and epoch == 0 and not self.params.get("steps"):
            self._set(self._batches)

    def _set(self, steps: int) -> None:
        total = steps * (self.params.get("epochs") or 1)
        warmup: Any = max(round(self.share * total), 2 * steps)
        self.model.warmup_steps.assign(max(1, min(warmup, total // 2)))
