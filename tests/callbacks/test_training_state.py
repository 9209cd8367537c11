"""A training that is stopped anywhere ends as one that is not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mmrel.callbacks import TrainingState
from tests.callbacks import _killed_training
from tests.callbacks import resumed_models
from tests.callbacks.resumed_models import Stop
from tests.callbacks.resumed_models import everything
from tests.callbacks.resumed_models import train
from tests.helpers import everywhere

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 5
STEPS = resumed_models.SAMPLES // resumed_models.BATCH


def assert_same(actual, expected):
    model, history = actual
    whole, whole_history = expected
    assert history.epoch == whole_history.epoch
    assert history.history.keys() == whole_history.history.keys()
    for key, values in whole_history.history.items():
        np.testing.assert_array_equal(history.history[key], values, key)
    for value, other in zip(everything(model), everything(whole), strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.slow_on("tensorflow")
@pytest.mark.parametrize(
    "name",
    everywhere(
        resumed_models.MODELS,
        ["QADMNet prepared"],
    ),
)
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


# -- Killed processes --------------------------------------------------------


def start(folder, epochs, names):
    """Train in a process of its own, which says every step that it made."""
    folder.mkdir(exist_ok=True)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.callbacks._killed_training",
            str(folder),
            str(epochs),
            *names,
        ],
        env={
            **os.environ,
            "KERAS_BACKEND": keras.config.backend(),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process):
    process.communicate(timeout=3600)
    assert process.returncode == 0


def kill_after(process, steps, delay):
    """Kill a training after so many steps; say whether it was alive."""
    for line in process.stdout:
        steps -= line.startswith("step")
        if steps <= 0:
            break
    time.sleep(delay)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def assert_same_results(folder, other, names):
    for name in names:
        with (
            np.load(folder / f"{name}.npz") as actual,
            np.load(other / f"{name}.npz") as expected,
        ):
            assert actual.files == expected.files
            for key in expected.files:
                np.testing.assert_array_equal(
                    actual[key], expected[key], f"{name}: {key}"
                )


# Elsewhere most of it is the start of four processes.
@pytest.mark.slow_on("jax", "tensorflow")
def test_a_killed_process_goes_on_with_the_same_numbers(tmp_path):
    names = ["ConcatFusion"]
    chance = random.Random(1)
    process = start(tmp_path / "killed", 10, names)
    # Steps are short here: most of the time it writes.
    steps = chance.randint(2, 20)
    assert kill_after(process, steps, chance.uniform(0, 0.01))
    finish(start(tmp_path / "killed", 10, names))
    (tmp_path / "whole").mkdir()
    _killed_training.main(tmp_path / "whole", 10, names)
    assert_same_results(tmp_path / "killed", tmp_path / "whole", names)


@pytest.mark.slow
def test_fifty_kills_over_all_models_change_no_bit(tmp_path):
    names, epochs = list(resumed_models.MODELS), 10
    chance = random.Random(0)
    whole = start(tmp_path / "whole", epochs, names)
    finish(whole)
    kills = 0
    process = start(tmp_path / "killed", epochs, names)
    while kills < 50 and not (tmp_path / f"killed/{names[-1]}.npz").exists():
        # Often enough that no backend is done before the last one.
        kills += kill_after(process, chance.randint(1, 9), chance.random() / 30)
        process = start(tmp_path / "killed", epochs, names)
    finish(process)
    assert kills == 50
    assert_same_results(tmp_path / "killed", tmp_path / "whole", names)
