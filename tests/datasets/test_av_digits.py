"""AV-digits: small archives made here, real downloads, what breaks."""

import http.server
import io
import os
import re
import sys
import threading
import wave
import zipfile
from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_mmrel.datasets import _fsdd
from keras_mmrel.datasets import load_av_digits
from keras_mmrel.datasets._fsdd import Clip
from keras_mmrel.datasets._fsdd import load_clips
from keras_mmrel.datasets._spectrogram import log_mel
from keras_mmrel.datasets.av_digits import split_speakers

pytestmark = pytest.mark.one_backend

# Speaker -> pitch in Hz, so that a spectrogram tells who speaks.
PITCH = {"ada": 400, "ben": 1100, "cy": 2600}
FOLDER = "free-spoken-digit-dataset-master/recordings"


def tone(pitch, length):
    return np.round(9000 * np.sin(np.pi * pitch / 4000 * np.arange(length)))


def wav(samples, rate=8000, channels=1, width=2):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", None))
        file.writeframes(np.asarray(samples).astype(f"<i{width}").tobytes())
    return content.getvalue()


SOUND = tone(440, 800)


def write_zip(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("free-spoken-digit-dataset-master/README.md", "FSDD")
        archive.writestr(f"{FOLDER}/", "")
        for name, content in members.items():
            archive.writestr(f"{FOLDER}/{name}", content)
    return file


@pytest.fixture(scope="module")
def members():
    """Two clips of each digit by three speakers, shorter and over 1 s."""
    clips = {}
    for digit, speaker, index in product(range(10), PITCH, (0, 1)):
        sound = tone(
            PITCH[speaker] + 20 * digit, 2500 + 700 * digit + 90 * index
        )
        clips[f"{digit}_{speaker}_{index}.wav"] = wav(sound)
    return clips


@pytest.fixture(scope="module")
def archive(members, tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("fsdd") / "any.zip", members)


@pytest.fixture(scope="module")
def tiny(archive):
    return load_av_digits(archive)


@pytest.fixture
def server(archive, tmp_path, monkeypatch):
    """Serve the archive; two clips of each digit and speaker are published."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    pairs = dict.fromkeys(product(PITCH, range(10)), 2)
    monkeypatch.setattr(_fsdd, "PUBLISHED", Counter(pairs))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras_home"))
    handler = partial(Handler, directory=archive.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        httpd.url = f"http://127.0.0.1:{httpd.server_port}"
        httpd.cache = tmp_path / "keras_home/datasets/keras_mmrel/fsdd"
        yield httpd
        httpd.shutdown()
        thread.join()


def same(first, second):
    pairs = zip(*map(keras.tree.flatten, (first, second)), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def crop(image):
    """Return what names an image wherever it lies on a canvas."""
    rows, columns = np.nonzero(image.any(1))[0], np.nonzero(image.any(0))[0]
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return ink.shape, ink.astype(int).tobytes()


def test_splits_have_the_stated_shapes_and_types(tiny):
    for x, y in tiny:
        assert list(x) == ["audio", "image"]
        assert x["audio"].shape == (20, 32, 32)
        assert x["image"].shape == (20, 12, 12, 1)
        assert x["audio"].dtype == x["image"].dtype == "float32"
        assert all(np.isfinite(values).all() for values in x.values())
        assert y.tolist() == sorted([*range(10)] * 2) and y.dtype == "int32"


def test_values_are_those_of_this_release_on_every_backend(tiny):
    (x_train, _), _, (x_test, _) = tiny
    for values, expected in [
        (x_train["audio"][0, :3, 24], [0.52493, 0.52517, 0.52493]),
        (x_test["audio"][7, 4, ::10], [0.03341, 0.57947, -0.29215, -0.29226]),
        (x_train["image"][0, 3, 2:5, 0], [-0.57072, -0.22307, 1.44946]),
        (x_test["image"][19, 6, 4:7, 0], [1.02428, 0.14493, 1.22353]),
    ]:
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_log_mel_is_the_documented_formula():
    rng = np.random.default_rng(0)
    waves = [rng.normal(size=n).astype("float32") for n in (1000, 8006, 9999)]

    edges = np.linspace(np.log1p(60 / 700), np.log1p(4000 / 700), 34)[:, None]
    bins = np.log1p(np.arange(129) * 8000 / 256 / 700)
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rise, fall))
    triangles /= triangles.sum(axis=1, keepdims=True)
    for wave_, received in zip(waves, log_mel(waves), strict=True):
        signal = np.zeros(8006)
        signal[: len(wave_)] = wave_[:8006] / np.abs(wave_).max()
        frames = [signal[k * 250 : k * 250 + 256] for k in range(32)]
        power = np.abs(np.fft.rfft(frames * np.hanning(256))) ** 2
        expected = np.log(power @ triangles.T + 1e-4)
        np.testing.assert_allclose(received, expected, atol=1e-3)


def test_log_mel_ignores_loudness_batches_and_the_dtype_policy(monkeypatch):
    waves = [tone(300 * k, 3000).astype("float32") for k in range(1, 6)]
    expected = log_mel(waves)
    monkeypatch.setattr("keras_mmrel.datasets._spectrogram.BATCH", 2)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        received = log_mel(wave_ / 50 for wave_ in waves)
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_allclose(received, expected, atol=1e-3)


def test_training_values_have_mean_zero_and_deviation_one(tiny):
    for values in tiny[0][0].values():
        np.testing.assert_allclose(values.mean(dtype="float64"), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(dtype="float64"), 1, atol=1e-5)
    assert all(abs(x.mean()) > 1e-4 for x in tiny[1][0].values())


@pytest.mark.parametrize(
    ("fold", "speakers"), [(0, (2, 1, 0)), (1, (0, 2, 1)), (2, (1, 0, 2))]
)
def test_splits_share_no_speaker(archive, fold, speakers):
    splits = load_av_digits(archive, fold=fold)
    for (x, _), speaker in zip(splits, speakers, strict=True):
        loudest = x["audio"][:, 0].argmax(axis=1)
        assert (np.digitize(loudest, (12, 21)) == speaker).all()


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (6, (3, 1, 2))],
)
def test_each_speaker_is_for_the_test_once(count, sizes):
    names = _fsdd.SPEAKERS[:count]
    clips = [Clip(0, name, np.ones(1)) for name in reversed(names)]
    tested = []
    for fold in range(count // sizes[2]):
        split_of = split_speakers(clips, fold)
        found = Counter(split_of.values())
        assert (found["train"], found["val"], found["test"]) == sizes
        tested += [name for name, s in split_of.items() if s == "test"]
    assert tested == list(names)
    with pytest.raises(ValueError, match=rf"`fold` must be in \[0, {fold + 1}"):
        split_speakers(clips, fold + 1)


def test_image_has_the_digit_of_its_clip_and_no_second_split(archive):
    clean = load_av_digits(archive, image_noise=0, distractor=False)
    digits = load_digits()
    index_of = {crop(image): k for k, image in enumerate(digits.images)}
    images = [x["image"][..., 0] for x, _ in clean]
    low, high = min(map(np.min, images)), max(map(np.max, images))
    found = []
    for canvases, (_, y) in zip(images, clean, strict=True):
        ink = np.round(16 * (canvases - low) / (high - low))
        indices = [index_of[crop(canvas)] for canvas in ink]
        assert digits.target[indices].tolist() == y.tolist()
        found.append(set(indices))
    train, val, test = found
    assert not train & val and not train & test and not val & test


def test_pairs_depend_on_the_fold_alone(archive, tiny):
    keras.utils.set_random_seed(5)
    assert same(load_av_digits(str(archive), fold=np.int64(0)), tiny)
    other = load_av_digits(archive, fold=1)
    assert not np.allclose(other[0][0]["image"], tiny[0][0]["image"])


def test_options_change_only_what_they_name(archive, tiny):
    clean = load_av_digits(archive, image_noise=0, distractor=False)
    crowded = load_av_digits(archive, image_noise=0.0)
    for (plain, _), (full, _) in zip(clean, crowded, strict=True):
        ink = [x["image"] > x["image"].min() + 1e-6 for x in (plain, full)]
        assert (ink[1] >= ink[0]).all() and (ink[1] > ink[0]).any()
        np.testing.assert_array_equal(full["audio"], plain["audio"])
    noisy = tiny[0][0]["image"].ravel(), crowded[0][0]["image"].ravel()
    assert 0.7 < np.corrcoef(*noisy)[0, 1] < 0.95


@pytest.mark.parametrize("path", ["zip", "flat", "above", "above/recordings"])
def test_folders_are_read_alike(path, archive, members, tiny, tmp_path):
    folder = tmp_path / (path if path != "above" else "above/recordings")
    folder.mkdir(parents=True)
    files = {**members, ".DS_Store": b"\0"}
    if path == "zip":
        files = {_fsdd.ARCHIVE: archive.read_bytes()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert same(load_av_digits(tmp_path / path), tiny)


@pytest.mark.parametrize("path", ["", "nowhere.zip"])
def test_missing_archive_says_how_to_get_it(tmp_path, path):
    with pytest.raises(
        FileNotFoundError,
        match="`path` must be FSDD's archive .*get the archive from https:"
        "//github.*leave `path` out.*Received: path=",
    ):
        load_av_digits(tmp_path / path)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "EOFError"),
        (b"a text, not a sound", "RIFF id"),
        (wav(SOUND)[:30], "EOFError"),
        (wav(SOUND)[:-100], "1500 of 1600 bytes of sound"),
        (wav(SOUND, rate=16000), "16000 Hz, 1 channel.s., 16 bits, not 8000"),
        (wav(SOUND, channels=2), "8000 Hz, 2 channel.s., 16 bits, not 8000"),
        (wav(SOUND / 99, width=1), "8000 Hz, 1 channel.s., 8 bits, not 8000"),
        (wav(SOUND)[:20] + b"\3\0" + wav(SOUND)[22:], "unknown format: 3"),
        (wav([]), "no sound"),
        (wav(0 * SOUND), "no sound"),
    ],
)
def test_unreadable_clip_is_named(members, tmp_path, content, received):
    file = write_zip(tmp_path / "a.zip", {**members, "3_ben_0.wav": content})
    expected = "a.zip must hold FSDD's clips.*replace it by https.*Received: "
    with pytest.raises(
        ValueError, match=f"{expected}'3_ben_0.wav': .*{received}"
    ):
        load_av_digits(file)


@pytest.mark.parametrize(
    "name", ["notes.txt", "3_ben.wav", "x_ben_0.wav", "12_ben_0.wav", "a_b.mp3"]
)
def test_member_with_another_name_is_refused_by_name(members, tmp_path, name):
    file = write_zip(tmp_path / "a.zip", {**members, name: wav(SOUND)})
    with pytest.raises(ValueError, match=f"'{name}': a name other than .digit"):
        load_av_digits(file)


def test_altered_member_is_found_by_its_checksum(archive, tmp_path):
    content = bytearray(archive.read_bytes())
    start = content.index(b"4_cy_1.wav") + 60
    content[start : start + 4] = b"\xde\xad\xbe\xef"
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="Received: '4_cy_1.wav': "):
        load_av_digits(tmp_path / "a.zip")


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_archive_is_named(archive, tmp_path, keep):
    file = tmp_path / "cut.zip"
    file.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cut.zip must .* no ZIP archive"):
        load_av_digits(file)


@pytest.mark.parametrize(
    ("pattern", "received"),
    [
        ("never", "no file in a folder `recordings`"),
        ("(?!3_ben_0)", r"1 clip\(s\) of digit 3 by 'ben', and 2 of another"),
        ("(?!3_ben)", r"0 clip\(s\) of digit 3 by 'ben', and 2 of another"),
        ("._(ada|cy)", r"2 speaker\(s\): \['ada', 'cy'\]"),
    ],
)
def test_missing_clips_are_told(members, tmp_path, pattern, received):
    kept = {k: v for k, v in members.items() if re.match(pattern, k)}
    file = write_zip(tmp_path / "a.zip", kept)
    with pytest.raises(ValueError, match=f"Received: {received}"):
        load_av_digits(file)


def test_clip_that_comes_twice_is_refused(archive, tmp_path):
    file = tmp_path / "twice.zip"
    file.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(file, "a") as opened:
        opened.writestr("copy/recordings/3_ben_0.wav", wav(SOUND))
    with pytest.raises(ValueError, match="Received: '3_ben_0.wav' twice"):
        load_av_digits(file)


def test_a_fold_that_the_speakers_do_not_have_is_refused(archive):
    with pytest.raises(ValueError, match=r"in \[0, 3\) with 3 speakers"):
        load_av_digits(archive, fold=3)


def test_download_equals_the_archive_and_is_used_again_offline(server, tiny):
    assert len(load_clips(None, f"{server.url}/any.zip")) == 60
    assert same(load_av_digits(), tiny)
    kept = {file.name for file in server.cache.iterdir()}
    assert kept == {_fsdd.ARCHIVE, f"{_fsdd.ARCHIVE}.sha256"}


@pytest.mark.parametrize(
    ("kept", "cut", "received"),
    [
        ("", -9, r"no ZIP archive"),
        ("._(ada|cy)", None, r"40 clips by \['ada', 'cy'\], not 60"),
    ],
)
def test_download_of_something_else_is_not_kept(
    server, archive, members, kept, cut, received
):
    members = {k: v for k, v in members.items() if re.match(kept, k)}
    file = write_zip(archive.with_name("other.zip"), members)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=f"nothing was kept.*{received}"):
        load_clips(None, f"{server.url}/other.zip")
    assert list(server.cache.iterdir()) == []


def test_missing_scikit_learn_names_the_extra(archive, monkeypatch):
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install keras-mmrel\[data\]"):
        load_av_digits(archive)


def test_real_set_has_its_published_sizes_and_values():
    path = Path(os.environ.get("KERAS_MMREL_DATA", "")) / "fsdd"
    if not path.is_dir():
        pytest.skip("KERAS_MMREL_DATA names no folder that holds `fsdd`")
    splits = load_av_digits(path)
    for (x, y), count in zip(splits, (150, 50, 100), strict=True):
        assert np.bincount(y).tolist() == [count] * 10
        assert x["audio"].shape == (10 * count, 32, 32)
        assert x["image"].shape == (10 * count, 12, 12, 1)
    x_test = splits[2][0]
    for values, expected in [
        (x_test["audio"][999, 8, ::10], [2.47857, 2.22399, 1.77563, 0.94131]),
        (x_test["image"][999, 5, :3, 0], [-1.39444, 0.52971, -0.05364]),
    ]:
        np.testing.assert_allclose(values, expected, atol=1e-4)
