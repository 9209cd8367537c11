"""MVSA-Single: two customs of its labels, encodings of texts, broken ones."""

import json
import re

import numpy as np
import pytest

from keras_mmrel.datasets import load_mvsa
from tests.datasets.raw_files import cut
from tests.datasets.raw_files import packed
from tests.datasets.raw_files import published
from tests.datasets.raw_files import write_picture
from tests.datasets.raw_files import write_text

pytestmark = pytest.mark.one_backend

HEADER = "ID\ttext,image\n"
# Ten pairs of each label, one of which is merged, and two opposite ones.
LABELS = [
    *[f"{n},{n}" for n in ("positive", "negative", "neutral") for _ in "x" * 9],
    "positive,neutral",
    "neutral,negative",
    "neutral,neutral",
    "negative,positive",
    "positive,negative",
]
OPPOSITE = "MVSA-Single without 2 row(s) whose two labels are opposite"


def write_mvsa(folder, text=None, header=HEADER):
    rows = "".join(f"{n}\t{pair}\n" for n, pair in enumerate(LABELS, 1))
    write_text(folder / "labelResultAll.txt", header + (text or rows))
    for n in range(1, len(LABELS) + 1):
        write_picture(folder / f"data/{n}.jpg", (8 * n % 256, 0, 0), (8, 8))
        write_text(folder / f"data/{n}.txt", f"tweet {n}\r\n")
    return folder


def counted(message):
    return pytest.warns(UserWarning, match=re.escape(message))


def counts(tables):
    """How many of each class in all tables."""
    total = sum(np.bincount(t.labels, minlength=3) for t in tables)
    return dict(zip(tables[0].class_names, total.tolist(), strict=True))


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """The published labels, with one picture and one text for all."""
    folder = tmp_path_factory.mktemp("mvsa")
    labels = published("splits/mvsa_single/labelResultAll.txt")
    (folder / "labelResultAll.txt").write_bytes(labels.read_bytes())
    write_picture(folder / "a.jpg")
    write_text(folder / "a.txt", "a")
    (folder / "data").mkdir()
    for number in range(1, 5200):
        for kind in ("jpg", "txt"):
            (folder / f"data/{number}.{kind}").symlink_to(folder / f"a.{kind}")
    return folder


@pytest.mark.parametrize(
    ("labels", "dropped", "expected"),
    [
        (
            "merge",
            "358 row(s) whose two labels are opposite",
            {"negative": 1358, "neutral": 470, "positive": 2683},
        ),
        (
            "agree",
            "2,277 row(s) whose two labels differ",
            {"negative": 724, "neutral": 470, "positive": 1398},
        ),
    ],
)
def test_the_published_labels_give_the_counts_of_each_custom(
    annotated, labels, dropped, expected
):
    with counted(dropped):
        tables = load_mvsa(annotated, labels=labels, length=2)
    assert counts(tables) == expected
    sizes = [len(t.table) for t in tables]
    total = sum(expected.values())
    np.testing.assert_allclose(
        np.divide(sizes, total), [0.6, 0.2, 0.2], atol=1e-3
    )
    # QMF's parts of the second custom are of these sizes, to one or two.
    if labels == "agree":
        np.testing.assert_allclose(sizes, [1555, 518, 519], atol=2)
    samples = [set(t.table["id"]) for t in tables]
    assert len(set.union(*samples)) == total


def test_parts_are_stratified_and_always_the_same(tmp_path):
    with counted(OPPOSITE):
        first = load_mvsa(write_mvsa(tmp_path / "a"))
    with counted(OPPOSITE):
        again = load_mvsa(write_mvsa(tmp_path / "b"), seed=3)
    for one, other in zip(first, again, strict=True):
        assert one.table["id"].tolist() == other.table["id"].tolist()
    shares = [np.bincount(t.labels).tolist() for t in first]
    assert shares == [[6, 6, 6], [2, 2, 2], [2, 2, 2]]
    assert first[0].class_names == ["negative", "neutral", "positive"]
    assert [t.shuffle for t in first] == [True, False, False]


def test_a_file_that_is_not_there_moves_no_other_sample(tmp_path):
    with counted(OPPOSITE):
        whole = load_mvsa(write_mvsa(tmp_path))
    gone = whole[0].table["id"][0]
    half = whole[1].table["id"][0]
    (tmp_path / f"data/{gone}.jpg").unlink()
    (tmp_path / f"data/{gone}.txt").unlink()
    (tmp_path / f"data/{half}.txt").unlink()
    with counted(
        f"1 row(s) of the training part without any file, such as '{gone}'"
    ):
        with counted("1 of 6 files of modality 'text' are not there"):
            some = load_mvsa(tmp_path)
    for name, one, other in zip("abc", whole, some, strict=True):
        ids = one.table["id"].tolist()
        expected = ids[1:] if name == "a" else ids
        assert other.table["id"].tolist() == expected
    assert some[1].missing == {"image": 0, "text": 1}
    assert some[1].arrays()[0]["modality_mask"][0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "caf\xe9 \u4e2d"),
        ("utf-8-sig", "caf\xe9"),
        ("gb18030", "\u4e2d\u6587 good"),
        ("latin-1", "caf\xe9"),
    ],
)
def test_texts_are_read_in_the_first_encoding_that_fits(
    tmp_path, encoding, text
):
    write_mvsa(tmp_path)
    with counted(OPPOSITE):
        number = load_mvsa(tmp_path)[0].table["id"][0]
    write_text(tmp_path / f"data/{number}.txt", text, encoding)
    with counted(OPPOSITE):
        train, _, _ = load_mvsa(tmp_path, tokenizer=lambda t: list(map(ord, t)))
    x, _ = train.arrays()
    ids = x["text"]["token_ids"][0]
    assert "".join(map(chr, ids[ids > 0])) == text


