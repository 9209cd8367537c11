import numpy as np
import pytest

from keras_mmrel.corruptions import MissingModality

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def make_inputs(n=50):
    return {
        "a": np.ones((n, 3), "float32"),
        "b": np.ones((n, 2, 2), "float32"),
    }


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_exact_fraction_loses_one_modality_and_the_mask_says_which(fraction):
    missing = MissingModality(fraction)
    corrupted = missing(make_inputs(), seed=1)
    lost = np.stack(
        [(corrupted[k].reshape(50, -1) == 0).all(axis=1) for k in "ab"], axis=1
    )
    assert lost.sum() == round(fraction * 50)
    assert lost.sum(axis=1).max() == 1
    np.testing.assert_array_equal(corrupted[MASK], 1 - lost)
    assert corrupted[MASK].dtype == "float32"
    assert list(corrupted) == ["a", "b", MASK]


def test_unannounced_loss_has_no_mask():
    corrupted = MissingModality(1.0, target="a", announce=False)(make_inputs())
    assert list(corrupted) == ["a", "b"]
    assert (corrupted["a"] == 0).all() and (corrupted["b"] == 1).all()


@pytest.mark.parametrize("announce", [True, False])
def test_mask_of_the_inputs_is_kept_and_added_to(announce):
    inputs = make_inputs(4)
    inputs[MASK] = np.array([[1, 1], [0, 1], [1, 0], [0, 0]], "int32")
    missing = MissingModality(1.0, target="a", announce=announce)
    corrupted = missing(inputs)
    expected = inputs[MASK].copy()
    if announce:
        expected[:, 0] = 0
    np.testing.assert_array_equal(corrupted[MASK], expected)
    assert corrupted[MASK].dtype == "int32"
    np.testing.assert_array_equal(corrupted["a"][:, 0], [0, 1, 0, 1])


def test_the_fraction_counts_only_samples_that_have_the_modality():
    inputs = make_inputs(10)
    inputs[MASK] = np.ones((10, 2))
    inputs[MASK][:6, 0] = 0
    hits = MissingModality(0.5, target="a").corrupted(inputs)
    assert hits[6:, 0].sum() == 2 and hits.sum() == 2


def test_announce_that_is_no_bool_is_refused():
    with pytest.raises(ValueError, match="`announce` must be True or False"):
        MissingModality(0.5, announce="yes")
