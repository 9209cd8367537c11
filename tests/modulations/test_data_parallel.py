"""Two devices train what one device trains on the same global batches."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.modulations import _parallel_worker

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Two lists of arrays for every case, one a replica."""
    folder = tmp_path_factory.mktemp("parallel")
    backend = keras.config.backend()
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-m", "tests.modulations._parallel_worker"]
    workers = [
        subprocess.Popen(
            [*command, str(folder), str(rank)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2 if backend == "torch" else 1)
    ]
    try:
        for worker in workers:
            output, _ = worker.communicate(timeout=240)
            assert worker.returncode == 0, output[-3000:]
    finally:
        for worker in workers:
            worker.kill()
    return {
        case: [
            list(np.load(folder / f"{case}.{rank}.npz").values())
            for rank in range(2)
        ]
        for case in _parallel_worker.CASES
    }


@functools.cache
def one_device(case, rows=None, batch_size=12):
    rows = rows and np.array(rows)
    jax = keras.config.backend() == "jax"
    return _parallel_worker.run(case, rows, None, batch_size, compiled=jax)[1]


@pytest.mark.parametrize("case", ["OGM on gradients", "AGM on updates"])
def test_two_devices_train_the_weights_of_one(replicas, case):
    for values in replicas[case]:
        for value, one in zip(values, one_device(case), strict=True):
            np.testing.assert_allclose(value, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", _parallel_worker.CASES)
def test_the_replicas_stay_equal(replicas, case):
    first, second = replicas[case]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_the_coefficients_of_half_a_batch_would_differ():
    """A negative control: the tests above are not trivial."""
    first = (*range(6), *range(12, 18))
    half = one_device("OGM on gradients", first, 6)
    full = one_device("OGM on gradients")
    state = 2 + 4
    assert np.abs(half[-state] - full[-state]).max() > 1e-3
