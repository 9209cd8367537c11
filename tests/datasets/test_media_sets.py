"""What the loaders of raw data sets share, on files that are as they say."""

import inspect

import numpy as np
import pytest

from keras_mmrel.datasets import _media_sets
from keras_mmrel.datasets._media_sets import Dropped
from keras_mmrel.datasets._media_sets import RawSet
from keras_mmrel.datasets._media_sets import drop_absent
from keras_mmrel.datasets._media_sets import drop_repeated
from keras_mmrel.datasets._media_sets import make_tables
from keras_mmrel.datasets._media_sets import read_rows
from keras_mmrel.media import Array
from keras_mmrel.media import MediaTable

pytestmark = pytest.mark.one_backend

SET = RawSet("Some Set", "clone example.org/some")


def written(folder, content):
    file = folder / "rows.csv"
    file.write_bytes(content)
    return file


def test_options_are_those_of_the_table():
    own = {"self", "table", "modalities", "label", "root", "class_names"}
    taken = set(inspect.signature(MediaTable).parameters) - own
    assert set(_media_sets.TableOptions.__annotations__) == taken


def test_a_folder_is_found_by_what_it_holds(tmp_path):
    inner = tmp_path / "Some-master"
    (inner / "wav").mkdir(parents=True)
    (inner / "labels.csv").touch()
    holds = ("wav|flac", "labels.csv")
    assert SET.folder(inner, holds) == inner
    assert SET.folder(str(tmp_path), holds, ("Some-master",)) == inner
    with pytest.raises(FileNotFoundError) as error:
        SET.folder(inner, ("mp4|flv", "labels.csv"))
    assert str(error.value) == (
        "`path` must be the folder of Some Set with 'mp4' or 'flv' and "
        f"'labels.csv'; clone example.org/some. Received: path={str(inner)!r}, "
        "without 'mp4' or 'flv'"
    )
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        SET.folder(tmp_path / "nowhere", holds)
    archive = tmp_path / "some.zip"
    archive.touch()
    with pytest.raises(FileNotFoundError, match="an archive: unpack it"):
        SET.folder(archive, holds)


def test_rows_are_read_with_and_without_a_header(tmp_path):
    columns, headers = ("id", "title", "class"), [("id", "text", "label")]
    expected = [
        {"id": "a", "title": "soup, hot", "class": "x"},
        {"id": "b", "title": 'so-called "pie"', "class": "y"},
    ]
    quoted = b'a,"soup, hot",x\r\n\r\nb,"so-called ""pie""",y'
    for start in (b"", b"\xef\xbb\xbf", b"ID,Text,label\n"):
        file = written(tmp_path, start + quoted)
        options = {"quoted": True, "headers": headers}
        assert read_rows(file, columns, dict, **options) == expected
    wide = b'a,soup, hot,x\nb,so-called "pie",y\n'
    file = written(tmp_path, wide)
    assert read_rows(file, columns, dict, wide="title") == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,1\nb;2\n", r"Line 2 of .*rows.csv must hold id,n .* 1 cells"),
        (b"a,1\n\nb,c\n", "Line 3 of .* invalid literal"),
        (b"id;n\n", "Line 1 of "),
        (b"\n\n", "must hold a row"),
        (b"a,1\nb\xff,2\n", "must be text in utf-8-sig.*bytes in line 2"),
        (b'a,"1\nb,2', "Line 2 of .* '1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, content, expected):
    file = written(tmp_path, content)
    with pytest.raises(ValueError, match=expected):
        read_rows(
            file, ("id", "n"), lambda row: int(row["n"]), quoted=b'"' in content
        )
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_rows(tmp_path / "other.csv", ("id",), dict)


def test_encodings_are_tried_in_order(tmp_path):
    file = written(tmp_path, "a,\u4e2d".encode("gb18030"))
    encodings = ("utf-8-sig", "gb18030")
    rows = read_rows(file, ("id", "text"), dict, encodings=encodings)
    assert rows == [{"id": "a", "text": "\u4e2d"}]


def test_a_file_of_another_kind_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_media_sets, "LIMIT", 3)
    with pytest.raises(ValueError, match="at most 3 bytes. Received: 4 bytes"):
        read_rows(written(tmp_path, b"a,b\n"), ("id", "n"), dict)


def test_repeated_rows_are_counted_and_contradictions_refused():
    rows = [{"id": "a", "y": 0}, {"id": "b", "y": 1}, {"id": "a", "y": 0}]
    dropped = Dropped("Some Set")
    assert drop_repeated(rows, "id", "y", "training", dropped) == rows[:2]
    message = (
        "Some Set without 1 row\\(s\\) that are in the training part already, "
        "such as 'a'."
    )
    with pytest.warns(UserWarning, match=message):
        dropped.warn()
    rows[2]["y"] = 1
    with pytest.raises(ValueError, match="'a' with 0 and 1"):
        drop_repeated(rows, "id", "y", "training", dropped)


def test_tables_keep_what_has_one_file_and_shuffle_the_first(tmp_path):
    for name in ("a1", "a2", "b1", "c1", "c2"):
        np.save(tmp_path / f"{name}.npy", np.ones(2, "float32"))
    rows = [
        {"id": i, "one": f"{i}1.npy", "two": f"{i}2.npy", "y": "no"[k % 2]}
        for k, i in enumerate("abcd")
    ]
    dropped = Dropped("Some Set")
    files = ("one", "two")
    kept = drop_absent(rows, "id", files, tmp_path, "training", dropped)
    assert [row["id"] for row in kept] == ["a", "b", "c"]
    with pytest.warns(UserWarning, match="without any file, such as 'd'"):
        dropped.warn()
    with pytest.raises(ValueError, match=r"1 row\(s\) without any"):
        drop_absent(rows[3:], "id", files, tmp_path, "test", dropped)
    modalities = {name: Array(name, shape=(2,)) for name in files}
    make = {"label": "y", "class_names": None, "root": tmp_path}
    with pytest.warns(UserWarning, match="1 of 3 files of modality 'two'"):
        train, test = make_tables(
            [kept, kept[:1]], modalities, options={"batch_size": 2}, **make
        )
    assert train.shuffle and not test.shuffle and test.batch_size == 2
    assert train.class_names == test.class_names == ["n", "o"]
    x, y = train.arrays()
    assert x["modality_mask"].tolist() == [[1, 1], [1, 0], [1, 1]]
    assert y.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="perhaps `batch_size` is meant"):
        make_tables([kept], modalities, options={"batch_sise": 2}, **make)
