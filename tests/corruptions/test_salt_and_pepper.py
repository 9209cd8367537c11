import numpy as np
import pytest

from keras_mmrel.corruptions import SaltAndPepper

pytestmark = pytest.mark.one_backend


def make_inputs(n=500):
    return {
        "vector": np.full((n, 40), 0.5, "float32"),
        "image": np.full((n, 5, 5, 2), 0.5, "float32"),
    }


def test_exact_density_is_replaced_half_by_salt():
    corrupted = SaltAndPepper(0.2, low=-3.0, high=4.0)(make_inputs())
    for name, size in (("vector", 40), ("image", 50)):
        values = corrupted[name].reshape(500, size)
        assert set(np.unique(values)) == {-3.0, 0.5, 4.0}
        assert ((values != 0.5).sum(axis=1) == 0.2 * size).all()
        salt = (values == 4.0).sum() / (values != 0.5).sum()
        assert abs(salt - 0.5) < 0.03


def test_untouched_modality_stays_exactly_as_it_was():
    corrupted = SaltAndPepper(1.0, target="image")(make_inputs())
    assert (corrupted["vector"] == 0.5).all()
    assert (corrupted["image"] != 0.5).all()


def test_larger_density_replaces_what_the_smaller_one_did():
    few, many = (SaltAndPepper(s)(make_inputs(), 3) for s in (0.1, 0.5))
    replaced = few["image"] != 0.5
    np.testing.assert_array_equal(
        few["image"][replaced], many["image"][replaced]
    )


def test_low_above_high_and_infinite_values_are_refused():
    with pytest.raises(ValueError, match="`low` must be at most `high`"):
        SaltAndPepper(0.1, low=2.0)
    with pytest.raises(ValueError, match="`high` must be a finite number"):
        SaltAndPepper(0.1, high=np.inf)


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_salt_is_white_in_bytes(high):
    images = np.full((4, 5, 5, 3), 128, "uint8")
    noise = SaltAndPepper(0.5, "image", high=high)
    found = noise({"image": images})["image"]
    assert sorted(np.unique(found)) == [0, 128, 255]
