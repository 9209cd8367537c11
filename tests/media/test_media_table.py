"""A table of files, texts and numbers as batches and as arrays."""

import pickle
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import keras_mmrel
from keras_mmrel import media
from tests.media.files import RATE
from tests.media.files import tone
from tests.media.files import write_wav

pytestmark = pytest.mark.one_backend

NAMES = [f"row {i},é" for i in range(7)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for index, name in enumerate(NAMES):
        write_wav(folder / f"{name}.wav", tone(0.1, 100 * (index + 1)))
        grey = np.full((6, 6), 10 * index, "uint8")
        Pillow.fromarray(grey).save(folder / f"{name}.png")
    (folder / "broken.wav").write_bytes(b"RIFF....WAVE")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    return folder


def frame(**columns):
    table = pd.DataFrame(
        {
            "wav": [f"{name}.wav" for name in NAMES],
            "png": [f"{name}.png" for name in NAMES],
            "text": list("abcdefg"),
            "age": np.arange(7.0),
            "label": ["no", "yes", "maybe", "no", "yes", "yes", "no"],
        }
    )
    return table.assign(**columns)


def modalities():
    return {
        "sound": media.Audio("wav", sample_rate=RATE, seconds=0.1),
        "image": media.Image("png", size=4, pixels="uint8"),
        "text": media.Text("text", tokenizer=str.encode, length=2),
        "clinic": media.Tabular(["age"]),
    }


def make(folder, table=None, **options):
    table = frame() if table is None else table
    options = {"label": "label", "root": folder, "batch_size": 3, **options}
    return media.MediaTable(table, modalities(), **options)


def joined(batches):
    parts = list(batches)
    return keras.tree.map_structure(lambda *v: np.concatenate(v), *parts)


def assert_same(first, second):
    keras.tree.map_structure(np.testing.assert_array_equal, first, second)


def test_batches_are_the_rows_of_the_arrays(folder):
    data = make(folder, workers=2)
    assert len(data) == 3 and [len(y) for _, y in data] == [3, 3, 1]
    x, y = data.arrays()
    assert_same(joined(data), (x, y))
    assert data.class_names == ["maybe", "no", "yes"] and data.num_classes == 3
    assert y.tolist() == [1, 2, 0, 1, 2, 2, 1] and y.dtype == np.int32
    assert list(x) == [*data.modalities, "modality_mask"]
    assert x["modality_mask"].tolist() == [[1] * 4] * 7
    assert x["image"][:, 0, 0, 0].tolist() == [10 * i for i in range(7)]
    assert x["sound"].shape == (7, 800) == (7, *data.shapes["sound"])
    assert {k: v.dtype for k, v in x["text"].items()} == {
        "token_ids": np.int32,
        "padding_mask": np.bool_,
    }
    with pytest.raises(IndexError):
        data[3]


def test_a_csv_file_is_read_beside_its_files(folder, tmp_path):
    path = folder / "ä table.csv"
    cells = frame(text=["NA", "null", *"cdefg"], label=["None"] * 3 + ["b"] * 4)
    cells.loc[2, "wav"] = None
    cells.to_csv(path, index=False)
    data = media.MediaTable(path, modalities(), label="label")
    assert data.missing == {"sound": 1, "image": 0, "text": 0, "clinic": 0}
    assert data.class_names == ["None", "b"]
    x, _ = data.arrays()
    assert x["text"]["token_ids"][0].tolist() == [ord("N"), ord("A")]
    with pytest.raises(FileNotFoundError, match="does not exist"):
        media.MediaTable(tmp_path / "no.csv", modalities())


def test_what_is_not_there_is_a_missing_modality(folder):
    table = frame(
        wav=["", None, "gone.wav", *frame()["wav"][3:]],
        text=[None, " ", *"cdefg"],
        age=[np.nan, *range(6)],
    )
    with pytest.warns(UserWarning, match="1 of 7 files of modality 'sound'"):
        data = make(folder, table)
    assert data.missing == {"sound": 3, "image": 0, "text": 2, "clinic": 1}
    x, _ = data.arrays()
    assert x["modality_mask"][:4].tolist() == [
        [0, 1, 0, 0],
        [0, 1, 0, 1],
        [0, 1, 1, 1],
        [1, 1, 1, 1],
    ]
    assert (x["sound"][:3] == 0).all() and x["sound"][3].any()
    assert (x["text"]["token_ids"][:2] == 0).all() and x["clinic"][0] == 0
    assert data.unreadable == []
    assert_same(joined(data)[0], x)


def test_a_table_none_of_whose_files_is_there_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="`root` names the folder.*6 more"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("column", "file", "reason"),
    [
        ("wav", "broken.wav", "truncated"),
        ("png", "empty.png", "empty file"),
        ("png", "folder.png", "folder"),
        ("png", "broken.wav", "no picture"),
    ],
)
def test_an_unreadable_file_is_named_or_counted(folder, column, file, reason):
    table = frame().set_index(pd.Index([f"id{i}" for i in range(7)]))
    table.iloc[4, table.columns.get_loc(column)] = file
    data = make(folder, table)
    data[0]
    text = f"Row 'id4', column '{column}' must .*{file}.*{reason}"
    with pytest.raises(ValueError, match=text):
        data[1]
    with pytest.raises(ValueError, match=text):
        data.arrays()
    data = make(folder, table, on_error="missing", workers=2)
    assert data.unreadable == []
    x, _ = data.arrays()
    place = ["wav", "png"].index(column)
    assert x["modality_mask"][4, place] == 0 and x["modality_mask"].sum() == 27
    assert (x[list(data.modalities)[place]][4] == 0).all()
    # The same again is not counted again, nor is a copy's own.
    pickle.loads(pickle.dumps(data))[1]
    [(row, where, path, why)] = data.unreadable
    assert (row, where) == (4, column)
    assert path.endswith(file) and reason in why
    assert set(data.missing.values()) == {0}


