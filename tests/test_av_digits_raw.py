"""The example of raw AV-digits: the front end, and who judges behind it."""

import importlib.util
import re
from itertools import product

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import corruptions
from keras_mmrel import layers
from tests.datasets.test_av_digits import tone
from tests.datasets.test_av_digits import wav
from tests.datasets.test_av_digits import write_zip
from tests.test_examples import PNG
from tests.test_examples import ROOT
from tests.test_examples import run

SCRIPT = ROOT / "examples/av_digits_raw.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("av_digits_raw", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tones(n=60):
    """A tone a class, of random loudness and phase; frames as bright."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    phase, loudness = rng.uniform(size=(2, n, 1)) + [[[0]], [[0.2]]]
    time = np.arange(8000) / 8000 + phase
    pitch = np.where(y, 1500, 500)[:, None]
    sound = 0.3 * loudness * np.sin(2 * np.pi * pitch * time)
    sound += 0.003 * rng.normal(size=sound.shape)
    film = rng.uniform(0.0, 0.4, (n, 4, 16, 16, 1)) + 0.3 * y.reshape(
        n, 1, 1, 1, 1
    )
    x = {"audio": sound.astype("float32"), "video": film.astype("float32")}
    return x, y


@pytest.mark.slow_on("jax")
def test_front_end_hears_each_clip_alone(example):
    x, _ = tones(4)
    sound = x["audio"] * np.array([[1.0], [0.01], [1.0], [1.0]], "float32")
    layer = example.front_end()
    heard = keras.ops.convert_to_numpy(layer(sound))
    assert heard.shape == layer.compute_output_shape((4, 8000))
    assert heard.shape == (4, 32, 32)
    # A band further up for the higher tone.
    loudest = heard.mean(axis=1).argmax(axis=1)
    assert loudest[1] > loudest[0] + 5
    # The loudest clip of a batch does not matter to a quiet one.
    alone = keras.ops.convert_to_numpy(layer(sound[1:2]))
    np.testing.assert_allclose(heard[1:2], alone, atol=1e-5)
    # By hand: a frame in the middle, windowed, its power in bands.
    weights = keras.ops.convert_to_numpy(
        layer.linear_to_mel_weight_matrix(32, 129, 8000, 60.0, 4000.0)
    )
    frame = sound[0, 2560 - 128 : 2560 + 128] * (
        0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    )
    power = np.abs(np.fft.rfft(frame)) ** 2 @ weights
    expected = 0.25 * np.log(power + example.FLOOR)
    np.testing.assert_allclose(heard[0, 10], expected, atol=1e-3)


@pytest.mark.parametrize(
    "name, judge",
    [
        pytest.param(
            "LateFusion",
            layers.RangeControl,
            marks=pytest.mark.slow_on("jax"),
        ),
        pytest.param(
            "QADMNet",
            layers.InputQuality,
            marks=pytest.mark.slow_on("jax", "tensorflow"),
        ),
    ],
)
def test_judge_behind_the_front_end_hears_noise_on_the_waveform(
    example, name, judge, tmp_path
):
    x, y = tones()
    specs = {n: example.convolutions(n, v.shape[1:]) for n, v in x.items()}
    model = getattr(keras_mmrel, name)(
        specs, 2, quality=example.hearing(judge)()
    )
    model.compile()
    model.fit(x, y, batch_size=20, epochs=2, verbose=0)
    noise = corruptions.WaveformNoise.from_snr(0, "audio")
    clean, noisy = (
        model.predict(inputs, verbose=0) for inputs in (x, noise(x))
    )
    key = "modality_mask" if judge is layers.RangeControl else "confidence"
    trust = noisy[key].mean(axis=0) / clean[key].mean(axis=0)
    assert trust[0] < 0.7 * trust[1]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(noise(x), verbose=0)["logits"],
        noisy["logits"],
        atol=1e-5,
    )


@pytest.mark.slow
def test_example_goes_from_files_to_a_report(tmp_path):
    clips = {}
    for digit, speaker, index in product(range(10), "abc", (0, 1)):
        pitch = 300 + 250 * digit + 20 * "abc".index(speaker) + index
        clips[f"{digit}_{speaker}_{index}.wav"] = wav(tone(pitch, 4000))
    archive = write_zip(tmp_path / "fsdd.zip", clips)
    text = run(
        SCRIPT,
        f"--data={archive}",
        "--clips=2",
        "--epochs=1",
        f"--out={tmp_path / 'out'}",
    )
    assert "20 samples for training, 20 for the test" in text
    page = (tmp_path / "out/report.md").read_text()
    for name in ("QADM-Net", "MICINet", "late fusion, range control"):
        for place in ("", ", behind the front end"):
            assert re.search(rf"\| {name}{place} \| 1 \|", page)
    for column in ("noise, 20 / 10 / 0 dB", "another digit is heard"):
        assert column in page
    figure = tmp_path / "out/2_clips_clean_accuracy.png"
    assert figure.read_bytes().startswith(PNG)
