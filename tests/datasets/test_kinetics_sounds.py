"""Kinetics-Sounds: clips in the layouts there are, its split, broken ones."""

import pickle
import re
import shutil

import numpy as np
import pytest
from PIL import Image as Pillow

from keras_mmrel.datasets import kinetics_sounds
from keras_mmrel.datasets import load_kinetics_sounds
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.datasets._media_sets import drop_repeated
from keras_mmrel.datasets._media_sets import read_rows
from keras_mmrel.media import Audio
from keras_mmrel.media import Video
from tests.datasets.published import published_split
from tests.datasets.published import touch
from tests.media.files import RATE
from tests.media.files import cut
from tests.media.files import tone
from tests.media.files import write_video
from tests.media.files import write_wav

pytestmark = pytest.mark.one_backend

# The four kinds of names that the published files hold.
IDS = {
    "frames and sound": "--4-0ihtnBU_000058_000068",
    "a video with sound": "-3Mwkq-7TV4_2",
    "sound alone": "00nar1nEPc0_10",
    "a silent video": "6q_33gNewAB_132",
}
SMALL = {
    "audio": Audio("audio", sample_rate=RATE, seconds=0.25),
    "video": Video("video", frames=1, size=8, channels=1),
}


def write_split(folder, train, test):
    for name, ids in (("my_train.txt", train), ("my_test.txt", test)):
        lines = [f"{clip},10,{label}\r\n" for clip, label in ids]
        (folder / name).write_bytes("".join(lines).encode())


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """One clip of each layout; frames a second, folders of classes, parts."""
    root = tmp_path_factory.mktemp("ks")
    frames, both, sound, silent = IDS.values()
    folder = root / "train" / frames
    folder.mkdir(parents=True)
    for second in range(10):
        image = Pillow.new("L", (16, 16), 20 * second)
        image.save(folder / f"frame_{second + 1:05d}.jpg")
    # The sound is short, and at the rate that it is read with.
    write_wav(folder / f"{frames}.wav", tone(1.0, 1000, 16_000), 16_000)
    classes = root / "val_256/playing drums, loud"
    classes.mkdir(parents=True)
    write_video(classes / f"{both}.mp4", 10, sound=tone(1.0))
    write_video(classes / f"{silent}.mp4", 2)
    (root / "audio").mkdir()
    write_wav(root / f"audio/{sound}.wav", tone(1.0))
    write_split(root, [(frames, 30), (both, 0)], [(sound, 30), (silent, 3)])
    return root


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / "copy")


def load(path, preset=SMALL, **options):
    """Load without the warnings of what lacks here."""
    options = {"shuffle": False, "on_error": "missing", **options}
    return load_kinetics_sounds(path, preset, **options)


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_clips_are_found_in_every_layout(published):
    train, test = load(published)
    frames, both, sound, silent = IDS.values()
    drums = "val_256/playing drums, loud"
    columns = ["id", "label", "audio", "video"]
    assert train.table[columns].to_numpy().tolist() == [
        [frames, 30, f"train/{frames}/{frames}.wav", f"train/{frames}"],
        [both, 0, *[f"{drums}/{both}.mp4"] * 2],
    ]
    assert test.table[columns].to_numpy().tolist() == [
        [sound, 30, f"audio/{sound}.wav", ""],
        [silent, 3, *[f"{drums}/{silent}.mp4"] * 2],
    ]
    x, y = train.arrays()
    assert x["modality_mask"].all() and y.tolist() == [30, 0]
    x, _ = test.arrays()
    # The silent video is told where its sound is asked for.
    assert x["modality_mask"].tolist() == [[1, 0], [0, 1]]
    (told,) = test.unreadable
    assert told[:2] == (1, "audio") and told[3] == "no audio in it"


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_presets_have_the_shapes_of_their_papers(published):
    video = (3, 224, 224, 3)
    train, test = load(published, "ogm_ge")
    assert train.shapes == {"audio": (1024, 128), "video": video}
    assert test.shapes == train.shapes
    x = pickle.loads(pickle.dumps(train))[0][0]
    # One frame of each third: the seconds 1, 5 and 8 of ten.
    grey = 255 * x["video"][0].mean(axis=(1, 2, 3)) / 20
    np.testing.assert_allclose(grey, [1, 5, 8], atol=0.2)
    # Frames beyond ten seconds are the zero of before the scaling.
    beyond = x["audio"][0, 998:]
    np.testing.assert_allclose(beyond, 4.503877 / (2 * 5.141276), rtol=1e-5)
    # 1,000 Hz is the 43rd of 128 triangles between 20 and 8,000 Hz.
    assert set(x["audio"][0, :97].argmax(axis=1)) <= {43, 44, 45}

    train, test = load(published, "stft", seed=1)
    assert train.shapes == {"audio": (129, 626), "video": video}
    assert test.shapes == train.shapes
    # Random in training, always the same in testing.
    assert train.modalities["audio"].is_random
    assert not test.modalities["audio"].is_random
    x = train[0][0]
    assert np.median(x["audio"][0].argmax(axis=0)) == 1000 * 256 / 16_000


def test_all_rows_of_the_published_split_are_read():
    splits = published_split("kinetics_sounds")
    rows = {
        part: read_rows(
            splits / name, ("id", "seconds", "label"), kinetics_sounds._parse
        )
        for part, name in kinetics_sounds.FILES.items()
    }
    assert {part: len(r) for part, r in rows.items()} == {
        "training": 14_799,
        "test": 2_597,
    }
    ids = []
    for part in rows.values():
        kept = drop_repeated(part, "id", "label", "", Dropped(""))
        assert len(kept) == len(part)
        assert {row["label"] for row in part} == set(range(31))
        ids.append({row["id"] for row in part})
    assert not ids[0] & ids[1]


