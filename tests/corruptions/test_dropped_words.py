import numpy as np
import pytest

from keras_mmrel.corruptions import DroppedWords
from keras_mmrel.corruptions import SwappedWords

pytestmark = pytest.mark.one_backend
WORDS = [f"w{i}" for i in range(20)]
TEXTS = {"a": [" ".join(WORDS)] * 30}


@pytest.mark.parametrize("share, count", [(0.01, 1), (0.3, 6), (1.0, 20)])
def test_share_of_the_words_is_dropped_and_the_others_keep_their_order(
    share, count
):
    result = DroppedWords(share, "a")(TEXTS)["a"]
    for text in result:
        kept = text.split()
        assert len(kept) == 20 - count
        assert [WORDS.index(w) for w in kept] == sorted(map(WORDS.index, kept))
    assert len(set(result)) > 1 or count == 20


def test_more_dropped_words_include_the_fewer():
    few, many = (DroppedWords(s, "a")(TEXTS, 3)["a"] for s in (0.2, 0.6))
    for first, second in zip(few, many, strict=True):
        assert set(second.split()) < set(first.split())


@pytest.mark.parametrize("share, count", [(0.01, 2), (0.3, 6), (1.0, 20)])
def test_share_of_the_words_stands_elsewhere_and_none_is_lost(share, count):
    result = SwappedWords(share, "a")(TEXTS)["a"]
    for text in result:
        assert sorted(text.split()) == sorted(WORDS)
        assert (np.array(text.split()) != np.array(WORDS)).sum() == count
    assert len(set(result)) > 1


def test_one_word_has_none_to_change_places_with():
    assert SwappedWords(1.0, "a")({"a": ["one"]})["a"].tolist() == ["one"]
    assert DroppedWords(0.1, "a")({"a": ["one"]})["a"].tolist() == [""]
