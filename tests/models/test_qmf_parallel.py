"""Two devices remember of every sample what one device remembers."""

import functools
import sys

import keras
import numpy as np
import pytest

import keras_mmrel
from tests import data_parallel
from tests.helpers import vectors

WORKER = sys.modules[__name__]
SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)
# The replicas' halves of a batch hold modalities and weights in unequal
# numbers, and ids in no order.
MASK = np.ones((24, 2), "float32")
MASK[[1, 4, 5, 13], 0] = 0
MASK[[6, 22], 1] = 0
IDS = np.random.default_rng(3).permutation(24)
DATA = {**X, "modality_mask": MASK, "sample_id": IDS}
WEIGHT = np.linspace(0.5, 1.5, 24) * (np.arange(24) % 5 > 0)
# PyTorch and TensorFlow rank within a replica, JAX in the whole batch: what
# ranks teach depends on the backend, what is remembered does not.
CASES = {"history": 1e-12, "ranks": 1.0}


def run(case, rows=None, batch_size=12, compiled=True, parallel=None):
    rows = np.arange(24) if rows is None else np.array(rows)
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [keras.Input(shape), keras.layers.Dense(8, "relu")]
        )
        for name, shape in SHAPES.items()
    }
    model_class = keras_mmrel.QMF
    model_class = parallel(model_class) if parallel else model_class
    model = model_class(encoders, 3, rank_weight=CASES[case], history_size=30)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=not compiled)
    model.fit(
        {k: v[rows] for k, v in DATA.items()},
        Y[rows],
        batch_size=batch_size,
        epochs=2,
        sample_weight=WEIGHT[rows],
        shuffle=False,
        verbose=0,
    )
    return model, []


# JAX sees all devices' data as one array; nothing is reduced by us there. On
# TensorFlow test_data_parallel.py trains two devices by the same sums.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")


@functools.cache
def one_device(case):
    return data_parallel.train_on_one(WORKER, case)


@pytest.mark.parametrize("case", ["history"])
def test_two_devices_have_the_weights_and_the_history_of_one(replicas, case):
    for values in replicas:
        for value, one in zip(values, one_device(case), strict=True):
            np.testing.assert_allclose(value, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_replicas_stay_equal(replicas, case):
    first, second = replicas
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(a, b, f"variable {index}")
        assert np.isfinite(a).all()


def test_ranks_teach_something():
    pairs = zip(one_device("ranks"), one_device("history"), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3
