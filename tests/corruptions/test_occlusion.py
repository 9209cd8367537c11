import numpy as np
import pytest

from keras_mmrel.corruptions import Occlusion

pytestmark = pytest.mark.one_backend


def covered(severity, shape=(50, 20, 40, 3), seed=0, **options):
    inputs = {"image": np.ones(shape)}
    result = Occlusion(severity, "image", **options)(inputs, seed)["image"]
    return result != 1


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 1.0])
def test_share_of_the_area_is_covered_by_a_rectangle(share):
    hidden = covered(share)
    tall, wide = hidden.any(axis=2), hidden.any(axis=1)
    np.testing.assert_array_equal(hidden, tall[:, :, None] & wide[:, None, :])
    # Sides are whole pixels.
    sides = np.sqrt(share) * np.array([20, 40])
    assert abs(tall[..., 0].sum(axis=1) - sides[0]).max() <= 0.5
    assert abs(wide[..., 0].sum(axis=1) - sides[1]).max() <= 0.5
    for axis in (tall, wide):
        assert (np.abs(np.diff(axis.astype(int), axis=1)).sum(1) <= 2).all()


def test_place_is_drawn_for_each_sample_and_reaches_every_pixel():
    hidden = covered(0.25, (400, 8, 8, 1))[..., 0]
    assert len({h.tobytes() for h in hidden}) > 10
    assert hidden.mean(axis=0).min() > 0


def test_at_least_one_pixel_is_covered():
    assert (covered(1e-6)[..., 0].sum(axis=(1, 2)) == 1).all()


def test_rectangle_stays_where_it_is_in_video():
    hidden = covered(0.3, (6, 5, 8, 8, 1))
    np.testing.assert_array_equal(
        hidden, np.broadcast_to(hidden[:, :1], hidden.shape)
    )


def test_fill_is_the_value_of_what_is_covered():
    inputs = {"image": np.ones((3, 8, 8, 3), "uint8")}
    result = Occlusion(0.25, "image", fill=127)(inputs)["image"]
    assert set(np.unique(result)) == {1.0, 127.0}
