import sys

import numpy as np
import pytest

from keras_mmrel.datasets import load_multiview_digits
from keras_mmrel.datasets._digit_views import fourier
from keras_mmrel.datasets._digit_views import gradient
from keras_mmrel.datasets._digit_views import moments
from keras_mmrel.datasets._digit_views import profile

WIDTHS = {
    "pixels": 64,
    "profile": 16,
    "fourier": 64,
    "gradient": 54,
    "moments": 10,
}


@pytest.fixture(scope="module")
def everything():
    return load_multiview_digits("all")


def test_default_has_three_views_on_the_stated_split():
    (x_train, y_train), (x_test, y_test) = load_multiview_digits()
    assert list(x_train) == list(x_test) == ["pixels", "profile", "fourier"]
    assert y_train.shape == (1257,) and y_test.shape == (540,)
    assert y_train.dtype == y_test.dtype == "int32"


def test_all_views_have_the_stated_shapes(everything):
    (x_train, _), (x_test, _) = everything
    assert {k: x.shape for k, x in x_train.items()} == {
        k: (1257, width) for k, width in WIDTHS.items()
    }
    assert {k: x.shape for k, x in x_test.items()} == {
        k: (540, width) for k, width in WIDTHS.items()
    }
    for x in (*x_train.values(), *x_test.values()):
        assert x.dtype == "float32" and np.isfinite(x).all()


def test_training_features_span_zero_to_one(everything):
    (x_train, _), (x_test, _) = everything
    for x in x_train.values():
        constant = x.max(axis=0) == 0
        np.testing.assert_allclose(x.min(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(x.max(axis=0)[~constant], 1, atol=1e-6)
    assert max(x.max() for x in x_test.values()) > 1.001
    corner = x_train["pixels"][:, 0], x_test["pixels"][:, 0]
    assert not corner[0].any() and not corner[1].any()


def test_split_is_stratified_fixed_and_shares_no_sample(everything):
    (x_train, y_train), (x_test, y_test) = everything
    shares = [np.bincount(y, minlength=10) / len(y) for y in (y_train, y_test)]
    np.testing.assert_allclose(*shares, atol=2e-3)
    again = load_multiview_digits(["pixels"])
    np.testing.assert_array_equal(again[0][0]["pixels"], x_train["pixels"])
    np.testing.assert_array_equal(again[1][1], y_test)
    train = {row.tobytes() for row in x_train["moments"]}
    assert not any(row.tobytes() in train for row in x_test["moments"])


def test_split_is_the_one_of_this_release(everything):
    (_, y_train), (_, y_test) = everything
    assert y_train[:8].tolist() == [6, 4, 4, 3, 2, 7, 2, 2]
    assert y_test[:8].tolist() == [1, 4, 5, 6, 9, 1, 2, 2]


def test_views_come_in_the_order_asked_for():
    (x_train, _), _ = load_multiview_digits(("moments", "pixels"))
    assert list(x_train) == ["moments", "pixels"]


def test_profile_sums_rows_then_columns():
    image = np.arange(64.0).reshape(1, 8, 8)
    np.testing.assert_array_equal(
        profile(image)[0], [*image[0].sum(axis=1), *image[0].sum(axis=0)]
    )


def test_fourier_ignores_a_cyclic_shift():
    image = np.random.default_rng(0).random((1, 8, 8))
    shifted = np.roll(image, (2, 3), axis=(1, 2))
    np.testing.assert_allclose(fourier(image), fourier(shifted))


@pytest.mark.parametrize(
    ("image", "bin_"),
    [
        (np.tile(np.arange(8.0), (8, 1)), 0),
        (np.tile(np.arange(8.0), (8, 1)).T, 3),
    ],
)
def test_gradient_votes_for_the_orientation_of_a_ramp(image, bin_):
    for ramp in (image, -image):
        votes = gradient(ramp[None]).reshape(3, 3, 6)
        np.testing.assert_allclose(votes.sum(axis=(0, 1))[bin_], 64)
        np.testing.assert_allclose(votes.sum(), 64)
    np.testing.assert_allclose(votes[0, 0, bin_], 9)
    np.testing.assert_allclose(votes[2, 2, bin_], 4)


def test_moments_find_the_centre_and_ignore_place_and_ink():
    image = np.zeros((8, 8))
    image[1:4, 2:4] = 1.0
    image[1, 2] = 3.0
    shifted = np.roll(image, (3, 2), axis=(0, 1))
    first, moved = moments(np.stack([image, shifted]))
    assert first.shape == (10,)
    np.testing.assert_allclose(first[:3], [8, 14 / 8, 19 / 8])
    np.testing.assert_allclose(moved[:3] - first[:3], [0, 3, 2])
    np.testing.assert_allclose(first[3:], moved[3:])


@pytest.mark.parametrize(
    "modalities",
    [(), "pixels", None, 3, ["pixels", "sound"], ["pixels", "pixels"], [[]]],
)
def test_unknown_repeated_or_no_view_is_refused(modalities):
    with pytest.raises(ValueError, match="`modalities` must be 'all' or .*Rec"):
        load_multiview_digits(modalities)


def test_missing_scikit_learn_names_the_extra(monkeypatch):
    for name in ("sklearn", "sklearn.datasets", "sklearn.model_selection"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install keras-mmrel\[data\]"):
        load_multiview_digits()
