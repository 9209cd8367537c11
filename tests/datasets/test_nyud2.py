"""NYU Depth V2: the HDF5 file of MATLAB, the peers' pictures, broken ones."""

import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from keras_mmrel import media
from keras_mmrel.datasets import _nyud2_file
from keras_mmrel.datasets import load_nyud2
from keras_mmrel.datasets import nyud2
from tests.datasets.raw_files import cut
from tests.datasets.raw_files import packed
from tests.datasets.raw_files import published
from tests.datasets.raw_files import write_text

pytestmark = pytest.mark.one_backend

h5py = pytest.importorskip("h5py")
scipy_io = pytest.importorskip("scipy.io")

TYPES = ("kitchen", "living_room", "study", "cafe", "bathroom", "office")
# Width and height of the made pictures.
SIZE = (32, 24)


def write_file(folder, samples=6, types=None, size=SIZE, **changes):
    """The file as MATLAB writes it: axes turned round, names behind references.

    Picture `n` has `n` in all pixels, 250 in the column on the right, and a
    depth of `n` / 10 metres, 9.5 in the top row.
    """
    width, height = size
    file = folder / nyud2.FILE
    number = np.arange(samples) % 100
    with h5py.File(file, "w") as content:
        images = np.empty((samples, 3, width, height), "uint8")
        images[:] = number[:, None, None, None]
        images[:, :, -1] = 250
        depths = np.empty((samples, width, height), "float32")
        depths[:] = number[:, None, None] / 10
        depths[:, :, 0] = 9.5
        for name, values in (("images", images), ("depths", depths)):
            content.create_dataset(
                name, data=values, chunks=(1, *values.shape[1:])
            )
        types = types or [TYPES[n % len(TYPES)] for n in range(samples)]
        names = content.create_dataset(
            "sceneTypes", (1, len(types)), dtype=h5py.ref_dtype
        )
        for n, name in enumerate(types):
            # MATLAB's text is a column of numbers of 16 bits.
            letters = np.array([[ord(c)] for c in name], "uint16")
            names[0, n] = content.create_dataset(
                f"#refs#/{n}", data=letters
            ).ref
        for name, value in changes.items():
            del content[name]
            if value is not None:
                content[name] = value
    return file


def write_split(folder, train=(1, 3, 6), test=(2, 4, 5)):
    columns = {
        name: np.array(part, "uint16")[:, None]
        for name, part in (("trainNdxs", train), ("testNdxs", test))
    }
    scipy_io.savemat(folder / nyud2.SPLIT, columns)
    return folder / nyud2.SPLIT


def write_pictures(folder, parts=("train", "test")):
    """Colours of one value on the left, and depth of another on the right."""
    for part in parts:
        for n, name in enumerate(("bedroom", "rest")):
            target = folder / part / name
            target.mkdir(parents=True)
            for k in range(2):
                both = np.zeros((24, 64, 3), "uint8")
                both[:, :32] = 50 * (2 * n + k)
                both[:, 32:] = 250, 20, 200 - 10 * k
                Image.fromarray(both).save(target / f"{k}.png")
    return folder


def test_the_published_split_is_read_from_1():
    file = published("splits/nyud2/splits.mat")
    train, test = _nyud2_file.read_split(file, 1449)
    assert (len(train), len(test)) == (795, 654)
    assert sorted(train + test) == list(range(1449))
    with pytest.raises(ValueError, match="not whole numbers from 1 to 1,448"):
        _nyud2_file.read_split(file, 1448)


def test_the_file_and_the_published_split_give_1449_pictures(tmp_path):
    write_file(tmp_path, samples=1449, size=(4, 4))
    split = published("splits/nyud2/splits.mat")
    train, test = load_nyud2(tmp_path, splits=split)
    assert (len(train.table), len(test.table)) == (795, 654)
    assert train.class_names == [
        "bathroom", "kitchen", "living_room", "office", "rest",
    ]  # fmt: skip
    # Number 1 of the split is the first picture, which is a kitchen.
    rows = test.table.set_index("picture")
    assert rows.loc[0, "label"] == "kitchen" and rows.loc[8, "label"] == "rest"


def test_a_picture_stands_upright_and_beside_its_own_depth(tmp_path):
    write_file(tmp_path)
    write_split(tmp_path)
    small = {
        "image": media.Image("image", size=(24, 32), pixels="uint8"),
        "depth": media.Image("depth", size=(24, 32), channels=1),
    }
    train, test = load_nyud2(tmp_path, preset=small)
    assert train.table["picture"].tolist() == [0, 2, 5]
    assert train.table["scene_type"].tolist() == ["kitchen", "study", "office"]
    assert train.table["label"].tolist() == ["kitchen", "rest", "office"]
    x, y = train.arrays()
    assert y.tolist() == [
        train.class_names.index(n) for n in train.table["label"]
    ]
    for n, image, depth in zip([0, 2, 5], x["image"], x["depth"], strict=True):
        assert (image[:, :-1] == n).all() and (image[:, -1] == 250).all()
        np.testing.assert_allclose(depth[1:], n / 100, rtol=1e-6)
        np.testing.assert_allclose(depth[0], 0.95, rtol=1e-6)
    assert x["modality_mask"].all() and len(test.table) == 3


