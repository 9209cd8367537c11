"""The filter bank against torchaudio's copy of Kaldi's."""

import pickle

import keras
import numpy as np
import pytest

from keras_mmrel.media import Audio
from keras_mmrel.media import KaldiFilterBank
from tests.media.test_spectrogram import rising

pytestmark = pytest.mark.one_backend

# torchaudio 2.11, compliance.kaldi.fbank of `rising` without its mean:
# htk_compat, no energy, window "hanning", 12 triangles, dither 0.
TORCHAUDIO = {
    0: [2.1394, 2.532, -3.9988, -12.429, -15.8327, -15.9424, -13.4408],
    13: [-11.6971, -12.6545, -8.2235, 4.6034, 5.2178, -4.6024, -12.6422],
    27: [-12.8651, -15.9424, -15.4804, -13.6676, -9.8923, 5.6194, 6.4127],
}  # fmt: skip


def test_values_are_those_of_torchaudio():
    values = KaldiFilterBank(16_000, 12, 28)(rising())
    assert values.shape == (28, 12) and values.dtype == "float32"
    for frame, expected in TORCHAUDIO.items():
        # Single precision has few digits of what is near its floor.
        np.testing.assert_allclose(values[frame, :7], expected, atol=1e-3)


def test_a_constant_is_silence():
    shifted = KaldiFilterBank(16_000, 12, 28)(rising() + 0.25)
    values = KaldiFilterBank(16_000, 12, 28)(rising())
    np.testing.assert_allclose(shifted, values, atol=0.05)
    silent = KaldiFilterBank(frames=1)(np.full(400, 0.3))
    np.testing.assert_allclose(silent, np.log(np.finfo("float32").eps))


def test_frames_that_lack_are_zeros_before_the_scaling():
    plain = KaldiFilterBank(16_000, 12, 40)(rising())
    scaled = KaldiFilterBank(16_000, 12, 40, mean=-4.0, std=10.0)(rising())
    assert not plain[28:].any() and plain[27].any()
    np.testing.assert_allclose(scaled, (plain + 4) / 10, atol=1e-5)
    cut = KaldiFilterBank(16_000, 12, 20)(rising())
    np.testing.assert_array_equal(cut, plain[:20])


def test_settings_survive_saving_and_processes():
    made = KaldiFilterBank(8000, 40, 98)
    assert pickle.loads(pickle.dumps(made)) == made != KaldiFilterBank()
    audio = Audio("wav", sample_rate=8000, seconds=1.0, transform=made)
    config = keras.saving.serialize_keras_object(audio)
    again = keras.saving.deserialize_keras_object(config)
    assert again.transform == made and again.shape == (98, 40)


def test_other_sound_is_refused():
    for shape in ((800, 2), (399,)):
        with pytest.raises(ValueError, match="one channel.*400 samples"):
            KaldiFilterBank()(np.zeros(shape))
