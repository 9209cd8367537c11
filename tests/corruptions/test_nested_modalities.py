"""Modalities of several arrays, and of strings, beside arrays of numbers."""

import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.corruptions import FeatureSwap
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import ModalityConflict
from keras_mmrel.corruptions import TokenReplacement
from keras_mmrel.corruptions import TypingErrors
from keras_mmrel.corruptions import UnalignedSamples

pytestmark = pytest.mark.one_backend

N = 12
Y = np.arange(N) % 3
RNG = np.random.default_rng(0)


def inputs():
    """An image, tokens, a sequence and strings; each row is its number."""
    number = np.arange(N)
    mask = np.arange(4) < 1 + number[:, None] % 4
    return {
        "image": np.tile(number[:, None, None, None], (1, 2, 2, 3)) / 16.0,
        "text": {
            "token_ids": (np.tile(20 + number[:, None], 4) * mask).astype(
                "int32"
            ),
            "padding_mask": mask,
        },
        "gait": {
            "values": np.tile(number[:, None, None], (1, 4, 2)).astype("f4"),
            "padding_mask": mask,
        },
        "note": [f"number {n}" for n in number],
    }


def same(before, after):
    if isinstance(before, dict):
        return all(same(before[name], after[name]) for name in before)
    return np.array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.parametrize("corruption", [GaussianNoise, FeatureSwap])
def test_what_numbers_are_needed_for_leaves_others_as_they_are(corruption):
    x = inputs()
    for target in ("all", "one", "independent", "image"):
        noise = corruption(0.5, target)
        assert noise.applies_to(x) == ["image"]
        result = noise(x)
        assert list(result) == list(x)
        for name in ("text", "gait", "note"):
            assert same(x[name], result[name])
        hits = noise.corrupted(x)
        assert hits[:, 0].any() and not hits[:, 1:].any()
    assert result["text"]["token_ids"].dtype == "int32"
    with pytest.raises(ValueError, match="numbers, one array.*'text': .a dict"):
        corruption(0.5, ["image", "text"])(x)
    with pytest.raises(ValueError, match="numbers, one array.*'note': 'texts'"):
        corruption(0.5)({"note": x["note"]})


@pytest.mark.parametrize("cls", [UnalignedSamples, ModalityConflict])
def test_whole_modalities_come_from_one_other_sample(cls):
    x = inputs()
    moved = cls(1.0, "all")(x, seed=1, labels=Y)
    given = moved["text"]["token_ids"].max(axis=1) - 20
    assert (given != np.arange(N)).all()
    if cls is ModalityConflict:
        assert (Y[given] != Y).all()
    assert same(moved["text"], {k: v[given] for k, v in x["text"].items()})
    sent = moved["gait"]["values"][:, 0, 0].astype(int)
    assert same(moved["gait"], {k: v[sent] for k, v in x["gait"].items()})
    words = [int(note.split()[1]) for note in moved["note"]]
    assert (words != np.arange(N)).all() and not same(words, sent)
    assert same(x["text"], inputs()["text"])
    # An array draws what it draws without the others.
    alone = cls(1.0, "all")({"image": x["image"]}, seed=1, labels=Y)
    assert same(alone["image"], moved["image"])


def test_what_is_missing_has_nothing_in_any_of_its_arrays():
    x = inputs()
    result = MissingModality(1.0, "all")(x)
    assert not result["modality_mask"].any()
    assert not result["text"]["token_ids"].any()
    assert not result["text"]["padding_mask"].any()
    assert result["text"]["padding_mask"].dtype == bool
    assert not result["gait"]["values"].any() and not result["image"].any()
    assert set(result["note"]) == {None}
    present = np.ones((N, 4), "float32")
    present[0, 1] = 0
    hits = MissingModality(1.0, "text").corrupted(
        {**x, "modality_mask": present}
    )
    assert hits[:, 1].tolist() == [False, *[True] * (N - 1)]


def test_tokens_are_replaced_where_there_is_no_padding():
    x = inputs()
    noise = TokenReplacement(1.0, "all", token=3)
    assert noise.applies_to(x) == ["image", "text"]
    text = TokenReplacement(1.0, "text", token=3)(x)["text"]
    mask = x["text"]["padding_mask"]
    assert (text["token_ids"] == np.where(mask, 3, 0)).all()
    assert same(text["padding_mask"], mask)


def test_words_are_corrupted_beside_all_of_them():
    x = inputs()
    noise = TypingErrors(0.5)
    assert noise.applies_to(x) == ["note"]
    result = noise(x)
    assert not same(result["note"], x["note"])
    assert all(same(result[n], x[n]) for n in ("image", "text", "gait"))


def test_arrays_of_one_modality_have_one_length_and_finite_numbers():
    x = inputs()
    x["gait"]["values"] = x["gait"]["values"][:5]
    with pytest.raises(ValueError, match="same number of .*'gait/values': 5"):
        MissingModality(0.5)(x)
    x = inputs()
    x["gait"]["values"][3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="'gait' must be finite .* 1 NaN"):
        MissingModality(0.5)(x)
    x["text"] = {"token_ids": np.array([["a"]] * N)}
    with pytest.raises(ValueError, match="'text.* must hold numbers"):
        MissingModality(0.5)(x)


def test_a_report_on_images_and_texts_runs():
    import keras

    names = ("token_ids", "padding_mask")
    tokens = {n: keras.Input((None,), dtype="int32", name=n) for n in names}
    embedding = keras.layers.Embedding(40, 4)(tokens["token_ids"])
    text = keras_mmrel.encoders.TextEncoder(keras.Model(tokens, embedding), 4)
    shapes = {"gait": {"values": (4, 2), "padding_mask": (4,)}}
    model = keras_mmrel.LateFusion(
        {"image": (2, 2, 3), "text": text, **shapes}, 3, seed=0
    )
    x = {name: v for name, v in inputs().items() if name != "note"}
    report = keras_mmrel.evaluation.evaluate_robustness(
        model,
        x,
        Y,
        ["gaussian_one", "missing", "unaligned", "conflict", "feature_swap"],
        training=x,
        verbose=0,
    )
    scores = report.scores.groupby("corruption")["in_range"].any()
    assert scores.to_dict() == {
        "clean": True,
        "gaussian_one": False,
        "missing": True,
        "unaligned": True,
        "conflict": True,
        "feature_swap": True,
    }
    assert np.isfinite(report.scores["accuracy"]).all()
    applied = {p["name"]: p["applies_to"] for p in report.info["protocols"]}
    assert applied["gaussian_one"] == ["image"]
    assert applied["missing"] == ["image", "text", "gait"]
    assert "gaussian_one" in report.to_markdown()


def test_a_function_of_strings_and_pixels_has_a_report_too():
    x = {name: inputs()[name] for name in ("image", "note")}
    seen = []

    def model(given):
        seen.append(given["note"].copy())
        word = np.array([0 if n is None else int(n[-1]) for n in given["note"]])
        logits = np.eye(3)[word % 3] + given["image"][:, 0, 0]
        return logits

    report = keras_mmrel.evaluation.evaluate_robustness(
        model, x, Y, [MissingModality(1.0, "note"), "unaligned"], verbose=0
    )
    assert len(report.scores) == 1 + 1 + 3
    assert list(seen[0]) == x["note"] and set(seen[1]) == {None}
