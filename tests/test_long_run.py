"""Two hundred rounds of everything leave memory, files and programs as is.

`python -m tests.test_long_run ROUNDS` prints the figures of fewer rounds.
"""

import gc
import os
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import evaluation
from tests.helpers import SHAPES
from tests.helpers import vectors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]
ROUNDS = 200


class Programs:
    """How often a program was compiled or traced since it was made."""

    def __init__(self):
        self.compiled = 0
        if keras.config.backend() == "jax":
            import jax

            jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event, duration, **kwargs):
        self.compiled += event.endswith("backend_compile_duration")

    def count(self, model):
        if keras.config.backend() != "tensorflow":
            return self.compiled
        functions = (
            model.train_function,
            model.test_function,
            model.predict_function,
        )
        return sum(f.experimental_get_tracing_count() for f in functions)


def resident_megabytes():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def one_round(model, x, y, folder):
    model.fit(x, y, batch_size=24, epochs=1, verbose=0)
    model.evaluate(x, y, batch_size=24, verbose=0)
    outputs = model.predict(x, batch_size=24, verbose=0)
    model.save(folder / "model.keras")
    loaded = type(model).load(folder / "model.keras")
    np.testing.assert_array_equal(
        loaded.get_weights()[0], model.get_weights()[0]
    )
    report = evaluation.evaluate_robustness(
        model,
        x,
        y,
        [keras_mmrel.corruptions.GaussianNoise(1.0)],
        seeds=1,
        batch_size=24,
        verbose=0,
    )
    report.save(folder / "report", overwrite=True)
    keras.utils.clear_session(free_memory=False)
    return outputs


def figures(rounds):
    """Return megabytes, open files and programs after each round."""
    x, y = vectors()
    model = keras_mmrel.QADMNet(SHAPES, 3)
    model.compile()
    programs = Programs()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            one_round(model, x, y, Path(folder))
            files = len(os.listdir("/proc/self/fd"))
            count = programs.count(model)
            rows.append((resident_megabytes(), files, count))
    return np.array(rows)


def test_two_hundred_rounds_leave_no_trace():
    rows = figures(ROUNDS)
    early, late = rows[ROUNDS // 4], rows[-1]
    # Less than 100 kB a round: what an allocator keeps.
    assert late[0] - early[0] < 0.1 * ROUNDS
    assert late[1] == early[1]
    # What a loaded model compiles for itself is not the model's that trains.
    if keras.config.backend() == "tensorflow":
        assert late[2] == rows[0][2]


if __name__ == "__main__":
    table = figures(int(sys.argv[1]))
    for index in sorted({0, 1, len(table) // 2, len(table) - 1}):
        print(index + 1, *table[index].round(1))