def test_presets_give_shapes_and_values_in_range(tmp_path):
    write_file(tmp_path)
    write_split(tmp_path)
    for preset, channels in (("crop", 1), ("qmf", 3)):
        train, _ = load_nyud2(tmp_path, preset=preset)
        x, _ = train.arrays()
        assert train.shapes == {
            "image": (224, 224, 3),
            "depth": (224, 224, channels),
        }
        # What is cut out has no right edge, what is stretched has.
        assert (x["image"][:, 112, -1].max() > 0.5) == (preset == "qmf")
        assert 0 <= x["depth"].min() and x["depth"].max() <= 1
        np.testing.assert_allclose(x["depth"][2, 112], 0.05, rtol=1e-5)


def test_all_scene_types_are_classes_if_asked_for(tmp_path):
    file = write_file(tmp_path)
    write_split(tmp_path)
    train, test = load_nyud2(file, classes="all")
    assert train.class_names == test.class_names == sorted(TYPES)
    ten = {_nyud2_file.scene_of(n) for n in (*_nyud2_file.COMMON, *TYPES)}
    assert len(ten) == 10


def test_one_picture_is_read_at_a_time(tmp_path):
    file = write_file(tmp_path, samples=200, size=(320, 240))
    write_split(tmp_path, range(1, 101), range(101, 201))
    assert file.stat().st_size > 100e6
    tracemalloc.start()
    train, _ = load_nyud2(tmp_path, batch_size=4)
    x, _ = train[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x["image"].shape == (4, 224, 224, 3)
    assert peak < 20e6


def test_workers_and_a_cache_read_the_same(tmp_path):
    write_file(tmp_path)
    write_split(tmp_path)
    expected = load_nyud2(tmp_path)[0].arrays()[0]
    for _ in range(2):
        options = {"cache": tmp_path / "cache", "workers": 3, "batch_size": 1}
        x = load_nyud2(tmp_path, **options)[0].arrays()[0]
        for name, values in expected.items():
            np.testing.assert_array_equal(x[name], values)
    # A process gets the table, too.
    sent = pickle.loads(pickle.dumps(load_nyud2(tmp_path)[1]))
    assert sent[0][0]["depth"].shape == (3, 224, 224, 1)
    # A picture and a depth of each, though all are of one file.
    entries = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert len(entries) == 6


def test_depth_that_is_no_number_is_unreadable(tmp_path):
    file = write_file(tmp_path)
    write_split(tmp_path)
    with h5py.File(file, "r+") as content:
        content["depths"][2, 3, 3] = np.nan
    with pytest.raises(ValueError, match="Row 1, column 'file' .*not finite"):
        load_nyud2(file)[0].arrays()
    train, _ = load_nyud2(file, on_error="missing")
    mask = train.arrays()[0]["modality_mask"]
    assert mask.tolist() == [[1, 1], [1, 0], [1, 1]]


def test_pictures_of_no_part_are_counted(tmp_path):
    write_file(tmp_path)
    write_split(tmp_path, (1, 2), (3, 4))
    message = r"without 2 row\(s\) in neither part of the split, .*'picture 5'"
    with pytest.warns(UserWarning, match=message):
        load_nyud2(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": None}, "no 'images'"),
        ({"sceneTypes": None}, "no 'sceneTypes'"),
        ({"sceneTypes": np.zeros((1, 6))}, "not references"),
        ({"depths": np.zeros((6, 24, 32))}, r"of \(6, 24, 32\)"),
        ({"images": np.zeros((6, 32, 24, 3))}, "not .N, 3, W, H"),
        ({"images": np.zeros((5, 3, 32, 24))}, "6 scene types"),
        ({"#refs#/2": None}, "as published"),
        ({"#refs#/2": np.zeros((999, 1), "uint16")}, "which is no name"),
    ],
)
def test_another_hdf5_file_is_refused(tmp_path, changes, match):
    file = write_file(tmp_path, **changes)
    write_split(tmp_path)
    with pytest.raises(ValueError, match=match) as error:
        load_nyud2(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path):
    file = write_text(tmp_path / nyud2.FILE, "no HDF5" * 100)
    with pytest.raises(ValueError, match="must be the labeled part of NYU"):
        load_nyud2(tmp_path)
    # MATLAB's format of before.
    scipy_io.savemat(file, {"images": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="must be the labeled part of NYU"):
        load_nyud2(tmp_path)
    cut(write_file(tmp_path))
    with pytest.raises(ValueError, match="must be the labeled part of NYU"):
        load_nyud2(tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "match"),
    [
        ((0, 1), (2,), "0 to 1 in 'trainNdxs', not whole numbers from 1 to 6"),
        ((1,), (7,), "7 to 7 in 'testNdxs'"),
        ((1, 1), (2,), "a picture twice in 'trainNdxs'"),
        ((1, 2), (2,), "picture 2 in both parts"),
        ((), (2,), "0 of"),
    ],
)
def test_another_split_is_refused(tmp_path, train, test, match):
    write_file(tmp_path)
    write_split(tmp_path, train, test)
    with pytest.raises(ValueError, match=match):
        load_nyud2(tmp_path)


