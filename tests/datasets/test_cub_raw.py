"""Raw CUB-200-2011: photographs, captions, the published split."""

import pickle

import numpy as np
import pytest

from keras_mmrel import media
from keras_mmrel.datasets import load_cub_raw
from tests.datasets.raw_files import cut
from tests.datasets.raw_files import packed
from tests.datasets.raw_files import write_picture
from tests.datasets.raw_files import write_text

pytestmark = pytest.mark.one_backend

CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
# Number, class and part; numbers are in no order and start anywhere.
IMAGES = ((7, 1, 1), (8, 1, 0), (3, 2, 1), (4, 2, 0), (5, 2, 1))


def write_cub(folder, captions="text_c10", **files):
    root = folder / "CUB_200_2011"
    texts = {
        "classes.txt": "".join(f"{n} {c}\n" for n, c in enumerate(CLASSES, 1)),
        "images.txt": "",
        "image_class_labels.txt": "",
        "train_test_split.txt": "",
    }
    for number, label, part in IMAGES:
        name = f"{CLASSES[label - 1]}/Bird_{number}"
        texts["images.txt"] += f"{number} {name}.jpg\n"
        texts["image_class_labels.txt"] += f"{number} {label}\n"
        texts["train_test_split.txt"] += f"{number} {part}\n"
        write_picture(root / f"images/{name}.jpg", (30 * number, 0, 0))
        lines = [f"bird {number}, line {n} .\n" for n in range(1, 11)]
        write_text(folder / captions / f"{name}.txt", "".join(lines))
    for name, text in texts.items():
        write_text(root / name, files.get(name.partition(".")[0], text))
    return root


def test_the_split_and_the_classes_are_those_of_the_files(tmp_path):
    root = write_cub(tmp_path)
    train, test = load_cub_raw(root)
    assert train.table["id"].tolist() == ["7", "3", "5"]
    assert test.table["id"].tolist() == ["8", "4"]
    assert train.class_names == list(CLASSES)
    assert train.labels.tolist() == [0, 1, 1]
    assert test.labels.tolist() == [0, 1]
    assert train.shuffle and not test.shuffle
    x, _ = train.arrays()
    reds = x["image"][:, 100, 100, 0] * 255
    np.testing.assert_allclose(reds, [210, 90, 150], atol=3)
    assert x["modality_mask"].all()
    # The folder above, and as the archive of some holds it.
    for path in (tmp_path, str(tmp_path)):
        assert len(load_cub_raw(path)[0].table) == 3


@pytest.mark.parametrize("count", [1, 3, 10])
def test_so_many_captions_are_one_text(tmp_path, count):
    write_cub(tmp_path)
    train, _ = load_cub_raw(
        tmp_path,
        num_captions=count,
        tokenizer=lambda text: list(map(ord, text)),
        length=300,
    )
    ids = train.arrays()[0]["text"]["token_ids"][1]
    text = "".join(map(chr, ids[ids > 0]))
    expected = [f"bird 3, line {n} ." for n in range(1, count + 1)]
    assert text == " ".join(expected)
    train, _ = load_cub_raw(tmp_path, num_captions=count)
    assert train.shapes["text"]["token_ids"] == (20 * count,)


def test_captions_may_be_elsewhere_or_partly_missing(tmp_path):
    root = write_cub(tmp_path, captions="birds/text_c10")
    with pytest.raises(
        FileNotFoundError, match="captions of CUB-200-2011 with"
    ):
        load_cub_raw(root)
    with pytest.raises(
        FileNotFoundError, match="`captions` must be .*not exist"
    ):
        load_cub_raw(root, captions=tmp_path / "nowhere")
    for path in ("birds", "birds/text_c10"):
        train, test = load_cub_raw(root, captions=tmp_path / path)
        assert train.missing == test.missing == {"image": 0, "text": 0}
    (tmp_path / f"birds/text_c10/{CLASSES[0]}/Bird_7.txt").write_text("\n \n")
    (tmp_path / f"birds/text_c10/{CLASSES[1]}/Bird_3.txt").unlink()
    with pytest.warns(UserWarning, match="1 of 3 files of modality 'text'"):
        train, _ = load_cub_raw(root, captions=tmp_path / "birds")
    assert train.missing == {"image": 0, "text": 2}
    with pytest.raises(ValueError, match="'text' must have a file that exists"):
        load_cub_raw(root, captions=root / "images")