def test_files_of_texts_are_missing_or_unreadable_too(folder):
    (folder / "a.txt").write_text("hello")
    (folder / "b.txt").write_bytes(b"\xff\xfe\xff")
    table = pd.DataFrame({"t": ["a.txt", "b.txt", None]})
    texts = {
        "text": media.Text(
            "t", tokenizer=str.encode, files=True, encodings=["utf-8"]
        )
    }
    with pytest.raises(ValueError, match="Row 1, column 't'.*b.txt.*none of"):
        media.MediaTable(table, texts, root=folder)
    data = media.MediaTable(table, texts, root=folder, on_error="missing")
    assert data.missing == {"text": 1} and len(data.unreadable) == 1
    assert data.arrays()[0]["modality_mask"].ravel().tolist() == [1, 0, 0]


def order(data):
    return (joined(data)[0]["image"][:, 0, 0, 0] // 10).tolist()


def test_an_order_is_the_seeds_and_another_in_every_epoch(folder):
    data = make(folder, shuffle=True, seed=5)
    again = make(folder, shuffle=True, seed=5)
    orders = []
    for _ in range(3):
        orders.append(order(data))
        assert order(again) == orders[-1] and order(data) == orders[-1]
        data.on_epoch_end()
        again.on_epoch_end()
    assert len(set(map(tuple, orders))) == 3
    assert all(sorted(o) == list(range(7)) for o in orders)
    assert order(make(folder, shuffle=True, seed=6)) != orders[0]
    # Labels and texts go along.
    x, y = joined(data)
    labels = make(folder).labels
    assert (y == labels[x["image"][:, 0, 0, 0] // 10]).all()
    texts = x["text"]["token_ids"][:, 0] - ord("a")
    assert (texts == x["image"][:, 0, 0, 0] // 10).all()
    assert order(make(folder)) == list(range(7))


def test_what_is_drawn_depends_on_seed_epoch_and_row_alone(folder):
    def drawn(seed, **options):
        sound = media.Audio(
            "wav", sample_rate=RATE, seconds=0.02, start="random"
        )
        return media.MediaTable(
            frame(), {"sound": sound}, root=folder, seed=seed, **options
        )

    first = drawn(1).arrays()[0]["sound"]
    np.testing.assert_array_equal(
        joined(b for (b,) in drawn(1, batch_size=2))["sound"], first
    )
    other = drawn(1)
    other.on_epoch_end()
    for values in (drawn(2), other):
        assert (values.arrays()[0]["sound"] != first).any(axis=1).all()


def test_test_rows_are_read_as_training_rows_are(folder):
    train = make(folder, shuffle=True, workers=2)
    rows = frame(age=100.0, label="yes").iloc[:2]
    test = train.like(rows)
    assert not test.shuffle and test.class_names == train.class_names
    assert test.labels.tolist() == [2, 2] and test.workers == 2
    x, _ = test.arrays()
    ages = np.arange(7.0)
    expected = (100 - ages.mean()) / ages.std()
    np.testing.assert_allclose(x["clinic"], expected, rtol=1e-5)
    assert train.like(rows, label=None)[0][0]["image"].shape[0] == 2
    assert len(train.like(rows, label=None)[0]) == 1


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([0, 2, 1], None, [0, 2, 1]),
        ([0.0, 2.0, 1.0], None, [0, 2, 1]),
        (["b", "a", "b"], ["b", "a", "c"], [0, 1, 0]),
        ([1, 0, 1], ["x", "y"], [1, 0, 1]),
        ([True, False, True], None, [1, 0, 1]),
        ([3, 1, 2], ["1", "2", "3"], [2, 0, 1]),
        ([10, 5, 5], ["10", "5", "7"], [0, 1, 1]),
    ],
)
def test_labels_become_class_numbers(labels, names, numbers):
    data = labelled(labels, class_names=names)
    assert data.labels.tolist() == numbers
    if names:
        assert data.class_names == names
    assert data.num_classes == len(names or set(labels))


def labelled(labels, **options):
    table = pd.DataFrame({"age": [1.0, 2.0, 3.0], "y": labels})
    clinic = {"clinic": media.Tabular(["age"])}
    return media.MediaTable(table, clinic, label="y", **options)


@pytest.mark.parametrize(
    ("labels", "names", "text"),
    [
        (["a", None, "b"], None, "a label in every row.* in row 1"),
        (["a", " ", "b"], None, "a label in every row.* in row 1"),
        (["a", "b", "c"], ["a", "b"], "one of the classes.*'c' in row 2"),
        ([0, -1, 1], None, "class numbers in"),
        ([0, 2, 1], ["a", "b"], r"class numbers in \[0, 2\)"),
        ([1, 3, 2], None, r"from 0 on.*=\['1', '2', '3'\].* 3 numbers from 1"),
        ([2, 2, 2], None, "`like` of a table .* 1 numbers from 2 to 2"),
        ([1, 3, 4], ["1", "2", "3"], "one of the classes.*4 in row 2"),
    ],
)
def test_a_label_that_is_no_class_is_refused(labels, names, text):
    with pytest.raises(ValueError, match=text):
        labelled(labels, class_names=names)


def test_numbers_of_a_few_rows_mean_what_they_mean_in_all():
    train = labelled([0, 2, 1])
    rows = pd.DataFrame({"age": [1.0, 2.0], "y": [2, 1]})
    assert train.like(rows).labels.tolist() == [2, 1]
    assert train.like(rows, batch_size=1)[1][1].tolist() == [1]
    with pytest.raises(ValueError, match="the column 'y', once"):
        train.like(rows[["age"]])
    with pytest.warns(UserWarning, match="no row of 1 classes .* as 1"):
        assert labelled([0, 2, 0]).num_classes == 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"table": [1]}, "must be a pandas.DataFrame"),
        ({"table": frame().iloc[:0]}, "must have a row"),
        ({"modalities": {}}, "must be a dict of names to media"),
        ({"modalities": {"a": (3,)}}, "must be a medium"),
        ({"modalities": {"modality_mask": media.Tabular(["age"])}}, "as names"),
        ({"modalities": {"a": media.Tabular(["no"])}}, "the column 'no', once"),
        ({"label": "no"}, "the column 'no', once"),
    ],
)
def test_what_makes_no_table_is_refused(change, text):
    arguments = {"table": frame(), "modalities": {"a": media.Tabular(["age"])}}
    with pytest.raises(ValueError, match=text):
        media.MediaTable(**{**arguments, **change})


