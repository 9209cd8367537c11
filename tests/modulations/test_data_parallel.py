"""Two devices train what one device trains on the same global batches."""

import functools

import numpy as np
import pytest

from tests.data_parallel import train_on_one
from tests.helpers import everywhere
from tests.modulations import _parallel_worker

WORKER = _parallel_worker
CHOSEN = ["AGM on updates", "MMPareto"]
EXACT = [case for case in _parallel_worker.CASES if case != "noise"]


@functools.cache
def one_device(case, **kwargs):
    return train_on_one(_parallel_worker, case, **kwargs)


@pytest.mark.parametrize("case", everywhere(EXACT, CHOSEN))
def test_two_devices_train_the_weights_of_one(replicas, case):
    for values in replicas:
        for value, one in zip(values, one_device(case), strict=True):
            np.testing.assert_allclose(value, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", everywhere(_parallel_worker.CASES, CHOSEN))
def test_the_replicas_stay_equal(replicas, case):
    first, second = replicas
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_the_coefficients_of_half_a_batch_would_differ():
    """A negative control: the tests above are not trivial."""
    first = (*range(6), *range(12, 18))
    half = one_device("OGM on gradients", rows=first, batch_size=6)
    full = one_device("OGM on gradients")
    # The logs of the coefficients of both modalities come last.
    assert np.abs(half[-2] - full[-2]).max() > 1e-3
