"""Texts of cells and files as padded numbers of tokens."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_mmrel.media import HashingTokenizer
from keras_mmrel.media import MediaTable
from keras_mmrel.media import Text

pytestmark = pytest.mark.one_backend


def read(cells, paths=(), **options):
    medium = Text("t", **{"tokenizer": str.encode, "length": 5, **options})
    return medium.read_cells(pd.DataFrame({"t": cells}), paths)


def test_tokens_are_cut_and_padded_and_padding_is_marked():
    x, present, _ = read(["ab", "abcdefg", None, " ", "x"])
    assert present.tolist() == [True, True, False, False, True]
    assert x["token_ids"].tolist()[:2] == [
        [97, 98, 0, 0, 0],
        [97, 98, 99, 100, 101],
    ]
    assert x["padding_mask"].sum(axis=1).tolist() == [2, 5, 0, 0, 1]
    assert (x["token_ids"][2:4] == 0).all()
    x, _, _ = read(["ab"], pad_id=7)
    assert x["token_ids"].tolist() == [[97, 98, 7, 7, 7]]
    assert x["padding_mask"].sum() == 2


def test_a_zero_within_a_text_is_no_padding():
    x, _, _ = read(["any"], tokenizer=lambda text: [5, 0, 6])
    assert x["padding_mask"].tolist() == [[True] * 3 + [False] * 2]


def test_the_same_letters_are_the_same_text():
    x, _, _ = read(["e\u0301", "\u00e9"])
    assert (x["token_ids"][0] == x["token_ids"][1]).all()
    x, _, _ = read(["e\u0301", "\u00e9"], normalization=None)
    assert (x["token_ids"][0] != x["token_ids"][1]).any()


def test_words_are_learnt_from_the_first_table_alone():
    words = keras.layers.TextVectorization()
    medium = Text("t", tokenizer=words, length=3)
    first = pd.DataFrame({"t": ["a dog", "a cat"]})
    x, _, _ = medium.read_cells(first, [])
    assert len(set(x["token_ids"].ravel().tolist())) == 4
    known = words.get_vocabulary()
    x, _, _ = medium.read_cells(pd.DataFrame({"t": ["a bird sings now"]}), [])
    assert words.get_vocabulary() == known
    # Number 1 is what it has not learnt.
    assert x["token_ids"].tolist() == [[known.index("a"), 1, 1]]
    assert x["padding_mask"].all()


def test_the_dict_of_a_preprocessor_is_kept():
    def preprocessor(text):
        ids = np.zeros(4, "int32")
        ids[: len(text)] = 1
        return {"token_ids": ids, "segment_ids": ids * 0, "mask": ids > 0}

    x, _, _ = read(["ab", None], tokenizer=preprocessor)
    assert list(x) == ["token_ids", "segment_ids", "mask"]
    assert x["mask"].tolist() == [[True, True, False, False], [False] * 4]


def test_a_tokenizer_must_give_whole_numbers():
    for bad in (lambda t: [0.5], lambda t: [[1]], lambda t: ["a"]):
        with pytest.raises(ValueError, match="`tokenizer` must return whole"):
            read(["a"], tokenizer=bad)


def test_encodings_are_tried_in_order(tmp_path):
    contents = {
        "a": "\ufeffgrün".encode(),
        "b": "grün".encode("latin-1"),
        "c": "你好".encode("gb18030"),
        "d": b" \n",
    }
    paths = [tmp_path / f"{name} x,é.txt" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    order = ("utf-8-sig", "gb18030", "latin-1")
    medium = Text("t", tokenizer=str.encode, files=True, encodings=order)
    texts, wrong = medium.texts(None, [*paths, None])
    assert texts[0] == "grün" and texts[2] == "你好"
    assert texts[3:] == [None, None] and wrong == {}
    medium = Text("t", tokenizer=str.encode, files=True)
    assert medium.texts(None, paths[:2])[0] == ["grün", "grün"]
    strict = Text("t", tokenizer=str.encode, files=True, encodings=["utf-8"])
    texts, wrong = strict.texts(None, [paths[1], tmp_path])
    assert texts == [None, None]
    assert "in none of" in wrong[0] and "folder" in wrong[1]


def test_a_text_is_cleaned_before_it_is_read(tmp_path):
    def clean(text):
        return text.replace("#", "")

    x, present, _ = read(["#ab", "##", "a#", None], clean=clean)
    assert present.tolist() == [True, False, True, False]
    assert x["token_ids"][:, :3].tolist() == [
        [97, 98, 0],
        [0, 0, 0],
        [97, 0, 0],
        [0, 0, 0],
    ]
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    files[0].write_text("#c\n")
    files[1].write_text(" # ")
    x, present, _ = read(["a", "b"], files, files=True, clean=clean)
    assert present.tolist() == [True, False]
    assert x["token_ids"][0, :2].tolist() == [99, 0]


def test_hashed_words_are_the_same_everywhere_and_never_padding():
    words = HashingTokenizer(50)
    texts = "A dog, a DOG and the na\u00efve_cat 42"
    first = words(texts)
    # A hash of the letters alone: no process draws another one.
    assert first == [40, 4, 40, 4, 9, 18, 39, 18]
    assert words("\u2014 !?") == []
    many = [words(f"w{n}")[0] for n in range(2000)]
    assert (min(many), max(many)) == (1, 49) and len(set(many)) == 49
    assert HashingTokenizer(2)("any word") == [1, 1]
    again = Text.from_config(Text("t", tokenizer=words).get_config())
    assert again.tokenizer == words and again.tokenizer is not words


def test_a_text_without_a_token_is_missing():
    words = Text("t", tokenizer=HashingTokenizer(50), length=3)
    table = pd.DataFrame({"t": ["one two", "!!! ???", "three"]})
    data = MediaTable(table, {"t": words})
    assert data.missing == {"t": 1}
    assert data.arrays()[0]["modality_mask"][:, 0].tolist() == [1, 0, 1]
