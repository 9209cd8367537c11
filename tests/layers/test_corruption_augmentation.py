import numpy as np
import pytest

from keras_mmrel.layers import CorruptionAugmentation
from tests.helpers import json_round_trip
from tests.helpers import to_numpy


def inputs(samples=400):
    rows = np.arange(samples, dtype="float32")
    return {
        "a": np.tile(rows[:, None], (1, 3)),
        "b": np.tile(rows[:, None, None], (1, 4, 2)),
    }


def test_config_survives_json():
    layer = CorruptionAugmentation((0.1,), 0.3, 0.2, 0.1, seed=3)
    assert json_round_trip(layer).get_config() == layer.get_config()


def test_inference_changes_nothing():
    x = inputs()
    out = to_numpy(CorruptionAugmentation(seed=0)(x, training=False))
    assert set(out) == {"a", "b"}
    for name, value in x.items():
        np.testing.assert_array_equal(out[name], value)


def test_noise_hits_the_share_asked_for_with_the_sigmas_asked_for():
    x = inputs(4000)
    layer = CorruptionAugmentation((0.5, 2.0), 0.25, seed=0)
    out = to_numpy(layer(x, training=True))
    difference = out["b"] - x["b"]
    hit = np.abs(difference).max(axis=(1, 2)) > 0
    assert abs(hit.mean() - 0.25) < 0.03
    spread = difference[hit].std()
    assert abs(spread - np.sqrt((0.5**2 + 2.0**2) / 2)) < 0.1
    assert (out["modality_mask"] == 1).all()


def test_shuffling_takes_rows_of_other_samples_that_are_present():
    x = inputs()
    mask = np.ones((400, 2), "float32")
    mask[200:, 0] = 0
    layer = CorruptionAugmentation(
        noise_probability=0.0, shuffle_probability=1.0, seed=0
    )
    out = to_numpy(layer({**x, "modality_mask": mask}, training=True))
    moved = out["a"][:, 0] != x["a"][:, 0]
    assert moved[:200].mean() > 0.4
    assert not moved[200:].any()
    assert out["a"][:200].max() < 200
    assert (out["a"][:, 0] == out["a"][:, 2]).all()
    np.testing.assert_array_equal(out["modality_mask"], mask)


def test_dropping_empties_modalities_but_never_the_last_one():
    x = {name: value + 1 for name, value in inputs().items()}
    layer = CorruptionAugmentation(
        noise_probability=0.0, drop_probability=0.6, seed=0
    )
    out = to_numpy(layer(x, training=True))
    mask = out["modality_mask"]
    assert (mask.sum(axis=1) >= 1).all()
    assert 0.2 < (mask == 0).mean() < 0.5
    assert (out["a"][mask[:, 0] == 0] == 0).all()
    np.testing.assert_array_equal(
        out["a"][mask[:, 0] == 1], x["a"][mask[:, 0] == 1]
    )


def test_missing_modalities_stay_untouched():
    x = inputs()
    mask = np.zeros((400, 2), "float32")
    mask[:, 1] = 1
    layer = CorruptionAugmentation(noise_probability=1.0, seed=0)
    out = to_numpy(layer({**x, "modality_mask": mask}, training=True))
    np.testing.assert_array_equal(out["a"], x["a"])
    assert (out["b"] != x["b"]).any()


def test_integer_modalities_get_no_noise():
    x = {"tokens": np.arange(12, dtype="int32").reshape(4, 3)}
    layer = CorruptionAugmentation(noise_probability=1.0, seed=0)
    out = to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(out["tokens"], x["tokens"])


def test_bytes_of_pictures_get_noise_in_parts_of_white():
    layer = CorruptionAugmentation([0.1], noise_probability=1.0, seed=0)
    pixels = np.full((40, 5, 5, 3), 128, "uint8")
    out = layer({"image": pixels}, training=True)["image"]
    noisy = to_numpy(out)
    assert noisy.dtype == "uint8"
    noise = noisy.astype(int) - 128
    assert abs(noise.std() - 25.5) < 1 and abs(noise.mean()) < 1
    strong = CorruptionAugmentation([5.0], noise_probability=1.0, seed=0)
    noisy = to_numpy(strong({"image": pixels}, training=True)["image"])
    assert {0, 255} <= set(np.unique(noisy).tolist())


def test_same_seed_same_corruption():
    a, b = (
        to_numpy(CorruptionAugmentation(seed=5)(inputs(), training=True))
        for _ in range(2)
    )
    np.testing.assert_array_equal(a["a"], b["a"])


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_modality_of_several_tensors_is_shuffled_and_dropped_whole():
    number = np.arange(64)
    text = {
        "token_ids": np.tile(number[:, None], 3).astype("int32"),
        "padding_mask": np.ones((64, 3), bool),
    }
    x = {"text": text, "a": np.ones((64, 2), "float32")}
    layer = CorruptionAugmentation(
        noise_probability=1.0,
        shuffle_probability=0.5,
        drop_probability=0.3,
        seed=0,
    )
    out = to_numpy(layer(x, training=True))
    ids, mask = out["text"]["token_ids"], out["text"]["padding_mask"]
    assert (ids == ids[:, :1]).all() and (mask == mask[:, :1]).all()
    gone = out["modality_mask"][:, 0] == 0
    assert gone.any() and not gone.all()
    assert not ids[gone].any() and not mask[gone].any() and mask[~gone].all()
    assert (ids[~gone, 0] != number[~gone]).any()
    assert (out["a"][out["modality_mask"][:, 1] > 0] != 1).any()
