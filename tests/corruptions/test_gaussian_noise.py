import numpy as np
import pytest

from keras_mmrel.corruptions import GaussianNoise

pytestmark = pytest.mark.one_backend


def make_inputs(n=400):
    rng = np.random.default_rng(0)
    return {
        "vector": rng.normal(size=(n, 50)).astype("float32"),
        "image": rng.normal(size=(n, 6, 6, 3)).astype("float32"),
    }


@pytest.mark.parametrize("severity", [0.2, 5.0])
def test_noise_has_mean_zero_and_the_severity_as_deviation(severity):
    inputs = make_inputs()
    corrupted = GaussianNoise(severity)(inputs)
    for name, clean in inputs.items():
        noise = (corrupted[name] - clean) / severity
        assert abs(noise.mean()) < 0.03
        assert abs(noise.std() - 1) < 0.03
        assert abs((noise**3).mean()) < 0.1
        assert abs((noise**4).mean() - 3) < 0.2


def test_noise_scales_with_the_severity_for_one_seed():
    inputs = make_inputs()
    weak, strong = GaussianNoise(0.5)(inputs, 1), GaussianNoise(1.0)(inputs, 1)
    for name, clean in inputs.items():
        np.testing.assert_allclose(
            2 * (weak[name] - clean), strong[name] - clean, atol=1e-5
        )


@pytest.mark.parametrize(("fraction", "vector"), [(0.3, 15), (0.001, 1)])
def test_exact_share_of_the_features_is_noisy(fraction, vector):
    inputs = make_inputs()
    noise = GaussianNoise(1.0, target="one", feature_fraction=fraction)
    corrupted, hits = noise(inputs, seed=2), noise.corrupted(inputs, seed=2)
    for column, count in enumerate([vector, max(1, round(fraction * 108))]):
        name = list(inputs)[column]
        noisy = (corrupted[name] != inputs[name]).reshape(len(hits), -1)
        np.testing.assert_array_equal(
            noisy.sum(axis=1), count * hits[:, column]
        )
    assert len(np.unique(noisy[hits[:, 1]], axis=0)) > 1


def test_arrays_of_rank_one_are_taken():
    inputs = {"age": np.zeros(9, "float32")}
    assert (GaussianNoise(1.0)(inputs)["age"] != 0).all()
    half = GaussianNoise(1.0, feature_fraction=0.5)(inputs)["age"]
    assert (half != 0).all()


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, np.nan, None])
def test_feature_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"`feature_fraction` .*\(0, 1\]"):
        GaussianNoise(1.0, feature_fraction=fraction)


def test_of_bytes_the_unit_is_white():
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 156, (50, 6, 6, 3), "uint8")
    noise = GaussianNoise(0.1)
    found = noise({"image": pixels}, seed=1)["image"]
    floats = noise({"image": pixels / 255.0}, seed=1)["image"]
    assert found.dtype == "uint8"
    np.testing.assert_array_equal(found, np.clip(np.rint(255 * floats), 0, 255))
    assert abs((found.astype(int) - pixels).std() - 25.5) < 1
