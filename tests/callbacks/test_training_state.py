"""A training that is stopped anywhere ends as one that is not."""

import keras
import numpy as np
import pytest

from keras_mmrel.callbacks import TrainingState
from tests.callbacks import resumed_models
from tests.callbacks.resumed_models import everything
from tests.callbacks.resumed_models import train

EPOCHS = 5
STEPS = resumed_models.SAMPLES // resumed_models.BATCH


class Stop(keras.callbacks.Callback):
    """End the process, as far as the training can tell, after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def assert_same(actual, expected):
    model, history = actual
    whole, whole_history = expected
    assert history.epoch == whole_history.epoch
    assert history.history.keys() == whole_history.history.keys()
    for key, values in whole_history.history.items():
        np.testing.assert_array_equal(history.history[key], values, key)
    for value, other in zip(everything(model), everything(whole), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("name", resumed_models.MODELS)
def test_every_model_goes_on_with_the_same_numbers(name, tmp_path):
    keras.utils.set_random_seed(7)
    expected = train(name, EPOCHS, [TrainingState(tmp_path / "whole")])
    # Twice, so that what was restored is saved and restored again.
    stops = np.random.default_rng(len(name)).integers(
        (STEPS, STEPS), (2 * STEPS, 2 * STEPS)
    )
    keras.utils.set_random_seed(7)
    for steps in stops.tolist():
        with pytest.raises(KeyboardInterrupt):
            train(name, EPOCHS, [TrainingState(tmp_path / "a"), Stop(steps)])
        # Another process draws other numbers.
        keras.utils.set_random_seed(8 + steps)
    actual = train(name, EPOCHS, [TrainingState(tmp_path / "a")])
    assert_same(actual, expected)
