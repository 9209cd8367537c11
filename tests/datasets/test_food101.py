"""UPMC FOOD101: two customs of its titles, its folders, and broken ones."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from keras_mmrel import media
from keras_mmrel.datasets import load_food101
from keras_mmrel.datasets._image_text import strip_tweet
from tests.datasets.raw_files import cut
from tests.datasets.raw_files import packed
from tests.datasets.raw_files import published
from tests.datasets.raw_files import write_picture
from tests.datasets.raw_files import write_text

pytestmark = pytest.mark.one_backend

CLASSES = ("apple_pie", "ramen")
HEADER = "Image_path,text,label\n"
TITLES = {
    "apple_pie_0.jpg": '"Apple pie, the ""best"" one"',
    "apple_pie_1.jpg": "Pie",
    "ramen_0.jpg": "RT #ramen at home http://a.b/c and more",
    "ramen_1.jpg": '"  "',
}


def lines(titles, label=lambda file: file.rpartition("_")[0]):
    return "".join(f"{f},{t},{label(f)}\n" for f, t in titles.items())


def write_food(folder, train=None, test=None):
    for part, text in (("train", train), ("test", test)):
        for file in TITLES:
            write_picture(
                folder / "images" / part / file.rpartition("_")[0] / file,
                (0, 0, 200) if "ramen" in file else (200, 0, 0),
            )
        content = lines(TITLES) if text is None else text
        write_text(folder / f"texts/{part}_titles.csv", content)
    return folder


@pytest.mark.parametrize("header", ["", HEADER, "\ufeff" + HEADER])
def test_titles_are_read_with_and_without_a_header(tmp_path, header):
    write_food(tmp_path, train=header + lines(TITLES))
    train, test = load_food101(tmp_path, tokenizer=str.encode, length=40)
    assert train.class_names == list(CLASSES)
    assert train.table["text"].tolist() == [
        'Apple pie, the "best" one',
        "Pie",
        "RT #ramen at home http://a.b/c and more",
        "",
    ]
    x, y = train.arrays()
    assert y.tolist() == [0, 0, 1, 1]
    # A row without a title has its picture.
    assert x["modality_mask"].tolist() == [[1, 1], [1, 1], [1, 1], [1, 0]]
    assert x["image"].shape == (4, 224, 224, 3)
    colour = np.array([0, 0, 200]) / 255
    np.testing.assert_allclose(x["image"][2, 0, 0], colour, atol=0.02)
    assert test.num_classes == 2 and len(test.table) == 4


def test_titles_without_quotes_may_hold_commas_and_paths_be_whole(tmp_path):
    train = "images/train/ramen/ramen_0.jpg,Ramen, hot, and miso,ramen\n"
    latin = (train + "apple_pie_0.jpg,p\xe2t\xe9,apple_pie\n").encode("latin-1")
    write_food(tmp_path)
    (tmp_path / "texts/train_titles.csv").write_bytes(latin)
    train, _ = load_food101(tmp_path)
    assert train.table["text"].tolist() == [
        "Ramen, hot, and miso",
        "p\xe2t\xe9",
    ]
    assert train.missing == {"image": 0, "text": 0}


def test_presets_are_the_peers(tmp_path):
    write_food(tmp_path)
    # Wider than high, dark at both ends and bright in the middle.
    file = tmp_path / "images/train/ramen/ramen_0.jpg"
    pixels = np.zeros((64, 128, 3), "uint8")
    pixels[:, 32:96] = 255

    Image.fromarray(pixels).save(file, quality=95)
    qmf, _ = load_food101(tmp_path)
    assert qmf.shapes["text"]["token_ids"] == (64,)
    image = qmf.arrays()[0]["image"][2]
    # The middle square alone, without an eighth at each of its sides.
    assert image.min() > 0.9
    other, _ = load_food101(tmp_path, preset="balancebenchmark")
    x, _ = other.arrays()
    image = x["image"][2, 112, :, 0]
    assert (image[:50] < 0.1).all() and (image[62:160] > 0.9).all()
    words = media.HashingTokenizer()
    expected = words("ramen at home")
    assert x["text"]["token_ids"].shape == (4, 40)
    assert x["text"]["token_ids"][2, : len(expected) + 1].tolist() == [
        *expected,
        0,
    ]
    assert strip_tweet("aRT RT #1 http:") == "aRT RT 1 http:"
    assert strip_tweet("RT  a https://x y\nb") == "a \nb"


def test_a_title_of_nothing_but_a_link_is_missing(tmp_path):
    titles = {**TITLES, "apple_pie_1.jpg": "https://a.b/c.html"}
    write_food(tmp_path, train=lines(titles))
    train, _ = load_food101(tmp_path, preset="balancebenchmark")
    assert train.missing == {"image": 0, "text": 2}


def test_qmfs_validation_part_is_taken_from_training(tmp_path):
    """The published file: 5,000 rows, of whose pictures none is read."""
    file = published("splits/food101/dev.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    text = "".join(f"{r['img']},{r['text']},{r['label']}\n" for r in rows)
    first = rows[0]["label"]
    more = "".join(f"{first}_x{n}.jpg,more,{first}\n" for n in range(3))
    write_text(tmp_path / "texts/train_titles.csv", text + more)
    write_text(tmp_path / "texts/test_titles.csv", f"a.jpg,t,{first}\n")
    for name in (rows[0]["img"], f"images/train/{first}/{first}_x1.jpg"):
        write_picture(tmp_path / name)
    write_picture(tmp_path / f"images/test/{first}/a.jpg")
    with pytest.warns(UserWarning, match="files of modality 'image'"):
        train, validation, test = load_food101(tmp_path, validation=file)
    assert [len(t.table) for t in (train, validation, test)] == [3, 5000, 1]
    assert train.num_classes == validation.num_classes == 101
    counts = Counter(validation.labels.tolist())
    assert len(counts) == 101 and sum(counts.values()) == 5000
    assert validation.missing == {"image": 4999, "text": 0}
    assert train.missing == {"image": 2, "text": 0}
    titles = validation.table.set_index("image")["text"]
    assert titles[rows[7]["img"]] == rows[7]["text"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"img": "images/test/ramen/ramen_0.jpg"}', "in line 1 of"),
        ('{"id": 3}', "Line 1 of .* must be a JSON object with 'img'"),
        ("no json", "Line 1 of .* must be a JSON object"),
        ("", "not all. Received: 0 of 4"),
    ],
)
def test_a_wrong_validation_file_is_refused(tmp_path, content, match):
    write_food(tmp_path)
    file = write_text(tmp_path / "dev.jsonl", content)
    with pytest.raises(ValueError, match=match):
        load_food101(tmp_path, validation=file)
    with pytest.raises(FileNotFoundError, match=r"other.jsonl must be there"):
        load_food101(tmp_path, validation=tmp_path / "other.jsonl")


def test_what_is_left_out_is_counted_and_said(tmp_path):
    titles = {**TITLES, "ramen_9.jpg": "no picture", "ramen_8.jpg": ""}
    text = lines(titles) + lines({"ramen_0.jpg": "again"})
    write_food(tmp_path, train=text)
    with pytest.warns(UserWarning) as warned:
        train, _ = load_food101(tmp_path)
    messages = [str(w.message) for w in warned]
    assert messages[0] == (
        "UPMC FOOD101 without 1 row(s) that are in the training part already, "
        "such as 'images/train/ramen/ramen_0.jpg'; 1 row(s) without a picture "
        "or a title, such as 'images/train/ramen/ramen_8.jpg'."
    )
    assert "1 of 5 files of modality 'image' are not there" in messages[1]
    assert train.missing == {"image": 1, "text": 1} and len(train.table) == 5


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file;text;label\n", "Line 1 of .*1 cells"),
        ("picture,title,class\nramen_0.jpg,a,ramen\n", "Line 1 .*'picture'"),
        ("ramen_0.jpg,ramen\n", "Line 1 of .*2 cells"),
        ("ramen_0.jpg,a,\n", "'' in the place of a class"),
        ("ramen_0.jpg,a,../x\n", "'../x' in the place of a class"),
        ("ramen_0.jpg,a,ramen\nramen_0.jpg,a,apple_pie\n", None),
        ('ramen_0.jpg,"a,ramen\nramen_1.jpg,b,ramen\n', "Line 2 of"),
        ("", "must hold a row"),
    ],
)
def test_wrong_titles_are_refused_by_their_line(tmp_path, text, match):
    write_food(tmp_path, train=text)
    if match is None:
        # Folders tell them apart: two pictures of one name.
        with pytest.warns(UserWarning, match="1 of 2 files"):
            assert len(load_food101(tmp_path)[0].table) == 2
        return
    with pytest.raises(ValueError, match=match) as error:
        load_food101(tmp_path)
    assert "train_titles.csv" in str(error.value)


def test_a_class_of_test_alone_is_refused(tmp_path):
    write_food(tmp_path, train=lines({"ramen_0.jpg": "a"}) * 1)
    with pytest.raises(ValueError, match="one of the classes|two or more"):
        load_food101(tmp_path)


def test_a_folder_that_lacks_a_part_is_refused(tmp_path):
    write_food(tmp_path / "UPMC_Food101")
    assert len(load_food101(tmp_path)) == 2
    (tmp_path / "UPMC_Food101/texts/test_titles.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match="test_titles.csv'; its authors"
    ):
        load_food101(tmp_path / "UPMC_Food101")
    with pytest.raises(ValueError, match="`path` must be a path"):
        load_food101(None)
    with pytest.raises(ValueError, match="`preset` must be one of"):
        load_food101(tmp_path, preset="bert")


def test_the_archive_is_unpacked_beside_itself(tmp_path):
    archive = packed(write_food(tmp_path / "UPMC_Food101"))
    assert [len(t.table) for t in load_food101(archive)] == [4, 4]
    assert (tmp_path / "UPMC_Food101.zip.unpacked").is_dir()


def test_a_truncated_picture_is_named_or_counted(tmp_path):
    write_food(tmp_path)
    cut(tmp_path / "images/test/ramen/ramen_0.jpg")
    _, test = load_food101(tmp_path)
    with pytest.raises(ValueError, match="Row 2, column 'image' .*ramen_0.jpg"):
        test.arrays()
    _, test = load_food101(tmp_path, on_error="missing")
    assert test.arrays()[0]["modality_mask"][2].tolist() == [0, 1]
    assert len(test.unreadable) == 1
