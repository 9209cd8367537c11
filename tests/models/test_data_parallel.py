"""Two devices train a model as one device does, statistics included."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from tests.data_parallel import train_on_one
from tests.helpers import everywhere
from tests.models import _parallel_worker

EXACT = (
    "CAL",
    "CAL with a bottleneck and no noise",
    "AIM without losses",
    "MICINet without chance",
)
# With the larger part of what is reduced.
CHOSEN = (
    "CAL with a bottleneck and no noise",
    "AIM without losses",
    "MICINet for one step",
)

WORKER = _parallel_worker

# JAX sees all devices' data as one array; nothing is reduced by us there.
pytestmark = pytest.mark.slow_on("jax")


@functools.cache
def one_device(case, **kwargs):
    return train_on_one(_parallel_worker, case, **kwargs)


@pytest.mark.parametrize("case", everywhere(EXACT, CHOSEN[:2]))
def test_two_devices_train_the_weights_and_statistics_of_one(replicas, case):
    for values in replicas:
        for value, one in zip(values, one_device(case), strict=True):
            np.testing.assert_allclose(value, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", everywhere(_parallel_worker.CASES, CHOSEN))
def test_the_replicas_stay_equal(replicas, case):
    first, second = replicas
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(a, b, f"variable {index}")
        assert np.isfinite(a).all()


@pytest.mark.parametrize("case", ["MICINet for one step"])
def test_two_devices_estimate_what_one_does(replicas, case):
    """Where chance decides about the gradients, after one step."""
    model, _ = _parallel_worker.run(case)
    estimated = [id(v) for v in _parallel_worker.estimates(model)]
    assert set(estimated) <= {id(v) for v in model.variables}
    for variable, value in zip(model.variables, replicas[0], strict=True):
        if id(variable) in estimated:
            np.testing.assert_allclose(
                value, ops.convert_to_numpy(variable), rtol=1e-5, atol=1e-5
            )


@pytest.mark.slow_on("tensorflow")
@pytest.mark.parametrize("case", CHOSEN)
def test_the_estimates_of_half_a_batch_would_differ(case):
    """A negative control: the tests above are not trivial."""
    jax = keras.config.backend() == "jax"
    first = (*range(6), *range(12, 18))
    half, _ = _parallel_worker.run(case, first, 6, compiled=jax)
    estimated = [id(v) for v in _parallel_worker.estimates(half)]
    assert set(estimated) <= {id(v) for v in half.variables}
    for variable, one in zip(half.variables, one_device(case), strict=True):
        if id(variable) in estimated:
            value = ops.convert_to_numpy(variable)
            assert np.abs(value - one).max() > 1e-4, variable.path