def test_the_published_split_is_the_default(tmp_path):
    splits = published_split("kinetics_sounds")
    first = {
        name: (splits / name).read_text().split(",")[0]
        for name in kinetics_sounds.FILES.values()
    }
    touch(tmp_path, [f"some class/{clip}.mp4" for clip in first.values()])
    expected = "14,798 row.* of the training part.*2,596 row.* of the test part"
    with pytest.warns(UserWarning, match=expected):
        train, test = load_kinetics_sounds(tmp_path, annotations=splits)
    assert [train.table["id"][0], test.table["id"][0]] == list(first.values())
    assert train.num_classes == test.num_classes == 31


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_names_of_classes_are_the_users(published):
    names = [f"action {i}" for i in range(31)]
    train, test = load(published, class_names=names)
    assert train.class_names == test.class_names == names
    assert load(published)[0].class_names == [str(i) for i in range(31)]
    for wrong in (names[:30], "names", ["a", "a"]):
        with pytest.raises(ValueError, match="^`class_names` must be "):
            load(published, class_names=wrong)


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_clips_without_any_file_are_left_out(copy):
    lost = ("AAAAAAAAAAA_1", 4)
    kept = [(IDS["frames and sound"], 30), (IDS["a video with sound"], 0)]
    write_split(copy, [*kept, lost], [(IDS["sound alone"], 1)])
    message = "1 row.* of the training part without any file, such as 'AAAAAAA"
    with pytest.warns(UserWarning, match=message):
        train, _ = load(copy)
    assert len(train.table) == 2
    write_split(copy, [lost], kept)
    with pytest.raises(ValueError, match="training part must have a row whose"):
        load(copy)


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_truncated_clips_are_told_or_counted(copy):
    frames, both = list(IDS.values())[:2]
    picture = copy / f"train/{frames}/frame_00006.jpg"
    video = copy / f"val_256/playing drums, loud/{both}.mp4"
    for file in (picture, video):
        cut(file, copy / "part", 0.5)
        (copy / "part").rename(file)
    train, _ = load(copy)
    x, _ = train.arrays()
    assert x["modality_mask"].tolist() == [[1, 0], [0, 0]]
    assert len(train.unreadable) == 3
    train, _ = load(copy, on_error="raise", batch_size=1)
    message = f"column 'video'.*{re.escape(frames)}': "
    with pytest.raises(ValueError, match=message):
        train[0]


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_an_archive_of_clips_is_unpacked(copy, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "clips"), "tar", copy)
    train, _ = load(packed)
    assert train.arrays()[0]["modality_mask"].all()
    assert train.root == tmp_path / "clips.tar.unpacked"


def test_one_clip_twice_is_refused(copy):
    both = IDS["a video with sound"]
    shutil.copy(
        copy / f"val_256/playing drums, loud/{both}.mp4", copy / f"{both}.webm"
    )
    with pytest.raises(ValueError, match=f"once. Received: .*{both}"):
        load(copy)


LINES = {
    "another separator": ("00nar1nEPc0_10;10;3\n", "1 cells"),
    "a header": ("id,seconds,label\n", "the id 'id'"),
    "a label too large": ("00nar1nEPc0_10,10,31\n", "label 31, not from 0"),
    "a name": ("00nar1nEPc0_10,10,drums\n", "invalid literal"),
    "no seconds": ("00nar1nEPc0_10,nan,3\n", "'nan' seconds"),
    "a comma in an id": ("00nar1nE,c0_10,10,3\n", "4 cells"),
}


@pytest.mark.parametrize("content, reason", LINES.values(), ids=LINES)
def test_a_wrong_line_of_the_split_is_named(copy, content, reason):
    (copy / "my_test.txt").write_text(content)
    expected = f"Line 1 of .*my_test.txt must hold id,seconds,label .*{reason}"
    with pytest.raises(ValueError, match=expected):
        load(copy)


@pytest.mark.filterwarnings("ignore:1 of 2 files")
def test_repeated_clips_are_counted_and_others_refused(copy):
    frames, both, sound, silent = IDS.values()
    train, test = [(frames, 30), (both, 0)], [(sound, 30), (silent, 3)]
    write_split(copy, [*train, (both, 0)], test)
    with pytest.warns(UserWarning, match="1 row.*training part already"):
        assert len(load(copy)[0].table) == 2
    write_split(copy, [*train, (both, 1)], test)
    with pytest.raises(ValueError, match=f"one label.*'{both}' with 0 and 1"):
        load(copy)
    write_split(copy, train, [*test, train[0]])
    with pytest.raises(ValueError, match=f"one part. Received: '{frames}'"):
        load(copy)


def test_what_lacks_is_named_with_how_to_get_it(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` .*get clips from"):
        load_kinetics_sounds(tmp_path / "nowhere")
    (copy / "my_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="`annotations` .*OGM-GE"):
        load_kinetics_sounds(copy)


@pytest.mark.parametrize("name", load_kinetics_sounds.constraints)
def test_bad_values_are_refused_before_anything_is_read(name):
    for value in load_kinetics_sounds.constraints[name].bad:
        with pytest.raises(ValueError, match=f"^`{name}` must be "):
            load_kinetics_sounds(**{"path": "no such folder", name: value})