def test_qmfs_files_say_the_parts(tmp_path):
    write_mvsa(tmp_path)
    parts = {"train": [1, 2, 10, "19"], "dev": [11], "test": [20, 3]}
    for name, ids in parts.items():
        rows = [json.dumps({"id": n, "text": "\u2028 a"}) for n in ids]
        write_text(tmp_path / f"{name}.jsonl", "\n".join(rows) + "\n")
    with counted("21 row(s) in none of the `splits`, such as '4'"):
        tables = load_mvsa(tmp_path, labels="agree", splits=tmp_path)
    assert [t.table["id"].tolist() for t in tables] == [
        [str(n) for n in ids] for ids in parts.values()
    ]
    write_text(tmp_path / "dev.jsonl", '{"id": 28}')
    with pytest.raises(ValueError, match="'28' in line 1 of .*without a label"):
        load_mvsa(tmp_path, labels="agree", splits=tmp_path)
    write_text(tmp_path / "dev.jsonl", '\n{"id": 1}')
    with pytest.raises(ValueError, match="'1' in line 2 of .*named before"):
        load_mvsa(tmp_path, splits=tmp_path)
    write_text(tmp_path / "dev.jsonl", '{"id": true}')
    with pytest.raises(ValueError, match="Line 1 of .*JSON object with 'id'"):
        load_mvsa(tmp_path, splits=tmp_path)
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"dev.jsonl must be there"):
        load_mvsa(tmp_path, splits=tmp_path)


@pytest.mark.parametrize(
    ("text", "header", "match"),
    [
        (None, "ID,text,image\n", "Line 1 of .*1 cells"),
        (None, "ID\ttext\timage\n", "Line 1 of .*3 cells"),
        ("one\tneutral,neutral\n", HEADER, "Line 2 of .*'one' in the place"),
        ("1\tneutral\n", HEADER, "'neutral', not two labels"),
        ("1\tgood,neutral\n", HEADER, "'good,neutral', not two labels"),
        ("\n\n", HEADER, "must hold a row"),
        (
            "1\tneutral,neutral\n1\tneutral,positive\n",
            HEADER,
            "'1' with 'neutral' and 'positive'",
        ),
    ],
)
def test_wrong_labels_are_refused_by_their_line(tmp_path, text, header, match):
    write_mvsa(tmp_path, text, header)
    with pytest.raises(ValueError, match=match):
        load_mvsa(tmp_path)


def test_a_pair_twice_is_counted(tmp_path):
    rows = "".join(f"{n}\t{pair}\n" for n, pair in enumerate(LABELS, 1))
    write_mvsa(tmp_path, rows + rows[: rows.index("\n") + 1])
    with counted(
        "1 row(s) that are in the annotated part already, such as '1'"
    ):
        assert sum(len(t.table) for t in load_mvsa(tmp_path)) == 30


def test_what_is_not_there_is_named(tmp_path):
    write_mvsa(tmp_path / "MVSA_Single")
    with counted(OPPOSITE):
        load_mvsa(tmp_path)
    with pytest.raises(FileNotFoundError, match="without 'data'"):
        (tmp_path / "MVSA_Single/data").rename(tmp_path / "other")
        load_mvsa(tmp_path / "MVSA_Single")
    archive = write_text(tmp_path / "MVSA-Single.zip", "x")
    with pytest.raises(ValueError, match="must be a whole ZIP or TAR archive"):
        load_mvsa(archive)
    (tmp_path / "MVSA_Single/data").mkdir()
    with pytest.raises(ValueError, match="training part must have a row whose"):
        load_mvsa(tmp_path)


def test_the_archive_is_unpacked_once(tmp_path, capsys):
    archive = packed(write_mvsa(tmp_path / "MVSA_Single"))
    for _ in range(2):
        with counted(OPPOSITE):
            assert [len(t.table) for t in load_mvsa(archive)] == [18, 6, 6]
    assert capsys.readouterr().out.count("Unpacking") == 1


def test_a_truncated_picture_is_named_or_counted(tmp_path):
    write_mvsa(tmp_path)
    with counted(OPPOSITE):
        number = load_mvsa(tmp_path)[2].table["id"][0]
    cut(tmp_path / f"data/{number}.jpg")
    with counted(OPPOSITE):
        test = load_mvsa(tmp_path)[2]
    with pytest.raises(
        ValueError, match=f"Row 0, column 'image'.*{number}.jpg"
    ):
        test.arrays()
    with counted(OPPOSITE):
        test = load_mvsa(tmp_path, on_error="missing", workers=2)[2]
    assert test.arrays()[0]["modality_mask"][0].tolist() == [0, 1]
