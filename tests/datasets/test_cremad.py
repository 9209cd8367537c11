"""CREMA-D: clips in its layout, its split as published, and broken ones."""

import pickle
import re
import shutil
from collections import Counter

import keras
import numpy as np
import pytest
from PIL import Image as Pillow

import keras_mmrel
from keras_mmrel import benchmark
from keras_mmrel.datasets import cremad
from keras_mmrel.datasets import load_cremad
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.media import Audio
from keras_mmrel.media import Spectrogram
from keras_mmrel.media import Video
from tests.datasets.published import published_split
from tests.datasets.published import touch
from tests.helpers import EAGER
from tests.media.files import RATE
from tests.media.files import cut
from tests.media.files import tone
from tests.media.files import write_video
from tests.media.files import write_wav

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
# Twelve actors, each with one emotion; the last ones are the test part.
CLIPS = [f"{1001 + i}_DFA_{EMOTIONS[i % 6]}_XX" for i in range(12)]
TRAIN, TEST = CLIPS[:8], CLIPS[8:]


def write_split(folder, train, test):
    for name, clips in (("train.csv", train), ("test.csv", test)):
        lines = [f"{clip},{clip.split('_')[2]}\r\n" for clip in clips]
        (folder / name).write_bytes("".join(lines).encode())


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """WAV at 8 kHz and FLV as in the repository, half a second each."""
    root = tmp_path_factory.mktemp("data") / "CREMA-D"
    (root / "AudioWAV").mkdir(parents=True)
    (root / "VideoFlash").mkdir()
    for index, clip in enumerate(CLIPS):
        hertz = 300 + 500 * (index % 6)
        write_wav(root / f"AudioWAV/{clip}.wav", tone(0.5, hertz))
        write_video(root / f"VideoFlash/{clip}.flv", 1 + index, 10, (16, 16))
    write_split(root, TRAIN, TEST)
    return root


@pytest.fixture
def copy(published, tmp_path):
    """A copy to break."""
    return shutil.copytree(published, tmp_path / "copy")


# What takes no time to decode.
SMALL = {
    "audio": Audio(
        "audio",
        sample_rate=RATE,
        seconds=0.25,
        transform=Spectrogram(64, 64),
    ),
    "video": Video("video", frames=2, size=8, channels=1),
}


