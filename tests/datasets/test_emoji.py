"""Emoji: the archive, the folder, broken ones, and a model that learns."""

import os
import zipfile

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel import benchmark
from keras_mmrel import media
from keras_mmrel.datasets import emoji
from keras_mmrel.datasets import load_emoji
from tests.datasets.raw_files import cut
from tests.datasets.raw_files import published
from tests.datasets.raw_files import write_noise

pytestmark = pytest.mark.one_backend

HEADER = "image,name,keywords,label"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_folder(folder, rows=None, header=HEADER):
    """Ten emoji of two groups."""
    rows = rows or [
        f'images/{n:X}.png,"face, number {n}",face | {n},{"AB"[n % 2]}'
        for n in range(10)
    ]
    for n in range(10):
        write_noise(folder / f"images/{n:X}.png", (64, 64), seed=n)
    (folder / "emoji.csv").write_text("\n".join([header, *rows]))
    return folder


def zipped(folder, file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return file


def test_the_published_archive_gives_what_its_loader_says(home):
    train, test = load_emoji(published("emoji"))
    assert (len(train.table), len(test.table)) == (1101, 276)
    assert train.num_classes == 9
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    assert (counts.min(), counts.max()) == (5, 261)
    assert set(train.table["image"]).isdisjoint(test.table["image"])
    assert train.missing == test.missing == {"image": 0, "text": 0}
    assert train.shapes == {
        "image": (64, 64, 3),
        "text": {"token_ids": (16,), "padding_mask": (16,)},
    }
    assert train.shuffle and not test.shuffle
    # No name or list of keywords is cut off.
    for preset, length in emoji.LENGTHS.items():
        x, _ = load_emoji(published("emoji"), preset=preset)[1].arrays()
        assert x["text"]["padding_mask"][:, -1].sum() == 0
        assert x["text"]["padding_mask"].shape == (276, length)
    # It was unpacked once.
    assert len(list((home / "datasets/keras_mmrel/emoji").iterdir())) == 1


def test_folder_archive_and_folder_of_it_give_the_same(tmp_path):
    folder = write_folder(tmp_path / "f")
    (tmp_path / "z").mkdir()
    file = zipped(folder, tmp_path / "z/emoji.zip")
    tables = [load_emoji(p)[1].arrays() for p in (folder, file, file.parent)]
    for x, y in tables:
        np.testing.assert_array_equal(x["image"], tables[0][0]["image"])
        # A fifth of each group.
        assert sorted(y.tolist()) == [0, 1]
    names = load_emoji(folder)[1].table["name"].tolist()
    assert names == load_emoji(file)[1].table["name"].tolist()
    assert all(name.startswith("face, number ") for name in names)


def test_media_of_ones_own_read_its_columns(tmp_path):
    folder = write_folder(tmp_path)
    own = {
        "small": media.Image("image", size=8, pixels="uint8"),
        "name": media.Text("name", tokenizer=str.encode, length=4),
        "keywords": media.Text("keywords", tokenizer=str.encode, length=5),
    }
    train, test = load_emoji(
        folder, preset=own, batch_size=3, on_error="missing"
    )
    x, y = train[0]
    assert x["small"].shape == (3, 8, 8, 3) and x["small"].dtype == "uint8"
    assert bytes(x["name"]["token_ids"][0].tolist()) == b"face"
    assert test.on_error == "missing" and test.batch_size == 3
    with pytest.raises(ValueError, match="`length` must be left out where"):
        load_emoji(folder, preset=own, length=3)
    with pytest.raises(ValueError, match="perhaps `batch_size` is meant"):
        load_emoji(folder, batchsize=3)


def test_a_picture_that_is_not_there_is_a_missing_modality(tmp_path):
    folder = write_folder(tmp_path)
    train, _ = load_emoji(folder)
    for file in train.table["image"][:2]:
        (folder / file).unlink()
    with pytest.warns(UserWarning, match="2 of 8 files of modality 'image'"):
        train, _ = load_emoji(folder)
    assert train.missing == {"image": 2, "text": 0}
    assert train.arrays()[0]["modality_mask"].sum() == 14


def test_a_truncated_picture_is_named_or_counted(tmp_path):
    folder = write_folder(tmp_path)
    train, _ = load_emoji(folder)
    name = train.table["image"][0]
    cut(folder / name)
    with pytest.raises(ValueError, match=f"column 'image' .*{name}'"):
        train.arrays()
    train, _ = load_emoji(folder, on_error="missing")
    x, _ = train.arrays()
    assert x["modality_mask"][0].tolist() == [0, 1]
    assert [entry[:2] for entry in train.unreadable] == [(0, "image")]


@pytest.mark.parametrize(
    ("rows", "header", "match"),
    [
        (None, "picture,name,keywords,label", "Line 1 of .*'picture' in the"),
        (["images/1.png,a,b"], HEADER, "Line 2 of .*3 cells"),
        (["images/1.png,a, b,c,A"], HEADER, "Line 2 of .*5 cells"),
        (["images/1.png,a,b,"], HEADER, "no label"),
        (
            ["images/1.png,a,b,A", "images/1.png,a,b,B"],
            HEADER,
            "one label. Received: 'images/1.png' with 'A' and 'B'",
        ),
    ],
)
def test_a_wrong_table_is_refused_by_its_line(tmp_path, rows, header, match):
    write_folder(tmp_path, rows, header)
    with pytest.raises(ValueError, match=match):
        load_emoji(tmp_path)


def test_rows_that_repeat_are_counted(tmp_path):
    row = "images/{0:X}.png,face {0},face,{1}"
    rows = [row.format(n, "AB"[n % 2]) for n in [*range(10), 3, 3]]
    write_folder(tmp_path, rows)
    with pytest.warns(UserWarning, match=r"emoji without 2 row\(s\) that are"):
        train, test = load_emoji(tmp_path)
    assert len(train.table) + len(test.table) == 10


def test_what_is_not_there_is_named(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "emoji.csv").unlink()
    with pytest.raises(FileNotFoundError, match="without 'emoji.csv'"):
        load_emoji(tmp_path)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        load_emoji(tmp_path / "emoji.zip")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"../out.png": b"x"}, "which leaves it"),
        ({"other.csv": b"x"}, "without 'emoji.csv'"),
        ({"emoji.csv": bytes(emoji.MOST + 1)}, "bytes when unpacked"),
    ],
)
def test_an_archive_that_is_another_one_is_refused(tmp_path, content, match):
    file = tmp_path / "emoji.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        load_emoji(file)
    assert not list(tmp_path.rglob("*.png"))