def test_a_split_that_lacks_or_is_none_is_refused(tmp_path):
    write_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="get it from http"):
        load_nyud2(tmp_path)
    scipy_io.savemat(tmp_path / nyud2.SPLIT, {"trainNdxs": [1]})
    with pytest.raises(ValueError, match="no variable 'testNdxs'"):
        load_nyud2(tmp_path)


# -- The peers' pictures -----------------------------------------------------


def test_halves_are_colours_and_depth(tmp_path):
    write_pictures(tmp_path)
    write_text(tmp_path / "train/bedroom/.hidden.png", "x")
    write_text(tmp_path / "train/Thumbs.db", "x")
    train, test = load_nyud2(tmp_path, preset="qmf")
    assert train.class_names == ["bedroom", "rest"]
    assert len(train.table) == len(test.table) == 4
    x, y = train.arrays()
    assert y.tolist() == [0, 0, 1, 1]
    for n in range(4):
        np.testing.assert_allclose(x["image"][n] * 255, 50 * n, atol=0.01)
        colour = np.broadcast_to([250, 20, 200 - 10 * (n % 2)], (224, 224, 3))
        np.testing.assert_allclose(x["depth"][n] * 255, colour, atol=0.01)
    train, _ = load_nyud2(tmp_path)
    assert train.shapes["depth"] == (224, 224, 1)


def test_a_folder_val_is_the_validation_part(tmp_path):
    write_pictures(tmp_path / "nyud2_trecg", ("train", "val", "test"))
    archive = packed(tmp_path / "nyud2_trecg")
    tables = load_nyud2(archive)
    assert [t.table["file"][0].partition("/")[0] for t in tables] == [
        "train", "val", "test",
    ]  # fmt: skip


def test_one_picture_alone_is_no_pair(tmp_path):
    write_pictures(tmp_path)
    Image.new("RGB", (32, 24)).save(tmp_path / "train/rest/0.png")
    with pytest.raises(ValueError, match="32 x 24 pixels, not two pictures"):
        load_nyud2(tmp_path)[0].arrays()


def test_a_truncated_pair_lacks_both(tmp_path):
    write_pictures(tmp_path)
    cut(tmp_path / "test/rest/1.png")
    with pytest.raises(ValueError, match="Row 3, column 'file' .*1.png"):
        load_nyud2(tmp_path)[1].arrays()
    _, test = load_nyud2(tmp_path, on_error="missing")
    assert test.arrays()[0]["modality_mask"].tolist() == [[1, 1]] * 3 + [[0, 0]]


def test_a_class_of_test_alone_is_refused(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "test/rest").rename(tmp_path / "test/other")
    with pytest.raises(ValueError, match="Received: 'other' in row 2"):
        load_nyud2(tmp_path)


def test_folders_that_lack_pictures_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="'train' and 'test'; get"):
        load_nyud2(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match="must hold '<class>/<name>.png'"):
        load_nyud2(tmp_path)
    with pytest.raises(ValueError, match="`splits` and `classes` must be left"):
        load_nyud2(tmp_path, classes="all")


def test_media_of_ones_own_say_what_each_half_becomes(tmp_path):
    class Own(media.Image):
        pass

    write_pictures(tmp_path)
    own = {
        "depth": media.Image("depth", size=4, channels=1, pixels="uint8"),
        "both": Own("file", size=(8, 16)),
    }
    train, _ = load_nyud2(tmp_path, preset=own)
    x, _ = train.arrays()
    assert x["depth"].shape == (4, 4, 4, 1) and x["depth"].dtype == "uint8"
    assert x["both"].shape == (4, 8, 16, 3)
    np.testing.assert_allclose(x["both"][0, :, -1, 0] * 255, 250, atol=0.1)


@pytest.mark.parametrize("columns", [nyud2.HALVES, nyud2.STORED])
def test_media_are_saved_with_what_they_say(columns):
    for medium in nyud2._media("crop", columns).values():
        kind = type(medium)
        made = kind.from_config(medium.get_config())
        assert kind is not media.Image and isinstance(made, media.Image)
        assert made.get_config() == medium.get_config()
        assert made.columns == medium.columns
        assert made.shape == medium.shape == (224, 224, made.channels)
