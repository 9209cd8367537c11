import numpy as np
import pytest

from keras_mmrel.corruptions import ClippedGaussianNoise
from keras_mmrel.corruptions import GaussianNoise

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def features(n=60):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3, 4)) * np.arange(1.0, 5.0)


def test_it_is_gaussian_noise_clipped_to_the_range_of_each_feature():
    x = features()
    # The same stream: classes draw apart.
    noise = ClippedGaussianNoise(1.0)
    stream = noise._rng(3, "values", "a")
    drawn = x + stream.standard_normal(x.shape)
    expected = np.clip(drawn, x.min(axis=0), x.max(axis=0))
    assert 0 < (expected != drawn).mean() < 0.5
    np.testing.assert_array_equal(noise({"a": x}, seed=3)["a"], expected)


@pytest.mark.parametrize("severity", [0.3, 100.0])
def test_given_limits_replace_those_of_the_samples(severity):
    x = features()
    noise = ClippedGaussianNoise(severity, low=-1.0, high=0.5)
    result = noise({"a": x})["a"]
    assert result.min() == -1.0 and result.max() == 0.5
    above = ClippedGaussianNoise(severity, low=-1.0)({"a": x})["a"]
    assert above.min() == -1.0
    assert (above <= x.max(axis=0)).all() and above.max() > 0.5


def test_missing_samples_do_not_set_the_range_and_are_left_alone():
    x = features()
    x[::2] *= 1e6
    x[0] = np.nan
    mask = (np.arange(60) % 2)[:, None]
    result = ClippedGaussianNoise(50.0)({"a": x, MASK: mask})["a"]
    np.testing.assert_array_equal(result[::2], x[::2])
    assert np.abs(result[1::2]).max() <= np.abs(x[1::2]).max()


def test_constant_features_and_a_single_sample_stay_as_they_are():
    x = features()
    x[..., 0] = 7.0
    result = ClippedGaussianNoise(1.0)({"a": x})["a"]
    np.testing.assert_array_equal(result[..., 0], x[..., 0])
    assert (result[..., 1:] != x[..., 1:]).mean() > 0.5
    one = ClippedGaussianNoise(1.0)({"a": x[:1]})["a"]
    np.testing.assert_array_equal(one, x[:1])


def test_feature_fraction_is_that_of_gaussian_noise():
    x = features()
    noise = ClippedGaussianNoise(0.01, feature_fraction=0.25)
    changed = (noise({"a": x})["a"] != x).reshape(60, -1).sum(axis=1)
    assert changed.max() == 3 and changed.mean() > 2.7
    assert isinstance(noise, GaussianNoise)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"low": 2.0, "high": 1.0}, "`low` must be at most `high`"),
        ({"low": "a"}, "`low` must be a finite number of .* or None.*'a'"),
        ({"high": np.inf}, "`high` must be a finite number of .* or None.*inf"),
    ],
)
def test_bad_limits_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ClippedGaussianNoise(1.0, **arguments)