def test_the_archive_may_be_where_nothing_can_be_written(tmp_path, home):
    file = zipped(write_folder(tmp_path / "f"), tmp_path / "emoji.zip")
    load_emoji(file)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "emoji.zip", "f", "home",
    ]  # fmt: skip
    # A copy of it, of another time, is the same one.
    os.utime(file, (1, 1))
    load_emoji(file)
    assert len(list((home / "datasets/keras_mmrel/emoji").iterdir())) == 1


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path, home):
    file = zipped(write_folder(tmp_path / "f"), tmp_path / "emoji.zip")
    home.write_text("a file")
    with pytest.raises(OSError, match="home/.* must be a folder with room"):
        load_emoji(file)


def test_a_small_model_learns_emoji_in_an_epoch():
    train, test = load_emoji(published("emoji"), batch_size=32, seed=0)
    tokens = keras.Input((16,), name="token_ids", dtype="int32")
    mask = keras.Input((16,), name="padding_mask", dtype="bool")
    words = media.HashingTokenizer().vocabulary_size
    embedded = keras.layers.Embedding(words, 16)(tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(embedded, mask=mask)
    pixels = keras.Sequential(
        [
            keras.layers.AveragePooling2D(8),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu"),
        ]
    )
    model = keras_mmrel.LateFusion(
        {
            "image": pixels,
            "text": keras.Model(
                {"token_ids": tokens, "padding_mask": mask}, pooled
            ),
        },
        train.num_classes,
        class_names=train.class_names,
    )
    model.compile(keras.optimizers.Adam(0.01))
    history = model.fit(train, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    x, y = test.arrays()
    share = np.bincount(y).max() / len(y)
    predicted = model.predict(x, verbose=0)["probabilities"].argmax(axis=1)
    assert (predicted == y).mean() > 1.5 * share


def test_a_comparison_reads_emoji(tmp_path):
    write_folder(tmp_path)
    data = benchmark.Dataset(
        "emoji", {"path": str(tmp_path), "length": 3}, scale="none"
    )
    samples = data.load("emoji")
    assert samples.published == 8 and samples.num_classes == 2
    assert samples.x["image"].shape == (10, 64, 64, 3)
    tokens = samples.x["text"]["token_ids"]
    assert tokens.shape == samples.x["text"]["padding_mask"].shape == (10, 3)
    face, number = media.HashingTokenizer()("face number")
    assert set(tokens[:, 0].tolist()) == {face}
    assert set(tokens[:, 1].tolist()) == {number}
    own = benchmark.Dataset(lambda: load_emoji(tmp_path)[0], scale="none")
    assert len(own.load("own").y) == 8
    path = {"path": str(tmp_path)}
    named = benchmark.Dataset(
        "keras_mmrel.datasets.load_emoji", path, scale="none"
    )
    assert named.load("named").published == 8
    with pytest.raises(ValueError, match="path` must say where"):
        benchmark.Dataset("emoji").load("emoji")
