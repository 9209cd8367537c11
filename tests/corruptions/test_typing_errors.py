import itertools

import numpy as np
import pandas as pd
import pytest

from keras_mmrel import media
from keras_mmrel.corruptions import DroppedWords
from keras_mmrel.corruptions import SwappedWords
from keras_mmrel.corruptions import TypingErrors
from keras_mmrel.corruptions.typing_errors import NEIGHBOURS
from tests.helpers import json_round_trip

pytestmark = pytest.mark.one_backend
ALL = [TypingErrors, DroppedWords, SwappedWords]
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEF0123"))


def texts(n=200, length=50):
    rng = np.random.default_rng(0)
    return np.array(["".join(rng.choice(LETTERS, length)) for _ in range(n)])


def distance(first, second):
    """Edits from one text to another; neighbours may change places in one."""
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    table[:, 0], table[0] = range(len(first) + 1), range(len(second) + 1)
    for i, j in itertools.product(range(len(first)), range(len(second))):
        best = min(
            table[i, j + 1] + 1,
            table[i + 1, j] + 1,
            table[i, j] + (first[i] != second[j]),
        )
        swapped = first[i - 1 : i + 1] == second[j - 1 : j + 1][::-1]
        if i and j and swapped:
            best = min(best, table[i - 1, j - 1] + 1)
        table[i + 1, j + 1] = best
    return int(table[-1, -1])


@pytest.mark.parametrize("share, edits", [(0.001, 1), (0.1, 5), (0.3, 15)])
def test_share_of_the_characters_is_mistyped(share, edits):
    clean = texts(20)
    typed = TypingErrors(share, "a")({"a": clean})["a"]
    found = [distance(a, b) for a, b in zip(clean, typed, strict=True)]
    # Two errors side by side may be fewer edits, or one change of places.
    assert max(found) <= edits
    assert min(found) >= max(1, 0.6 * edits)


def test_each_of_four_errors_happens_and_none_else():
    clean = texts(2000, 12)
    typed = TypingErrors(0.01, "a")({"a": clean})["a"]
    kinds = {"doubled": 0, "left out": 0, "places": 0, "beside": 0}
    for before, after in zip(clean, typed, strict=True):
        if len(after) == 13:
            i = next(
                i
                for i, (a, b) in enumerate(itertools.zip_longest(before, after))
                if a != b
            )
            assert after[i] == after[i - 1]
            kinds["doubled"] += 1
        elif len(after) == 11:
            kinds["left out"] += 1
        elif sorted(before) == sorted(after):
            kinds["places"] += 1
        else:
            i = next(i for i in range(12) if before[i] != after[i])
            assert after[i].lower() in NEIGHBOURS[before[i].lower()]
            assert after[i].isupper() == before[i].isupper() or (
                after[i].isdigit() or before[i].isdigit()
            )
            assert before[i + 1 :] == after[i + 1 :]
            kinds["beside"] += 1
    assert min(kinds.values()) > 0.2 * len(clean)
    assert max(kinds.values()) < 0.3 * len(clean)


def test_keys_are_beside_each_other_both_ways():
    assert NEIGHBOURS["g"] == "fhtb"
    assert all(a in NEIGHBOURS[b] for a in NEIGHBOURS for b in NEIGHBOURS[a])


@pytest.mark.parametrize("text", ["", "  ", "\n"])
@pytest.mark.parametrize("cls", ALL)
def test_text_without_a_word_stays_as_it_is(cls, text):
    assert cls(1.0, "a")({"a": [text, "two words"]})["a"][0] == text


def test_no_text_is_left_without_a_character():
    for seed in range(40):
        assert TypingErrors(1.0, "a")({"a": ["i"]}, seed)["a"][0]
        typed = TypingErrors(1.0, "a")({"a": ["日本 語"]}, seed)["a"][0]
        assert typed.count(" ") == 1


