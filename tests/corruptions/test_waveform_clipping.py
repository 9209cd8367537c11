import numpy as np
import pytest

from keras_mmrel.corruptions import WaveformClipping

pytestmark = pytest.mark.one_backend


def clips(shape=(2000,)):
    waves = np.random.default_rng(0).normal(size=(5, *shape))
    waves[:, 1200:] = 0
    return {"audio": waves.astype("float32")}


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(2000,), (2000, 2)])
def test_share_of_the_values_stands_at_one_level(share, shape):
    inputs = clips(shape)
    clipped = WaveformClipping(share, "audio")(inputs)["audio"]
    for before, after in zip(inputs["audio"], clipped, strict=True):
        size = np.abs(after[:1200])
        hit = before != after
        assert hit.sum() == round(share * size.size)
        np.testing.assert_array_equal(np.abs(after[hit]), size.max())
        np.testing.assert_array_equal(np.sign(after[hit]), np.sign(before[hit]))


def test_all_of_it_leaves_silence_and_silence_is_taken():
    inputs = clips()
    inputs["audio"][0] = 0
    assert not WaveformClipping(1.0, "audio")(inputs)["audio"].any()
    half = WaveformClipping(0.5, "audio")(inputs)["audio"]
    assert not half[0].any() and half[1:].any(axis=1).all()


def test_equal_values_are_cut_off_together_or_not_at_all():
    wave = np.tile([1.0, 2.0, 2.0, 2.0], 300)[None]
    inputs = {"audio": wave}
    few = WaveformClipping(0.5, "audio")(inputs)["audio"]
    np.testing.assert_array_equal(few, wave)
    all_of_them = WaveformClipping(0.75, "audio")(inputs)["audio"]
    np.testing.assert_array_equal(all_of_them, np.ones_like(wave))


def test_louder_clips_are_cut_off_at_a_higher_level():
    inputs = clips()
    louder = {"audio": inputs["audio"] * 4}
    clipping = WaveformClipping(0.2, "audio")
    np.testing.assert_allclose(
        clipping(louder)["audio"], 4 * clipping(inputs)["audio"]
    )
