import math

import numpy as np
import pytest

from keras_mmrel.corruptions import WaveformNoise
from keras_mmrel.evaluation import NoiseProtocol
from tests.helpers import json_round_trip

pytestmark = pytest.mark.one_backend
MASK = "modality_mask"


def clips(n=4, shape=(2000,), dtype="float32"):
    """Sounds of different loudness, each padded with zeros to its end."""
    rng = np.random.default_rng(0)
    waves = rng.normal(size=(n, *shape)) * np.arange(1, n + 1).reshape(
        n, *[1] * len(shape)
    )
    waves[:, 1200:] = 0
    return {"audio": waves.astype(dtype)}


def measured(clean, noisy):
    """Signal-to-noise ratio in decibels over what sounds."""
    clean, noisy = (a.astype("float64")[:, :1200] for a in (clean, noisy))
    axes = tuple(range(1, clean.ndim))
    power = np.square(clean).mean(axis=axes)
    return 10 * np.log10(power / np.square(noisy - clean).mean(axis=axes))


@pytest.mark.parametrize("snr", [40, 20.5, 0, -10])
@pytest.mark.parametrize("shape", [(2000,), (2000, 1), (2000, 2)])
def test_snr_of_every_clip_is_the_wanted_one(snr, shape):
    inputs = clips(shape=shape)
    noisy = WaveformNoise.from_snr(snr, "audio")(inputs)["audio"]
    np.testing.assert_allclose(measured(inputs["audio"], noisy), snr, atol=0.1)


def test_padding_gets_the_noise_and_does_not_weaken_the_sound():
    inputs = clips()
    noise = WaveformNoise(0.5, "audio")(inputs)["audio"] - inputs["audio"]
    within, behind = noise[:, :1200].std(axis=1), noise[:, 1200:].std(axis=1)
    np.testing.assert_allclose(behind / within, 1, atol=0.1)


def test_severity_grows_with_the_damage_and_is_zero_without_any():
    snrs = (40, 20, 0, -20)
    severities = [WaveformNoise.from_snr(snr).severity for snr in snrs]
    assert severities == sorted(severities)
    np.testing.assert_allclose(severities, [0.01, 0.1, 1, 10])
    np.testing.assert_allclose(
        [WaveformNoise(s).snr for s in severities], snrs, atol=1e-9
    )
    assert WaveformNoise(0).snr == math.inf
    # What reports sort and draw.
    NoiseProtocol("noise", WaveformNoise(1.0), severities)


def test_same_seed_gives_the_same_noise_at_every_ratio():
    inputs = clips(dtype="float64")
    noises = [
        WaveformNoise(s, "audio")(inputs, 3)["audio"] - inputs["audio"]
        for s in (0.1, 2.0)
    ]
    np.testing.assert_allclose(20 * noises[0], noises[1], rtol=1e-6)


def test_noise_is_white_and_of_its_own_for_each_clip():
    inputs = clips(dtype="float64")
    noise = WaveformNoise(1.0, "audio")(inputs)["audio"] - inputs["audio"]
    assert abs(np.corrcoef(noise)[np.triu_indices(4, 1)]).max() < 0.1
    after = np.corrcoef(noise[0, 1:], noise[0, :-1])[0, 1]
    assert abs(after) < 0.1


def test_silence_stays_silent_and_other_clips_are_unchanged():
    inputs = clips(40)
    inputs["audio"][7] = 0
    noise = WaveformNoise(1.0, "independent", 0.5)
    noisy, hits = noise(inputs)["audio"], noise.corrupted(inputs)[:, 0]
    changed = (noisy != inputs["audio"]).any(axis=1)
    hits[7] = False
    np.testing.assert_array_equal(changed, hits)
    assert 0.2 < hits.mean() < 0.8


def test_whole_numbers_of_a_sound_card_are_taken():
    inputs = {"audio": (1000 * clips()["audio"]).astype("int16")}
    noisy = WaveformNoise.from_snr(10, "audio")(inputs)["audio"]
    assert noisy.dtype == "float32"
    np.testing.assert_allclose(measured(inputs["audio"], noisy), 10, atol=0.1)


def test_round_trip_keeps_the_noise():
    noise = WaveformNoise.from_snr(7, ["audio"])
    restored = json_round_trip(noise)
    np.testing.assert_array_equal(
        noise(clips(), 2)["audio"], restored(clips(), 2)["audio"]
    )


@pytest.mark.parametrize("snr", [math.inf, -math.inf, math.nan, "20", 201])
def test_ratio_that_is_no_number_of_decibels_is_refused(snr):
    with pytest.raises(ValueError, match="`snr` must be .*Received: snr="):
        WaveformNoise.from_snr(snr)


@pytest.mark.parametrize(
    "shape", [(64,), (799,), (2000, 3), (32, 32), (8, 8, 3)]
)
def test_modality_of_another_shape_is_left_alone_and_refused_by_name(shape):
    inputs = {**clips(), "other": np.zeros((4, *shape))}
    noise = WaveformNoise(0.1, ["other"])
    for call in (noise, noise.corrupted):
        with pytest.raises(ValueError, match=r"`target` .*waveforms.*'other'"):
            call(inputs)
    for target in ("all", "one", "independent", "audio"):
        result = WaveformNoise(0.1, target)(inputs)
        np.testing.assert_array_equal(result["other"], inputs["other"])
        assert (result["audio"] != inputs["audio"]).any()
