"""Spectrograms against the libraries whose formulas they are."""

import pickle

import keras
import numpy as np
import pytest

from keras_mmrel.media import Audio
from keras_mmrel.media import Spectrogram

pytestmark = pytest.mark.one_backend

# librosa 0.11: log(abs(stft(sound, n_fft=16, hop_length=600)) + 1e-3) of
# `rising`, at both ends, where zeros are beyond the sound, and in between.
LIBROSA = {
    0: [-1.2294, -1.504, -1.9688, -1.6591, -1.7273, -2.3123, -2.9379, -3.0623],
    3: [-1.2872, 0.15, -0.7063, -0.9116, -1.4675, -4.6417, -5.6868, -6.1776],
    8: [-0.5752, -0.413, -0.326, -0.5415, -1.0504, -1.6724, -2.0647, -2.2475],
}


def rising(samples=4800):
    """A tone that rises, and one that does not."""
    t = np.arange(samples) / 16_000
    low = 0.3 * np.sin(2 * np.pi * (200 + 3000 * t) * t)
    return (low + 0.1 * np.sin(2 * np.pi * 3100 * t)).astype("float32")


def noisy(samples):
    noise = np.random.default_rng(0).normal(0, 0.05, samples)
    return (rising(samples) + noise).astype("float32")


def test_magnitudes_are_those_of_librosa():
    values = Spectrogram(16, 600, offset=1e-3)(rising())
    assert values.shape == (9, 9) and values.dtype == "float32"
    for frame, expected in LIBROSA.items():
        np.testing.assert_allclose(values[:8, frame], expected, atol=1e-3)


@pytest.mark.parametrize("frame, hop", [(512, 159), (511, 100), (64, 64)])
@pytest.mark.parametrize("standardize", [False, True])
def test_densities_are_those_of_scipy(frame, hop, standardize):
    signal = pytest.importorskip("scipy.signal")
    sound = noisy(8000)
    made = Spectrogram(frame, hop, "density", 8000, standardize=standardize)
    overlap = frame - hop
    power = signal.spectrogram(sound, 8000, nperseg=frame, noverlap=overlap)[2]
    expected = np.log(power + 1e-7)
    if standardize:
        expected = (expected - expected.mean()) / (expected.std() + 1e-9)
    values = made(sound)
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, atol=2e-4)


def test_loud_sound_is_clipped_and_silence_is_finite():
    sound = 3 * rising()
    clipped = np.clip(sound, -1, 1)
    for kind in ("magnitude", "density"):
        made = Spectrogram(kind=kind, standardize=True)
        np.testing.assert_array_equal(made(sound), made(clipped))
        silent = made(np.zeros(1600))
        np.testing.assert_allclose(silent, 0, atol=1e-3)


def test_settings_survive_saving_and_processes():
    made = Spectrogram(256, 64, "density", 8000, standardize=True)
    assert pickle.loads(pickle.dumps(made)) == made != Spectrogram(256, 64)
    audio = Audio("wav", sample_rate=8000, transform=made)
    config = keras.saving.serialize_keras_object(audio)
    again = keras.saving.deserialize_keras_object(config)
    assert again.transform == made and again.shape == audio.shape


def test_other_sound_is_refused():
    with pytest.raises(ValueError, match="one channel.*shape \\(800, 2\\)"):
        Spectrogram()(np.zeros((800, 2)))
    with pytest.raises(ValueError, match="at least 512 samples. Received: 300"):
        Spectrogram(kind="density")(np.zeros(300))