def test_a_transform_makes_another_array_of_one_shape(folder):
    def halves(values):
        return values.reshape(2, -1).mean(axis=1)

    sound = media.Audio("wav", sample_rate=RATE, seconds=0.1, transform=halves)
    data = media.MediaTable(frame(), {"sound": sound}, root=folder)
    assert data.shapes == {"sound": (2,)}
    assert data.arrays()[0]["sound"].shape == (7, 2)
    # What is wrong with it is no file's fault.
    wrong = media.Audio(
        "wav", sample_rate=RATE, seconds=0.1, transform=lambda v: v[v != 0]
    )
    data = media.MediaTable(
        frame(), {"sound": wrong}, root=folder, on_error="missing"
    )
    with pytest.raises(ValueError, match="`transform` must return one shape"):
        data.arrays()


def test_a_file_whose_package_lacks_is_not_counted_as_missing(
    folder, monkeypatch
):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    data = make(folder, on_error="missing")
    with pytest.raises(ImportError, match=r"needs soundfile: .*\[media\]"):
        data[0]


def test_media_are_saved_and_made_again():
    for name, medium in {
        **modalities(),
        "clip": media.Video("v", frames=2, size=(4, 6), start="s"),
        "array": media.Array("a", shape=(2, 3)),
    }.items():
        if name == "text":
            medium.tokenizer = keras.layers.TextVectorization()
        config = keras.saving.serialize_keras_object(medium)
        again = keras.saving.deserialize_keras_object(config)
        assert type(again) is type(medium)
        assert again.columns == medium.columns
        if name != "text":
            assert again.get_config() == medium.get_config()
            assert name == "clinic" or again.shape == medium.shape


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("state,note\n1,hello, world\n0,good, morning\n", "3 cells in line 2"),
        ("age,state\n30,0,\n50,1,\n", "3 cells in line 2 for 2 columns"),
        ("age,state\n30,0\n50\n", "1 cells in line 3 for 2 columns"),
        ("age,age\n30,0\n", "the column 'age' twice"),
        ('age,state\n30,"0\n50,1\n', "1 cells in line|2 cells|EOF"),
    ],
)
def test_a_file_whose_lines_are_not_those_of_its_header_is_refused(
    tmp_path, lines, expected
):
    path = tmp_path / "t.csv"
    path.write_text(lines)
    with pytest.raises(ValueError, match=expected):
        media.MediaTable(path, {"age": media.Tabular(["age"])}, "state")


