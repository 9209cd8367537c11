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

    def __init__(self, model):
        self.count = 0
        if keras.config.backend() == "jax":
            import jax

            jax.monitoring.register_event_duration_secs_listener(self._compiled)
        if keras.config.backend() == "tensorflow":
            look = model.batch_watch.look

            def traced(*args):
                # A step's Python runs when it is traced, and not again.
                self.count += 1
                return look(*args)

            model.batch_watch.look = traced

    def _compiled(self, event, duration, **kwargs):
        self.count += event.endswith("backend_compile_duration")


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
    programs = Programs(model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            one_round(model, x, y, Path(folder))
            files = len(os.listdir("/proc/self/fd"))
            rows.append((resident_megabytes(), files, programs.count))
    return np.array(rows)


def test_two_hundred_rounds_leave_no_trace():
    rows = figures(ROUNDS)
    early, late = rows[ROUNDS // 4], rows[-1]
    # Less than 100 kB a round: what an allocator keeps.
    assert late[0] - early[0] < 0.1 * ROUNDS
    assert late[1] == early[1]
    assert late[2] == rows[1][2]


if __name__ == "__main__":
    table = figures(int(sys.argv[1]))
    for index in sorted({0, 1, len(table) // 2, len(table) - 1}):
        print(index + 1, *table[index].round(1))
