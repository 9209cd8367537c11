import keras


class EpochRecord(keras.callbacks.Callback):
    """Open a model's epochs and log what its method reports of each.

    Every `fit` of the library adds it by itself, ahead of all other
    callbacks: what `model.epoch_logs()` returns is in the logs that
    `History`, `TensorBoard` and `CSVLogger` get.
    """

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.model.begin_epoch(epoch, self.params.get("epochs") or 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs.update(self.model.epoch_logs())
