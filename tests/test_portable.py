import numpy as np
from keras import ops

from keras_mmrel.layers._first_largest import first_largest
from keras_mmrel.portable import inverse
from keras_mmrel.portable import portable_operations
from keras_mmrel.portable import solve


def test_the_first_of_the_largest_is_marked():
    values = np.array(
        [[1.0, 3.0, 3.0, 2.0], [-5.0, -5.0, -7.0, -5.0], [0.0, -0.0, 1.0, 1.0]],
        "float32",
    )
    found = ops.convert_to_numpy(first_largest(ops.convert_to_tensor(values)))
    np.testing.assert_array_equal(found, np.eye(4)[values.argmax(axis=1)])


def test_sums_and_products_invert_as_lapack_does():
    rng = np.random.default_rng(0)
    factors = 10.0 * rng.normal(size=(5, 3, 16, 40))
    a = factors @ np.swapaxes(factors, 2, 3) + np.eye(16)
    b = rng.normal(size=(5, 3, 16))
    expected = np.linalg.inv(a)
    a, b = (ops.convert_to_tensor(v.astype("float32")) for v in (a, b))
    with portable_operations():
        swept, solved = inverse(a), solve(a, b)
    for found in (swept, inverse(a)):
        error = np.abs(ops.convert_to_numpy(found) - expected).max()
        assert error < 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(
        ops.convert_to_numpy(solved),
        ops.convert_to_numpy(solve(a, b)),
        atol=1e-6,
    )
    assert not np.array_equal(ops.convert_to_numpy(inverse(a)), swept)
