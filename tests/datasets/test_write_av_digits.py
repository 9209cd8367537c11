"""AV-digits as files, from a small archive that is made here."""

import csv
from itertools import product

import numpy as np
import pytest
import soundfile
from sklearn.datasets import load_digits

from keras_mmrel import media
from keras_mmrel.datasets import load_av_digits
from keras_mmrel.datasets import write_av_digits
from keras_mmrel.datasets._fsdd import load_clips
from tests.datasets.test_av_digits import PITCH
from tests.datasets.test_av_digits import tone
from tests.datasets.test_av_digits import wav
from tests.datasets.test_av_digits import write_zip

pytestmark = pytest.mark.one_backend
CLEAN = {"image_noise": 0.0, "distractor": False}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two clips of each digit by three speakers."""
    clips = {}
    for digit, speaker, index in product(range(10), PITCH, (0, 1)):
        sound = tone(PITCH[speaker] + 20 * digit, 2500 + 700 * digit + index)
        clips[f"{digit}_{speaker}_{index}.wav"] = wav(sound)
    return write_zip(tmp_path_factory.mktemp("fsdd") / "any.zip", clips)


@pytest.fixture(scope="module")
def tables(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "new"
    return write_av_digits(folder, archive, **CLEAN)


def rows(table):
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def films(table):
    """Every frame, at the 16 x 16 pixels that squares of the film stand for."""
    video = media.Video("video", frames=8, size=64, channels=1)
    data = media.MediaTable(table, {"video": video}, label="digit")
    x, y = data.arrays()
    squares = x["video"].reshape(len(y), 8, 16, 4, 16, 4)
    return squares.mean(axis=(3, 5)), y


def test_splits_are_those_of_the_arrays_and_share_no_speaker(archive, tables):
    arrays = dict(
        zip(("train", "val", "test"), load_av_digits(archive), strict=True)
    )
    spoken = {}
    for split, table in tables.items():
        found = rows(table)
        digits = [int(row["digit"]) for row in found]
        assert digits == arrays[split][1].tolist()
        spoken[split] = {row["speaker"] for row in found}
        for row in found:
            for part in ("audio", "video"):
                assert (table.parent / row[part]).is_file()
    assert sum(map(len, spoken.values())) == len(set.union(*spoken.values()))


def test_sound_of_a_file_is_the_clip_at_one_loudness(archive, tables):
    clips = [c for c in load_clips(archive) if c.speaker == "cy"]
    table = next(t for t in tables.values() if rows(t)[0]["speaker"] == "cy")
    for row, clip in zip(rows(table), clips, strict=True):
        sound, rate = soundfile.read(table.parent / row["audio"])
        assert rate == 8000
        expected = 0.9 * clip.samples / np.abs(clip.samples).max()
        np.testing.assert_allclose(sound, expected, atol=1e-4)


def test_film_shows_one_image_of_the_digit_that_moves(tables):
    digits = load_digits()
    shown, labels = films(tables["train"])
    ways = []
    for film, digit in zip(shown[::4], labels[::4], strict=True):
        images = digits.images[digits.target == digit] / 16
        found = []
        for frame in film[[0, -1]]:
            windows = np.lib.stride_tricks.sliding_window_view(frame, (8, 8))
            errors = np.square(images[:, None, None] - windows).mean((3, 4))
            best = np.unravel_index(errors.argmin(), errors.shape)
            assert errors[best] < 1e-3
            found.append(best)
        (first, *begin), (last, *end) = found
        assert first == last
        ways.append(np.abs(np.subtract(begin, end)).max())
    assert max(ways) == 3 and min(ways) < 3


def test_same_fold_writes_the_same_and_noise_is_added(
    archive, tables, tmp_path
):
    again = write_av_digits(tmp_path / "a", archive, **CLEAN)
    noisy = write_av_digits(tmp_path / "b", archive, image_noise=0.2)
    clean = films(tables["val"])[0]
    np.testing.assert_array_equal(clean, films(again["val"])[0])
    assert np.abs(films(noisy["val"])[0] - clean).mean() > 0.05
    for table in (tables, again):
        assert table["val"].read_text() == again["val"].read_text()
    name = rows(again["val"])[0]["audio"]
    first, second = (t["val"].parent / name for t in (tables, again))
    assert first.read_bytes() == second.read_bytes()


def test_number_of_clips_is_that_of_each_digit_of_each_speaker(
    archive, tmp_path
):
    tables = write_av_digits(tmp_path, archive, clips=1, **CLEAN)
    assert [len(rows(table)) for table in tables.values()] == [10, 10, 10]


@pytest.mark.parametrize("name", write_av_digits.constraints)
def test_bad_arguments_are_refused_before_anything_is_written(name, tmp_path):
    for value in write_av_digits.constraints[name].bad:
        with pytest.raises(ValueError, match=f"^`{name}` must be "):
            write_av_digits(
                tmp_path / "new", **{"path": "no such folder", name: value}
            )
    assert not (tmp_path / "new").exists()


def test_path_without_fsdd_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must be FSDD's"):
        write_av_digits(tmp_path / "new", tmp_path)