def test_a_sample_without_both_is_counted(tmp_path):
    root = write_cub(tmp_path)
    (root / f"images/{CLASSES[0]}/Bird_7.jpg").unlink()
    (tmp_path / f"text_c10/{CLASSES[0]}/Bird_7.txt").unlink()
    (root / f"images/{CLASSES[1]}/Bird_4.jpg").unlink()
    message = (
        r"CUB-200-2011 without 1 row\(s\) of the training part without any"
    )
    with pytest.warns(UserWarning, match=message):
        with pytest.warns(
            UserWarning, match="1 of 2 files of modality 'image'"
        ):
            train, test = load_cub_raw(root)
    assert train.table["id"].tolist() == ["3", "5"]
    assert train.class_names == list(CLASSES)
    assert test.missing == {"image": 1, "text": 0}


def test_presets_say_how_a_picture_gets_its_size(tmp_path):
    write_cub(tmp_path)
    for preset in ("crop", "stretch"):
        train, _ = load_cub_raw(tmp_path, preset=preset)
        assert train.shapes["image"] == (224, 224, 3)
        sent = pickle.loads(pickle.dumps(train))
        assert sent[0][0]["image"].shape == (3, 224, 224, 3)
        for medium in train.modalities.values():
            made = type(medium).from_config(medium.get_config())
            assert made.get_config() == medium.get_config()
            assert made.shape == medium.shape
    own = {"image": media.Image("image", size=8)}
    train, _ = load_cub_raw(tmp_path, preset=own, batch_size=2)
    assert train[0][0]["image"].shape == (2, 8, 8, 3)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"images": "image path\n"}, "Line 1 of .*images.txt .*'image' in the"),
        ({"images": "7\n"}, "Line 1 of .*images.txt"),
        (
            {"images": "7 a/a.jpg\n7 b/b.jpg\n"},
            "'7' with 'a/a.jpg' and 'b/b.jpg'",
        ),
        ({"image_class_labels": "7 1\n"}, "image '8', .* with class None"),
        ({"image_class_labels": "7 9\n"}, "image '7', .* with class '9'"),
        ({"train_test_split": "7 2\n"}, "image '7', .* and '2'"),
        ({"classes": ""}, "classes.txt must hold a row"),
    ],
)
def test_wrong_annotations_are_refused(tmp_path, files, match):
    root = write_cub(tmp_path, **files)
    with pytest.raises(ValueError, match=match):
        load_cub_raw(root)


def test_numbers_of_no_picture_and_repeated_rows_are_counted(tmp_path):
    root = write_cub(tmp_path)
    with (root / "image_class_labels.txt").open("a") as file:
        file.write("99 1\n7 1\n")
    with pytest.warns(UserWarning) as warned:
        load_cub_raw(root)
    message = str(warned[0].message)
    assert "that are in the 'image_class_labels.txt' part already" in message
    assert "whose number is not in 'images.txt', such as '99'" in message


def test_what_is_not_there_is_named(tmp_path):
    root = write_cub(tmp_path)
    (root / "train_test_split.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match="without 'train_test_split.txt"
    ):
        load_cub_raw(root)
    archive = write_text(tmp_path / "CUB_200_2011.tgz", "x")
    with pytest.raises(ValueError, match="must be a whole ZIP or TAR archive"):
        load_cub_raw(archive)
    with pytest.raises(ValueError, match="`num_captions` must be an integer"):
        load_cub_raw(root, num_captions=11)


def test_the_archive_is_unpacked_and_captions_are_beside_it(tmp_path):
    archive = packed(write_cub(tmp_path), "gztar")
    train, test = load_cub_raw(archive)
    assert (len(train.table), len(test.table)) == (3, 2)
    assert train.missing == {"image": 0, "text": 0}
    (tmp_path / "text_c10").rename(tmp_path / "other")
    with pytest.raises(
        FileNotFoundError, match="captions of CUB-200-2011 with"
    ):
        load_cub_raw(archive)
    assert len(load_cub_raw(archive, captions=tmp_path / "other")) == 2


def test_a_truncated_photograph_is_named_or_counted(tmp_path):
    root = write_cub(tmp_path)
    cut(root / f"images/{CLASSES[0]}/Bird_8.jpg")
    _, test = load_cub_raw(root)
    with pytest.raises(ValueError, match="Row 0, column 'image'.*Bird_8.jpg"):
        test.arrays()
    _, test = load_cub_raw(root, on_error="missing")
    assert test.arrays()[0]["modality_mask"][0].tolist() == [0, 1]
