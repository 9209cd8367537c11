"""Arrays from real `.npy` files."""

import numpy as np
import pytest

from keras_mmrel.media import Array
from tests.media.files import cut

pytestmark = pytest.mark.one_backend


def read(path, **options):
    return Array("file", **{"shape": (3, 2), **options}).decode(path, {}, None)


def test_values_are_those_that_were_saved(tmp_path):
    path = tmp_path / "a.npy"
    values = np.arange(6.0).reshape(3, 2)
    for saved in (values, np.asfortranarray(values), values.astype(">i2")):
        np.save(path, saved)
        read_again = read(path)
        assert read_again.dtype == np.float32
        np.testing.assert_array_equal(read_again, values)


def test_another_array_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"shape \(3, 3\), not \(3, 2\)"):
        read(path)
    np.save(path, np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="float64, which is no int32"):
        read(path, dtype="int32")
    np.save(path, np.array([["a"] * 2] * 3))
    with pytest.raises(ValueError, match="which is no float32"):
        read(path)
    # It says that it is of the right shape, and is not.
    np.save(path, np.zeros((3, 2)))
    with pytest.raises(ValueError):
        read(cut(path, tmp_path / "b.npy", 0.9))


def test_no_pickled_object_is_loaded(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([[{}] * 2] * 3, object), allow_pickle=True)
    with pytest.raises(ValueError):
        read(path)
