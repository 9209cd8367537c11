import keras
import numpy as np
import pytest

from keras_mmrel.corruptions import QMFImageNoise
from tests.helpers import json_round_trip

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"
highs = pytest.mark.parametrize("high", [1.0, 255.0])
published = pytest.mark.parametrize("as_published", [False, True])


def grey(value=0.5, n=60, high=1.0, shape=(12, 12, 3)):
    """Images of a single colour, away from black and white by default."""
    return {"rgb": np.full((n, *shape), value * high, "float32")}


def pixels(rng, n=20, high=1.0, shape=(8, 8, 3)):
    """Images whose pixels are whole bytes, on the scale of `high`."""
    values = rng.integers(0, 256, size=(n, *shape))
    return {"rgb": (values * (high / 255)).astype("float32")}


@highs
@pytest.mark.parametrize(
    ("severity", "options", "sigma"),
    [(1.0, {}, 10), (2.5, {}, 25), (5.0, {"deviation": 1.0}, 5)],
)
def test_deviation_times_severity_is_the_deviation_in_units_of_255(
    high, severity, options, sigma
):
    noise = QMFImageNoise(severity, "rgb", high=high, **options)
    difference = noise(grey(high=high))["rgb"] - 0.5 * high
    assert abs(difference.std() * 255 / high / sigma - 1) < 0.02
    assert abs(difference.mean() * 255 / high / sigma) < 0.03


@highs
@published
def test_scale_of_the_pixels_changes_the_scale_of_the_result_only(
    high, as_published
):
    inputs = pixels(np.random.default_rng(0))
    arguments = {"target": "rgb", "as_published": as_published}
    expected = QMFImageNoise(5.0, **arguments)(inputs, 3)["rgb"]
    scaled = {"rgb": inputs["rgb"] * np.float32(high)}
    result = QMFImageNoise(5.0, high=high, **arguments)(scaled, 3)["rgb"]
    atol = 1.01 if as_published else 1e-3
    np.testing.assert_allclose(result / high * 255, expected * 255, atol=atol)
    assert np.mean(np.abs(result / high - expected) > 1e-5) < 1e-3


@highs
def test_corrected_pixels_stay_between_black_and_white(high):
    inputs = pixels(np.random.default_rng(0), high=high)
    corrupted = QMFImageNoise(10.0, "rgb", high=high)(inputs)["rgb"]
    assert corrupted.min() == 0
    assert corrupted.max() == np.float32(high)
    # What is in between is noise added, and nothing else.
    inside = (corrupted > 0) & (corrupted < high)
    assert 0.2 < inside.mean() < 0.8


def test_corrected_black_stays_dark_and_white_stays_bright():
    inputs = {"rgb": np.stack([np.zeros((9, 9, 3)), np.ones((9, 9, 3))])}
    black, white = QMFImageNoise(1.0, "rgb")(inputs)["rgb"]
    assert black.max() < 0.3
    assert 0.7 < white.min()


def test_corrected_noise_differs_between_samples_and_channels():
    noise = QMFImageNoise(1.0, "rgb")(grey())["rgb"] - 0.5
    assert len(np.unique(noise.reshape(60, -1), axis=0)) == 60
    first, second = noise.reshape(60, -1)[:2]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3
    assert not np.array_equal(noise[..., 0], noise[..., 1])


def test_published_pattern_is_one_for_all_samples_and_channels():
    corrupted = QMFImageNoise(1.0, "rgb", as_published=True)(grey())["rgb"]
    np.testing.assert_array_equal(
        corrupted, np.broadcast_to(corrupted[:1, :, :, :1], corrupted.shape)
    )
    assert len(np.unique(corrupted[0, :, :, 0])) > 20


def test_published_pattern_is_grey_with_the_channels_first(request):
    former = keras.config.image_data_format()
    request.addfinalizer(lambda: keras.config.set_image_data_format(former))
    keras.config.set_image_data_format("channels_first")
    noise = QMFImageNoise(1.0, "rgb", as_published=True)
    corrupted = noise(grey(shape=(3, 12, 12)))["rgb"]
    np.testing.assert_array_equal(
        corrupted, np.broadcast_to(corrupted[:1, :1], corrupted.shape)
    )
    assert len(np.unique(corrupted[0, 0])) > 20


@pytest.mark.parametrize("shape", [(30,), (5, 6), (2, 3, 4, 5)])
@published
def test_arrays_of_every_rank_are_taken(shape, as_published):
    inputs = grey(n=7, shape=shape)
    noise = QMFImageNoise(1.0, "rgb", as_published=as_published)
    corrupted = noise(inputs)["rgb"]
    assert corrupted.shape == inputs["rgb"].shape
    # Rank 3 alone is an image with channels: here every value is its own.
    assert len(np.unique(corrupted[0])) > 10


