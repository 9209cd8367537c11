"""A model of one backend is used, and trained on, by another.

`_backend_worker` says what is compared; it is a process of its own for each
backend.
"""

import json
import os
import subprocess
import sys

import keras
import pytest

import keras_mmrel
from tests.helpers import SHAPES
from tests.models import _backend_worker as worker

LIMITS = {
    "predicted": 1e-4,
    "state": 0.0,
    "jit": 0,
    "loss": 0.0,
    "steps": 0,
    "later": 1e-4,
}
BACKENDS = ("jax", "tensorflow", "torch")


def run(backend, *arguments):
    """Output of the worker."""
    done = subprocess.run(
        [sys.executable, "-m", worker.__name__, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        # What hangs is stopped: all models together take a few minutes.
        timeout=1800,
    )
    return done.stdout


def check(differences):
    wrong = {
        f"{file} {name}": value
        for file, found in differences.items()
        for name, value in found.items()
        if not value <= LIMITS[name]
    }
    assert differences and wrong == {}


@pytest.mark.one_backend
def test_pytorch_goes_on_where_jax_has_stopped(tmp_path):
    run("jax", "save", tmp_path, "ConcatFusion")
    path = tmp_path / "jax-ConcatFusion.keras"
    check({path.stem: worker.load(path)})


@pytest.mark.slow
@pytest.mark.one_backend
def test_all_pairs_of_backends_go_on_with_each_other(tmp_path):
    names = [*worker.MODELS, "Decision"]
    for backend in BACKENDS:
        run(backend, "save", tmp_path, *names)
    for backend in BACKENDS:
        found = json.loads(
            run(backend, "load", tmp_path, *BACKENDS).splitlines()[-1]
        )
        assert len(found) == 3 * len(names)
        check(found)


def test_a_file_says_nothing_of_the_backend(tmp_path):
    model = keras_mmrel.ConcatFusion(SHAPES, 3)
    for given, stored in (({}, "auto"), ({"jit_compile": False}, False)):
        model.compile(**given)
        config = model.get_compile_config()
        assert config["jit_compile"] == stored
        assert config["optimizer"]["module"] == "keras.optimizers"
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["jit_compile"] is False
    assert not loaded.jit_compile