@pytest.mark.parametrize("cls", ALL)
def test_texts_of_a_table_are_taken_and_empty_cells_stay(cls):
    words = ["one two three four", None, "five six seven eight", np.nan]
    for dtype in (object, "string"):
        table = pd.DataFrame({"note": pd.Series(words, dtype=dtype)})
        noise = cls(0.5, "note")
        inputs = {"note": table["note"], "age": np.ones((4, 1))}
        noisy = noise(inputs)["note"]
        assert noise.corrupted(inputs)[:, 0].tolist() == [1, 0, 1, 0]
        assert pd.isna(noisy[[1, 3]]).all()
        assert all(noisy[i] != words[i] for i in (0, 2))
        assert inputs["note"].equals(table["note"])


@pytest.mark.parametrize("cls", ALL)
def test_column_of_a_table_can_be_corrupted_before_it_is_tokenised(cls):
    table = pd.DataFrame({"note": ["one two three", "four five six"] * 3})
    note = media.Text("note", tokenizer=str.encode, length=20)
    data = media.MediaTable(table, {"note": note})
    noisy = cls(0.5, "note")({"note": table["note"]})
    test = data.like(table.assign(note=noisy["note"]))
    clean, wrong = (d.arrays()[0]["note"]["token_ids"] for d in (data, test))
    assert (clean != wrong).any(axis=1).all()


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(
    "values, received",
    [
        (np.array([[5, 6, 0]] * 2), r"\(2, 3\)"),
        (np.array([1.5, 2.5]), r"\(2,\)"),
        ({"token_ids": np.ones((2, 3), int)}, ".a dict of"),
    ],
)
def test_token_numbers_are_left_alone_and_refused_by_name(
    cls, values, received
):
    inputs = {"note": ["one two", "three four"], "other": values}
    for target in ("all", "one"):
        hits = cls(0.5, target).corrupted(inputs)
        assert hits.tolist() == [[True, False]] * 2
    for target in ("other", ["note", "other"]):
        with pytest.raises(
            ValueError, match=f"`target` .*of strings.*'other': {received}"
        ):
            cls(0.5, target)(inputs)


@pytest.mark.parametrize(
    "values", [["a", 3], np.array([["a"], ["b"]]), [None, None]]
)
def test_what_is_neither_text_nor_numbers_is_refused(values):
    inputs = {"note": ["one two", "three four"], "other": values}
    with pytest.raises(ValueError, match="'other' must hold numbers"):
        TypingErrors(0.5)(inputs)


@pytest.mark.parametrize("cls", ALL)
def test_other_modalities_and_the_labels_are_read_as_ever(cls):
    inputs = {
        "note": ["one two three", "four five six"],
        "image": np.ones((2, 3)),
        "modality_mask": np.array([[1, 1], [0, 1]]),
    }
    noise = cls(1.0, "note")
    result = noise(inputs, labels=[0, 1])
    assert list(result) == list(inputs)
    assert result["note"][0] != "one two three"
    assert result["note"][1] == "four five six"
    for bad, sentence in (
        ({"image": np.ones((3, 3))}, "same number of samples"),
        ({"image": np.full((2, 3), np.nan)}, "'image' must be finite"),
        ({"modality_mask": np.ones((2, 3))}, r"shape \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            noise({**inputs, **bad})
    with pytest.raises(ValueError, match="`labels`"):
        noise(inputs, labels=[0, 1, 1])


@pytest.mark.parametrize("cls", ALL)
def test_text_does_not_hang_on_those_before_it(cls):
    first = cls(0.4, "a")({"a": ["one two three four", "five six seven"]}, 2)
    other = cls(0.4, "a")({"a": ["none at all", "five six seven"]}, 2)
    assert first["a"][1] == other["a"][1]


@pytest.mark.parametrize("cls", ALL)
def test_round_trip_keeps_the_result(cls):
    noise = cls(0.3, ["a"], 0.2)
    restored = json_round_trip(noise)
    assert restored.get_config() == noise.get_config()
    inputs = {"a": ["one two three four", "five six seven"]}
    np.testing.assert_array_equal(
        noise(inputs, 3)["a"], restored(inputs, 3)["a"]
    )
