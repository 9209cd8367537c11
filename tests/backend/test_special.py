import numpy as np
import scipy.special
from keras import ops

from keras_mmrel import backend


def test_lgamma_and_digamma_agree_with_scipy():
    x = np.array([0.1, 0.5, 1.0, 2.5, 30.0], "float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(backend.lgamma(ops.convert_to_tensor(x))),
        scipy.special.gammaln(x),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(backend.digamma(ops.convert_to_tensor(x))),
        scipy.special.digamma(x),
        rtol=1e-5,
    )


def test_all_reduce_sum_on_one_replica_is_the_identity():
    x = ops.convert_to_tensor(np.arange(3.0, dtype="float32"))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(backend.all_reduce_sum(x)), [0, 1, 2]
    )


def test_all_reduce_max_on_one_replica_is_the_identity():
    x = ops.convert_to_tensor(np.arange(3.0, dtype="float32"))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(backend.all_reduce_max(x)), [0, 1, 2]
    )