def clips_of(table):
    return table.table["clip"].tolist()


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("preset", "shape"), [("ogm_ge", (257, 188)), ("di_mml", (257, 299))]
)
def test_presets_have_the_shapes_of_their_papers(published, preset, shape):
    train, test = load_cremad(published, preset, batch_size=4, seed=0)
    shapes = {"audio": shape, "video": (1, 224, 224, 3)}
    assert train.shapes == test.shapes == shapes
    assert train.class_names == test.class_names == list(EMOTIONS)
    assert clips_of(train) == TRAIN and clips_of(test) == TEST
    assert train.shuffle and not test.shuffle
    x, y = test[0]
    assert {name: x[name].shape[1:] for name in shapes} == shapes
    assert x["modality_mask"].all() and y.tolist() == [2, 3, 4, 5]
    # Processes that decode get a copy.
    again = pickle.loads(pickle.dumps(test))
    np.testing.assert_array_equal(again[0][0]["audio"], x["audio"])
    # The grey of the last clip's middle frame, the sixth.
    right = 255 * x["video"][3, 0, 60:160, 150:, :].mean()
    assert abs(right - 60) < 6
    if preset == "di_mml":
        np.testing.assert_allclose(x["audio"].mean(axis=(1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(x["audio"].std(axis=(1, 2)), 1, atol=1e-3)
    else:
        # Half a second is repeated up to three: its tone is in every frame.
        bins = x["audio"][3].argmax(axis=0) * 22_050 / 512
        assert abs(np.median(bins) - (300 + 500 * 5)) < 50
        assert (abs(bins - np.median(bins)) < 100).mean() > 0.95


@pytest.mark.one_backend
def test_an_archive_of_the_repository_has_one_folder_with_all_of_it(
    published, tmp_path
):
    shutil.copytree(published, tmp_path / "a" / "CREMA-D-master")
    archive = shutil.make_archive(tmp_path / "c", "zip", tmp_path / "a")
    train, _ = load_cremad(archive, SMALL, batch_size=4)
    assert clips_of(train) == TRAIN


@pytest.mark.one_backend
def test_a_comparison_takes_the_arrays_of_the_tables(published):
    source = benchmark.Dataset(
        lambda: tuple(table.arrays() for table in load_cremad(published, SMALL))
    )
    assert source.load("cremad").num_classes == 6


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The published split, and the clips of its test part and 100 others."""
    splits = published_split("cremad")
    root = tmp_path_factory.mktemp("real")
    train, test = (
        [line.split(",")[0] for line in (splits / name).read_text().split()]
        for name in ("train.csv", "test.csv")
    )
    touch(root, [f"AudioWAV/{clip}.wav" for clip in [*test, *train[:100]]])
    touch(root, [f"VideoFlash/{clip}.flv" for clip in [*test[3:], train[0]]])
    return splits, root


@pytest.mark.one_backend
def test_the_published_split_is_the_default(real):
    splits, root = real
    with pytest.warns() as told:
        train, test = load_cremad(root, SMALL, annotations=splits)
    messages = [str(w.message) for w in told]
    assert "6,598 row(s) of the training part without any" in messages[0]
    assert "3 of 744 files of modality 'video'" in messages[2]
    assert (len(train.table), len(test.table)) == (6698 - 6598, 744)
    assert train.missing == {"audio": 0, "video": 99}
    assert test.missing == {"audio": 0, "video": 3}
    assert np.bincount(test.labels).tolist() == [114, 123, 140, 133, 129, 105]
    assert test.table["actor"].nunique() == 91


@pytest.mark.one_backend
def test_all_rows_of_the_published_split_are_read(real):
    parts = cremad._published(*real, Dropped("CREMA-D"))
    rows = parts["training"]
    assert (len(rows), len(parts["test"])) == (6698, 744)
    counts = Counter(row["emotion"] for row in rows)
    assert [counts[e] for e in EMOTIONS] == [973, 1148, 1131, 1138, 1142, 1166]
    # What makes another split worth having: all actors are in both parts.
    actors = [{row["actor"] for row in part} for part in parts.values()]
    assert actors[0] == actors[1] and len(actors[0]) == 91


@pytest.mark.one_backend
def test_each_actor_is_tested_in_one_fold(real):
    tested = []
    for fold in range(10):
        parts = cremad._by_speakers(real[1], fold, Dropped("CREMA-D"))
        train, test = (
            {row["actor"] for row in rows} for rows in parts.values()
        )
        assert not train & test and len(test) in (9, 10)
        assert sum(map(len, parts.values())) == 844
        tested += sorted(test)
    assert sorted(tested) == [str(1001 + i) for i in range(91)]


@pytest.mark.one_backend
def test_a_split_by_speakers_needs_no_annotations(copy):
    (copy / "train.csv").unlink()
    train, test = load_cremad(copy, SMALL, split="speakers", fold=1)
    assert clips_of(test) == [CLIPS[1], CLIPS[11]]
    assert clips_of(train) == [CLIPS[0], *CLIPS[2:11]]
    again, _ = load_cremad(copy, SMALL, split="speakers")
    assert clips_of(again) == [c for i, c in enumerate(CLIPS) if i % 10]
    message = re.escape('`fold` must only stand with split="speakers"')
    with pytest.raises(ValueError, match=message):
        load_cremad(copy, SMALL, fold=0)
    (copy / "AudioWAV/notes.wav").touch()
    with pytest.warns(UserWarning, match="1 row.* no clips, such as 'notes'"):
        load_cremad(copy, SMALL, split="speakers")


@pytest.mark.one_backend
def test_frames_taken_out_before_stand_in_for_videos(copy):
    shutil.rmtree(copy / "VideoFlash")
    for clip in CLIPS:
        folder = copy / "Image-01-FPS" / clip
        folder.mkdir(parents=True)
        for second in range(3):
            image = Pillow.new("RGB", (12, 12), (80 * second, 0, 0))
            image.save(folder / f"{30 * second:05d}.jpg")
    _, test = load_cremad(copy.parent / "copy", "ogm_ge", batch_size=1)
    red = 255 * test[0][0]["video"][0, 0, ..., 0].mean()
    assert abs(red - 80) < 3


@pytest.mark.one_backend
def test_what_is_not_there_is_missing_or_left_out(copy):
    (copy / f"AudioWAV/{CLIPS[0]}.wav").unlink()
    for clip in (CLIPS[1], CLIPS[8]):
        (copy / f"AudioWAV/{clip}.wav").unlink()
        (copy / f"VideoFlash/{clip}.flv").unlink()
    with pytest.warns() as told:
        train, test = load_cremad(copy, SMALL, shuffle=False)
    assert [str(w.message) for w in told] == [
        f"CREMA-D without 1 row(s) of the training part without any file, "
        f"such as '{CLIPS[1]}'; 1 row(s) of the test part without any file, "
        f"such as '{CLIPS[8]}'.",
        f"1 of 7 files of modality 'audio' are not there, such as "
        f"'{copy / 'AudioWAV' / CLIPS[0]}.wav': they count as missing.",
    ]
    assert clips_of(train) == [TRAIN[0], *TRAIN[2:]]
    assert clips_of(test) == TEST[1:]
    x, _ = train.arrays()
    assert x["modality_mask"][:2].tolist() == [[0, 1], [1, 1]]


@pytest.mark.one_backend
def test_a_truncated_clip_is_told_or_counted(copy):
    for name in (f"AudioWAV/{CLIPS[0]}.wav", f"VideoFlash/{CLIPS[11]}.flv"):
        cut(copy / name, copy / "part", 0.4)
        (copy / "part").rename(copy / name)
    options = {"shuffle": False, "batch_size": 8}
    train, _ = load_cremad(copy, SMALL, **options)
    with pytest.raises(ValueError, match=f"column 'audio'.*{CLIPS[0]}.wav'"):
        train[0]
    tables = load_cremad(copy, SMALL, on_error="missing", **options)
    masks = [table[0][0]["modality_mask"] for table in tables]
    assert masks[0].tolist() == [[0, 1], *[[1, 1]] * 7]
    assert masks[1].tolist() == [*[[1, 1]] * 3, [1, 0]]
    assert [len(table.unreadable) for table in tables] == [1, 1]


LINES = {
    "another separator": ("1001_DFA_NEU_XX;NEU\n", "1 cells"),
    "a header": ("clip,emotion\n", "'clip', not <actor>_"),
    "another emotion": ("1001_DFA_NEU_XX,HAP\n", "'1001_DFA_NEU_XX' with"),
    "a comma in a name": ("1001_DFA, again_NEU_XX,NEU\n", "3 cells"),
    "a path": ("../1001_DFA_NEU_XX,NEU\n", "not <actor>_"),
}


@pytest.mark.one_backend
@pytest.mark.parametrize("content, reason", LINES.values(), ids=LINES)
def test_a_wrong_line_of_the_split_is_named(copy, content, reason):
    first = f"{CLIPS[0]},NEU\r\n"
    (copy / "train.csv").write_text(first + content, newline="")
    expected = f"Line 2 of .*train.csv must hold clip,emotion .*{reason}"
    with pytest.raises(ValueError, match=expected):
        load_cremad(copy, SMALL)


@pytest.mark.one_backend
def test_repeated_clips_are_counted_and_shared_ones_refused(copy):
    write_split(copy, [*TRAIN, TRAIN[2]], TEST)
    with pytest.warns(UserWarning, match="1 row.*training part already"):
        train, _ = load_cremad(copy, SMALL)
    assert clips_of(train) == TRAIN
    write_split(copy, TRAIN, [*TEST, TRAIN[0]])
    with pytest.raises(ValueError, match="'1001_DFA_NEU_XX' in the training"):
        load_cremad(copy, SMALL)


@pytest.mark.one_backend
def test_what_lacks_is_named_with_how_to_get_it(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match="clone https.*not exist"):
        load_cremad(tmp_path / "nowhere")
    packed = shutil.make_archive(
        str(tmp_path / "own"), "gztar", copy, "VideoFlash"
    )
    with pytest.raises(FileNotFoundError, match="own.tar.gz', without 'Audio"):
        load_cremad(packed)
    (copy / "test.csv").unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_cremad(copy)
    assert "OGM-GE_CVPR2022" in str(error.value)
    assert 'or take split="speakers"' in str(error.value)
    shutil.rmtree(copy / "VideoFlash")
    with pytest.raises(FileNotFoundError, match="without 'VideoFlash' or"):
        load_cremad(copy)


@pytest.mark.one_backend
def test_pointers_of_git_lfs_are_told_from_files(copy):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    for file in (copy / "AudioWAV").iterdir():
        file.write_bytes(pointer)
    with pytest.raises(ValueError, match="by `git lfs pull`"):
        load_cremad(copy, SMALL)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", load_cremad.constraints)
def test_bad_values_are_refused_before_anything_is_read(name):
    for value in load_cremad.constraints[name].bad:
        with pytest.raises(ValueError, match=f"^`{name}` must be "):
            load_cremad(**{"path": "no such folder", name: value})
    with pytest.raises(ValueError, match="perhaps `batch_size` is meant"):
        load_cremad("no such folder", batch_sizes=3)


def test_a_model_is_trained_on_clips(published, tmp_path):
    """On every backend, from the cache and by threads."""
    train, test = load_cremad(
        published, SMALL, batch_size=4, seed=0, cache=tmp_path, workers=2
    )
    shapes = {"audio": (33, 32), "video": (2, 8, 8, 1)}
    assert train.shapes == shapes
    encoders = {
        name: keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Flatten(),
                keras.layers.Dense(8, activation="relu"),
            ]
        )
        for name, shape in shapes.items()
    }
    model = keras_mmrel.ConcatFusion(encoders, train.num_classes)
    model.compile(run_eagerly=EAGER)
    history = model.fit(train, validation_data=test, epochs=1, verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    assert model.class_names == list(EMOTIONS)
    outputs = model.predict(test, verbose=0)
    assert outputs["probabilities"].shape == (4, 6)
