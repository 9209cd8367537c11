import numpy as np
import pytest

from keras_mmrel.corruptions import Brightness
from keras_mmrel.corruptions import JPEGCompression

pytestmark = pytest.mark.one_backend
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), "uint8")


@pytest.mark.parametrize("high", [1, 255.0])
@pytest.mark.parametrize("sign, direction", [(1, "brighter"), (-1, "darker")])
def test_a_share_of_white_is_added_and_cut_off(high, sign, direction):
    image = PIXELS * (high / 255)
    noise = Brightness(0.3, "image", direction=direction, high=high)
    result = noise({"image": image})["image"]
    expected = np.clip(PIXELS / 255 + sign * 0.3, 0, 1) * high
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_random_direction_is_one_for_each_sample():
    image = np.full((200, 4, 4, 3), 0.5)
    result = Brightness(0.25, "image")({"image": image})["image"]
    assert set(np.unique(result)) == {0.25, 0.75}
    assert (result == result[:, :1, :1, :1]).all()
    assert 0.35 < (result == 0.75).mean() < 0.65


@pytest.mark.parametrize("cls", [Brightness, JPEGCompression])
@pytest.mark.parametrize(
    "high, image",
    [
        (1.0, PIXELS),
        (1.0, PIXELS / 128 - 1),
        (1.0, PIXELS / 255 / 255),
        (255, PIXELS / 255),
        (255, PIXELS * 2.0),
    ],
)
def test_pixels_of_another_scale_are_refused(cls, high, image):
    noise = cls(0.5, "image", high=high)
    for call in (noise, noise.corrupted):
        with pytest.raises(
            ValueError, match=f"`high` .*'image'.*Received: high={high!r} for"
        ):
            call({"image": image})


@pytest.mark.parametrize("cls", [Brightness, JPEGCompression])
def test_black_pictures_and_missing_ones_tell_no_scale(cls):
    inputs = {
        "image": np.concatenate([PIXELS[:3] * 0.0, PIXELS[:3] * np.nan]),
        "modality_mask": np.repeat([[1.0], [0.0]], 3, axis=0),
    }
    result = cls(0.5, "image", high=255)(inputs)["image"]
    assert np.isfinite(result[:3]).all() and np.isnan(result[3:]).all()
