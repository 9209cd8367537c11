import keras
import numpy as np
import pytest

from keras_mmrel.corruptions import Blur

pytestmark = pytest.mark.one_backend


def point(shape=(1, 41, 31, 1)):
    image = np.zeros(shape)
    image[..., shape[-3] // 2, shape[-2] // 2, :] = 1
    return {"image": image}


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_sigma_is_the_deviation_of_a_point_in_pixels(sigma):
    spread = Blur(sigma, "image")(point())["image"][0, ..., 0]
    np.testing.assert_allclose(spread.sum(), 1)
    for axis, size in ((0, 41), (1, 31)):
        places = np.arange(size) - size // 2
        profile = spread.sum(axis=1 - axis)
        deviation = np.sqrt((profile * places**2).sum())
        np.testing.assert_allclose(deviation, sigma, rtol=0.02)
        np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)


def test_even_pictures_stay_even_to_the_border():
    for sigma in (0.7, 30.0):
        image = np.full((2, 9, 7, 3), 0.25)
        blurred = Blur(sigma, "image")({"image": image})["image"]
        np.testing.assert_allclose(blurred, 0.25)


@pytest.mark.parametrize("scale, shift", [(255.0, 0.0), (3.0, -1.0)])
def test_every_scale_of_the_pixels_is_blurred_alike(scale, shift):
    image = np.random.default_rng(0).random((3, 8, 8, 3))
    blurred = Blur(1.0, "image")({"image": image})["image"]
    other = Blur(1.0, "image")({"image": image * scale + shift})["image"]
    np.testing.assert_allclose(other, blurred * scale + shift)


def test_frames_of_video_are_blurred_one_by_one():
    video = np.random.default_rng(0).random((2, 4, 8, 6, 3))
    blurred = Blur(1.5, "a")({"a": video})["a"]
    for frame in range(4):
        image = Blur(1.5, "a")({"a": video[:, frame]})["a"]
        np.testing.assert_allclose(blurred[:, frame], image)


def test_channels_may_come_first(request):
    image = np.random.default_rng(0).random((2, 9, 7, 3))
    expected = Blur(1.0, "image")({"image": image})["image"]
    former = keras.config.image_data_format()
    request.addfinalizer(lambda: keras.config.set_image_data_format(former))
    keras.config.set_image_data_format("channels_first")
    turned = Blur(1.0, "image")({"image": np.moveaxis(image, 3, 1)})["image"]
    np.testing.assert_allclose(np.moveaxis(turned, 1, 3), expected)


def test_blur_beside_nothing_is_next_to_none():
    image = np.random.default_rng(0).random((1, 8, 8, 1))
    for sigma in (5e-324, 0.05):
        blurred = Blur(sigma, "image")({"image": image})["image"]
        np.testing.assert_allclose(blurred, image)


@pytest.mark.parametrize("shape", [(64,), (8, 8), (8, 8, 5), (2, 2, 8, 8, 1)])
def test_modality_of_another_shape_is_left_alone_and_refused_by_name(shape):
    inputs = {**point(), "other": np.zeros((1, *shape))}
    refused = pytest.raises(
        ValueError, match="`target` .*images.*or video.*'other'"
    )
    for target in ("other", ["image", "other"]):
        with refused:
            Blur(1.0, target)(inputs)
    for target in ("all", "one", "image"):
        blur = Blur(1.0, target)
        assert blur.applies_to(inputs) == ["image"]
        assert blur.corrupted(inputs).tolist() == [[True, False]]
        np.testing.assert_array_equal(blur(inputs)["other"], inputs["other"])
    with refused:
        Blur(1.0)({"other": inputs["other"]})
