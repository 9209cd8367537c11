import numpy as np
import pytest

from keras_mmrel.corruptions import JPEGCompression

pytestmark = pytest.mark.one_backend


def photographs(n=3, channels=3):
    """A ramp of grey with some grain, as whole bytes."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 32)[:, None, None] * np.ones((32, 24, channels))
    grain = rng.integers(0, 50, (n, 32, 24, 1))
    return (ramp + grain).astype("uint8")


def damage(quality, image):
    jpeg = JPEGCompression.from_quality(quality, "image", high=255)
    result = jpeg({"image": image})["image"]
    return np.abs(result - image.astype("float32")).mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_lower_quality_does_more_damage(channels):
    image = photographs(channels=channels)
    found = [damage(q, image) for q in (100, 95, 75, 30, 5)]
    assert found[0] == 0
    assert found == sorted(found) and found[1] < 8 and found[4] > 10


@pytest.mark.parametrize("shape", [(3, 32, 24, 3), (3, 2, 16, 24, 3)])
def test_scale_of_the_pixels_changes_the_scale_of_the_result_only(shape):
    image = photographs().reshape(shape)
    whole = JPEGCompression(80, "image", high=255)({"image": image})["image"]
    share = JPEGCompression(80, "image")({"image": image / 255})["image"]
    np.testing.assert_allclose(share * 255, whole, atol=1e-4)
    np.testing.assert_allclose(whole, np.rint(whole))


def test_severity_is_what_the_quality_lacks_of_a_hundred():
    jpeg = JPEGCompression.from_quality(30, ["image"], 0.2, high=255)
    assert (jpeg.severity, jpeg.quality, jpeg.high) == (70, 30, 255)
    assert jpeg.target == ["image"] and jpeg.probability == 0.2
    assert JPEGCompression(99).quality == 1


@pytest.mark.parametrize("quality", [0, 101, 50.5, "10", None, True])
def test_quality_that_jpeg_does_not_have_is_refused(quality):
    with pytest.raises(ValueError, match="`quality` must be .*from 1 to 100"):
        JPEGCompression.from_quality(quality)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_jpeg_does_not_have_are_refused(channels):
    image = np.zeros((1, 8, 8, channels))
    with pytest.raises(ValueError, match="1 or 3 channels.*'image'"):
        JPEGCompression(50, "image")({"image": image})
