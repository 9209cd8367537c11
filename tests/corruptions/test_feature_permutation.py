import numpy as np
import pytest

from keras_mmrel.corruptions import FeaturePermutation

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def numbered(n=40, shape=(3, 4)):
    """Every value tells its sample and its feature."""
    return np.arange(n * np.prod(shape), dtype="float64").reshape(n, *shape)


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_marginals_are_kept_and_every_value_of_the_chosen_moves(severity):
    x = {"a": numbered(), "b": numbered(shape=(6,))}
    permutation = FeaturePermutation(severity, "one")
    result = permutation(x, seed=3)
    corrupted = permutation.corrupted(x, seed=3)
    assert corrupted.any(axis=1).sum() == round(40 * severity)
    assert (corrupted.sum(axis=1) <= 1).all()
    for column, name in enumerate(x):
        rows = corrupted[:, column]
        np.testing.assert_array_equal(
            np.sort(result[name][rows], axis=0), x[name][rows]
        )
        assert (result[name][rows] != x[name][rows]).all()
        np.testing.assert_array_equal(result[name][~rows], x[name][~rows])


def test_dependence_between_features_is_destroyed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 1)) + 0.1 * rng.normal(size=(2000, 4))
    result = FeaturePermutation(1.0, "a")({"a": x})["a"]
    off = ~np.eye(4, dtype=bool)
    assert np.corrcoef(x.T)[off].min() > 0.95
    assert np.abs(np.corrcoef(result.T)[off]).max() < 0.1


def test_missing_samples_take_no_part():
    x = numbered()
    x[::2] = np.nan
    mask = (np.arange(40) % 2)[:, None]
    result = FeaturePermutation(1.0, "a")({"a": x, MASK: mask})["a"]
    np.testing.assert_array_equal(result[::2], x[::2])
    np.testing.assert_array_equal(np.sort(result[1::2], axis=0), x[1::2])


def test_single_corrupted_sample_is_left_alone_and_two_change_places():
    x = {"a": numbered(10)}
    alone = FeaturePermutation(0.1, "a")
    assert not alone.corrupted(x).any()
    np.testing.assert_array_equal(alone(x)["a"], x["a"])
    pair = FeaturePermutation(0.2, "a")
    rows = pair.corrupted(x)[:, 0]
    assert rows.sum() == 2
    np.testing.assert_array_equal(pair(x)["a"][rows], x["a"][rows][::-1])