@highs
@pytest.mark.parametrize("severity", [0.3, 5.0, 10.0, 80.0])
def test_published_pixels_overflow_as_a_cast_to_bytes_does(high, severity):
    rng = np.random.default_rng(0)
    inputs = pixels(rng, high=high, n=200, shape=(4, 4, 3))
    noise = QMFImageNoise(severity, "rgb", high=high, as_published=True)
    corrupted = noise(inputs, seed=2)["rgb"]
    # By hand, from the same draws: the pattern has one channel.
    bytes_ = np.rint(inputs["rgb"] * (255 / high)).astype("int64")
    draws = noise._rng(2, "values", "rgb").standard_normal((4, 4, 1))
    image = bytes_ + 10.0 * severity * draws
    image[image > 255] = 255
    expected = image.astype("int64").astype("uint8")
    result = corrupted.astype("float64") * (255 / high)
    np.testing.assert_allclose(result, np.rint(result), atol=1e-3)
    same = np.rint(result) == expected
    # Beside whole numbers: 127.999 is a byte less than 128.
    assert same.mean() > 0.999


def test_published_dark_pixels_turn_bright():
    inputs = grey(0.0)
    wrapped = QMFImageNoise(5.0, "rgb", as_published=True)(inputs)["rgb"]
    assert 0.3 < (wrapped > 0.5).mean() < 0.6
    corrected = QMFImageNoise(5.0, "rgb")(inputs)["rgb"]
    assert (corrected > 0.5).mean() < 0.02


def test_published_white_is_never_passed():
    wrapped = QMFImageNoise(5.0, "rgb", as_published=True)(grey(1.0))["rgb"]
    assert wrapped.max() == 1
    assert 0.4 < (wrapped == 1).mean() < 0.6


@published
def test_only_the_hits_change(as_published):
    rng = np.random.default_rng(0)
    inputs = {
        "rgb": pixels(rng, 80)["rgb"],
        "depth": pixels(rng, 80, shape=(8, 8, 1))["rgb"],
    }
    noise = QMFImageNoise(5.0, as_published=as_published)
    corrupted, hits = noise(inputs, seed=4), noise.corrupted(inputs, seed=4)
    for column, name in enumerate(inputs):
        changed = (corrupted[name] != inputs[name]).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(changed, hits[:, column])
    # Each modality with probability 1/2, independently: both in a quarter.
    assert 0.35 < hits.mean() < 0.65
    assert 0.1 < hits.all(axis=1).mean() < 0.4


@published
def test_missing_modality_is_untouched(as_published):
    inputs = grey(n=40)
    inputs["rgb"][::2] = np.nan
    inputs[MASK] = np.tile([[0.0], [1.0]], (20, 1))
    noise = QMFImageNoise(5.0, "all", as_published=as_published)
    corrupted = noise(inputs)
    assert np.isnan(corrupted["rgb"][::2]).all()
    assert np.isfinite(corrupted["rgb"][1::2]).all()
    assert (corrupted["rgb"][1::2] != 0.5).any()
    np.testing.assert_array_equal(corrupted[MASK], inputs[MASK])


@published
def test_seed_decides_and_severity_zero_changes_nothing(as_published):
    inputs = pixels(np.random.default_rng(0))
    noise = QMFImageNoise(5.0, "rgb", as_published=as_published)
    first, second = noise(inputs, 1)["rgb"], noise(inputs, 1)["rgb"]
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, noise(inputs, 2)["rgb"])
    none = QMFImageNoise(0.0, "rgb", as_published=as_published)
    np.testing.assert_array_equal(none(inputs)["rgb"], inputs["rgb"])


@pytest.mark.parametrize("high", [1, 255])
def test_bytes_stay_bytes_and_double_stays_double(high):
    images = np.full((4, 5, 5, 3), 128, "uint8")
    noise = QMFImageNoise(5.0, "all", high=high)
    corrupted = noise({"bytes": images, "double": images.astype("float64")})
    shift = corrupted["bytes"].astype(int) - 128
    assert 40 < shift.std() < 60
    assert corrupted["bytes"].dtype == "uint8"
    assert corrupted["double"].dtype == "float64"
    assert (corrupted["bytes"] != images).any()
    assert (images == 128).all()


def test_config_round_trip_keeps_the_results():
    noise = QMFImageNoise(5.0, ["rgb"], 0.25, 1.0, 255.0, True)
    restored = json_round_trip(noise)
    assert type(restored) is QMFImageNoise
    assert restored.get_config() == noise.get_config()
    assert eval(repr(noise)).get_config() == noise.get_config()
    inputs = pixels(np.random.default_rng(0), high=255)
    np.testing.assert_array_equal(
        restored(inputs, 5)["rgb"], noise(inputs, 5)["rgb"]
    )


@pytest.mark.parametrize("name", ["deviation", "high"])
@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "10", None, True])
def test_deviation_and_white_must_be_positive_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: "):
        QMFImageNoise(5.0, **{name: value})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"severity": -1.0}, "`severity` must be .*severity=-1.0"),
        ({"severity": "5"}, "`severity` must be .*severity='5'"),
        ({"target": ""}, "`target` must be"),
        ({"probability": 2.0}, r"`probability` .*\[0, 1\]"),
        ({"as_published": 1}, "`as_published` must be True or False"),
    ],
)
def test_other_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        QMFImageNoise(**{"severity": 5.0, **arguments})
