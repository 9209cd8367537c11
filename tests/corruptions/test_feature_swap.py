import numpy as np
import pytest

from keras_mmrel.corruptions import FeatureSwap

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def numbered(n=30, shape=(4, 5)):
    """Every value tells its sample and its feature."""
    return np.arange(n * np.prod(shape), dtype="float64").reshape(n, *shape)


@pytest.mark.parametrize("severity", [0.05, 0.3, 1.0])
def test_values_come_from_the_same_feature_of_other_samples(severity):
    x = numbered()
    result = FeatureSwap(severity, "a")({"a": x}, seed=2)["a"]
    np.testing.assert_array_equal(result % 20, x % 20)
    changed = result // 20 != x // 20
    counts = changed.reshape(30, -1).sum(axis=1)
    assert (counts == round(20 * severity)).all()


def test_donors_of_a_sample_are_drawn_for_each_feature_evenly():
    x = numbered(n=5, shape=(4000,))
    result = FeatureSwap(1.0, "a")({"a": x})["a"]
    for sample in range(5):
        donors = np.bincount((result[sample] // 4000).astype(int), minlength=5)
        assert donors[sample] == 0
        others = np.delete(donors, sample)
        np.testing.assert_allclose(others / 4000, 0.25, atol=0.03)


def test_missing_samples_give_nothing_and_get_nothing():
    x = numbered()
    x[::3] = np.nan
    mask = (np.arange(30) % 3 > 0).astype("float32")[:, None]
    swap = FeatureSwap(1.0, "a")
    inputs = {"a": x, MASK: mask}
    result = swap(inputs, seed=1)["a"]
    np.testing.assert_array_equal(result[::3], x[::3])
    kept = result[mask[:, 0] == 1]
    assert np.isfinite(kept).all()
    np.testing.assert_array_equal(swap.corrupted(inputs, 1), mask == 1)
    assert (kept != x[mask[:, 0] == 1]).all()


def test_more_severity_swaps_the_same_features_and_more():
    x = numbered()
    few = FeatureSwap(0.2, "a")({"a": x}, seed=4)["a"]
    many = FeatureSwap(0.6, "a")({"a": x}, seed=4)["a"]
    changed = few != x
    np.testing.assert_array_equal(few[changed], many[changed])
    assert (many != x).sum() == 3 * changed.sum()


@pytest.mark.parametrize("n", [1, 3])
def test_sample_without_another_one_is_left_alone(n):
    x = {"a": numbered(n), MASK: np.eye(n, 1)}
    swap = FeatureSwap(1.0, "a")
    assert not swap.corrupted(x).any()
    np.testing.assert_array_equal(swap(x)["a"], x["a"])
