import numpy as np
import pytest

from keras_mmrel.corruptions import TokenReplacement
from tests.helpers import json_round_trip

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def texts(n=300, length=40, dtype="int32"):
    """Tokens from 10 to 99, each text padded by zeros behind its end."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(10, 100, size=(n, length))
    ends = rng.integers(5, length + 1, size=(n, 1))
    tokens[np.arange(length) >= ends] = 0
    return {"text": tokens.astype(dtype)}


@pytest.mark.parametrize("severity", [0.1, 0.5, 0.9])
def test_each_token_is_replaced_with_the_severity_as_probability(severity):
    inputs = texts()
    corrupted = TokenReplacement(severity, "text", token=3)(inputs)["text"]
    tokens = inputs["text"] != 0
    replaced = corrupted == 3
    assert abs(replaced[tokens].mean() - severity) < 0.02
    # Independently: the number in a text is binomial, not the same for all.
    full = tokens.all(axis=1) | (tokens.sum(axis=1) > 20)
    share = replaced[full].sum(axis=1) / tokens[full].sum(axis=1)
    expected = np.sqrt(severity * (1 - severity) / tokens[full].sum(axis=1))
    assert 0.8 < share.std() / expected.mean() < 1.2
    np.testing.assert_array_equal(
        corrupted[~replaced], inputs["text"][~replaced]
    )


def test_severity_one_replaces_every_token_and_no_padding():
    inputs = texts()
    corrupted = TokenReplacement(1.0, "text", token=3)(inputs)["text"]
    np.testing.assert_array_equal(corrupted, 3.0 * (inputs["text"] != 0))


def test_token_is_one_and_padding_zero_by_default():
    corrupted = TokenReplacement(1.0, "text")({"text": [[7, 8, 0], [9, 0, 0]]})
    np.testing.assert_array_equal(corrupted["text"], [[1, 1, 0], [1, 0, 0]])


def test_another_padding_token_is_left_alone():
    noise = TokenReplacement(1.0, "text", token=5, padding=-1)
    corrupted = noise({"text": np.array([[7, 0, -1]])})
    np.testing.assert_array_equal(corrupted["text"], [[5, 5, -1]])


def test_without_padding_every_place_is_replaced():
    noise = TokenReplacement(1.0, "text", padding=None)
    np.testing.assert_array_equal(
        noise(texts())["text"], np.ones((300, 40), "float32")
    )


@pytest.mark.parametrize(
    ("dtype", "result"),
    [("int32", "float32"), ("int64", "float32"), ("float64", "float64")],
)
def test_tokens_of_every_dtype_come_back_as_floats(dtype, result):
    corrupted = TokenReplacement(0.5, "text")(texts(dtype=dtype))["text"]
    assert corrupted.dtype == result
    assert (corrupted % 1 == 0).all()


def test_stronger_noise_includes_what_weaker_noise_replaced():
    inputs = texts()
    weak, strong = (
        TokenReplacement(s, token=3)(inputs, 4)["text"] == 3 for s in (0.3, 0.6)
    )
    assert (weak <= strong).all()
    assert weak.sum() < strong.sum()


def test_only_texts_that_are_hit_change():
    inputs = {"text": texts()["text"], "title": texts(length=15)["text"]}
    noise = TokenReplacement(1.0)
    corrupted, hits = noise(inputs, seed=2), noise.corrupted(inputs, seed=2)
    for column, name in enumerate(inputs):
        changed = (corrupted[name] != inputs[name]).any(axis=1)
        np.testing.assert_array_equal(changed, hits[:, column])
    # Each modality with probability 1/2, independently.
    assert abs(hits.mean() - 0.5) < 0.07
    assert abs(hits.all(axis=1).mean() - 0.25) < 0.08


def test_missing_text_is_untouched():
    inputs = texts(dtype="float32")
    inputs["text"][::2] = np.nan
    inputs[MASK] = np.tile([[0], [1]], (150, 1))
    corrupted = TokenReplacement(1.0, "all")(inputs)
    assert np.isnan(corrupted["text"][::2]).all()
    assert set(np.unique(corrupted["text"][1::2])) == {0.0, 1.0}


def test_seed_decides_and_severity_zero_changes_nothing():
    inputs = texts()
    noise = TokenReplacement(0.5, "text")
    np.testing.assert_array_equal(
        noise(inputs, 1)["text"], noise(inputs, 1)["text"]
    )
    assert not np.array_equal(
        noise(inputs, 1)["text"], noise(inputs, 2)["text"]
    )
    none = TokenReplacement(0.0, "text")
    np.testing.assert_array_equal(none(inputs)["text"], inputs["text"])
    assert not none.corrupted(inputs).any()


@pytest.mark.parametrize("padding", [None, 0, 7])
def test_config_round_trip_keeps_the_results(padding):
    noise = TokenReplacement(0.5, ["text"], 0.25, token=3, padding=padding)
    restored = json_round_trip(noise)
    assert type(restored) is TokenReplacement
    assert restored.get_config() == noise.get_config()
    assert eval(repr(noise)).get_config() == noise.get_config()
    np.testing.assert_array_equal(
        restored(texts(), 5)["text"], noise(texts(), 5)["text"]
    )


@pytest.mark.parametrize("severity", [-0.1, 1.1, np.nan, "0.5", None, True])
def test_severity_that_is_no_probability_is_refused(severity):
    with pytest.raises(ValueError, match=r"`severity` .*\[0, 1\].*Received"):
        TokenReplacement(severity)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"token": "_"}, "`token` must be a finite number.*token='_'"),
        ({"token": np.nan}, "`token` must be a finite number"),
        ({"token": None}, "`token` must be a finite number"),
        ({"padding": "pad"}, "`padding` must be a finite number"),
        ({"padding": True}, "`padding` must be a finite number"),
        ({"target": []}, "`target` must be"),
        ({"probability": -1}, r"`probability` .*\[0, 1\]"),
    ],
)
def test_other_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        TokenReplacement(0.5, **arguments)