def test_commas_and_lines_in_quotes_are_no_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('note,state\n"a, b\nc",0\n\n"d",1\n')
    text = media.Text("note", tokenizer=str.encode, length=6)
    data = media.MediaTable(path, {"note": text}, "state")
    assert data.table["note"].tolist() == ["a, b\nc", "d"]
    assert data.labels.tolist() == [0, 1]


def test_what_predict_asks_for_is_in_the_order_of_the_table(folder):
    data = make(folder, shuffle=True, seed=0)
    ages = make(folder).arrays()[0]["clinic"]
    shuffled = np.concatenate([data[i][0]["clinic"] for i in range(len(data))])
    assert (shuffled != ages).any()
    plain = data.in_order()
    found = np.concatenate([plain[i][0]["clinic"] for i in range(len(plain))])
    np.testing.assert_array_equal(found, ages)
    assert data.shuffle and plain.in_order() is plain
    model = keras_mmrel.LateFusion({"clinic": (1,)}, 3, seed=0)
    some = media.MediaTable(
        frame(), {"clinic": data.modalities["clinic"]}, shuffle=True, seed=1
    )
    logits = model.predict(some, verbose=0)["logits"]
    expected = model.predict({"clinic": ages}, verbose=0)["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_what_counts_as_missing_is_told_once(folder):
    table = frame(wav=["broken.wav", *[f"{n}.wav" for n in NAMES[1:]]])
    data = make(folder, table, on_error="missing")
    with pytest.warns(UserWarning, match=r"1 file\(s\) could not be read"):
        data.arrays()
    for index in range(len(data)):
        data[index]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.on_epoch_end()


def test_labels_that_are_measurements_are_refused(folder):
    with pytest.raises(ValueError, match="names or whole numbers of classes"):
        make(folder, frame(label=np.linspace(0, 1, 7)))
    named = make(folder, frame(label=[0.5, 1.5] * 3 + [0.5]),
                 class_names=["0.5", "1.5"])  # fmt: skip
    assert named.labels.tolist() == [0, 1] * 3 + [0]


def test_a_cell_that_says_no_second_is_named(folder):
    sound = media.Audio("wav", sample_rate=RATE, seconds=0.1, start="from")
    data = media.MediaTable(
        frame(**{"from": ["0", "x", *"00000"]}), {"sound": sound}, root=folder
    )
    expected = "^Row 1, column 'from' must hold seconds.*Received: 'x'$"
    with pytest.raises(ValueError, match=expected):
        data.arrays()
