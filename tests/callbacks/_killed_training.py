"""Trains models one after the other, as a script that is killed does.

`python -m tests.callbacks._killed_training FOLDER EPOCHS NAME...` writes the
final numbers of each model to `FOLDER/NAME.npz`.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from keras_mmrel.callbacks import TrainingState
from tests.callbacks.resumed_models import everything
from tests.callbacks.resumed_models import train


class Beat(keras.callbacks.Callback):
    """Say that a step was made, so that a kill finds a training."""

    def on_train_batch_end(self, batch, logs=None):
        print("step", flush=True)


def main(folder, epochs, names):
    for name in names:
        path = folder / f"{name}.npz"
        if path.exists():
            continue
        keras.utils.set_random_seed(7)
        extra = [TrainingState(folder / name), Beat()]
        model, history = train(name, epochs, extra, patience=epochs)
        values = {str(i): v for i, v in enumerate(everything(model))}
        with open(folder / "unfinished.npz", "wb") as file:
            np.savez(file, loss=history.history["loss"], **values)
        (folder / "unfinished.npz").replace(path)
        print("done", name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
