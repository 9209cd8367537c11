import numpy as np
import pytest

from keras_mmrel.layers import FeatureRepair
from tests.helpers import json_round_trip
from tests.helpers import to_numpy
from tests.micinet_models import normal

COUNT, SIZE = 300, 16
MIX = np.random.default_rng(9).normal(size=(3, SIZE))


def clean(seed=0, count=COUNT):
    rng = np.random.default_rng(seed)
    x = 5.0 + rng.normal(size=(count, 3)) @ MIX
    x = x + 0.1 * rng.normal(size=(count, SIZE))
    return {
        "a": x.astype("float32"),
        "b": normal(count, 2, 3, seed=seed).astype("float32"),
    }


@pytest.fixture(scope="module")
def repair():
    layer = FeatureRepair()
    layer.adapt(clean())
    return layer


def run(layer, x):
    return to_numpy(layer(x))


@pytest.mark.slow_on("jax", "tensorflow")
def test_what_fits_stays_as_it_is(repair):
    x = clean(1)
    out = run(repair, x)
    for name, value in x.items():
        size = np.abs(value).mean()
        assert np.abs(out[name] - value).mean() < 0.03 * size, name
    assert out["modality_quality"].mean() > 0.93


def test_single_features_are_found_and_come_from_the_others(repair):
    x = clean(1)
    bad = x["a"].copy()
    hit = np.random.default_rng(2).random(bad.shape) < 0.2
    bad[hit] += 4.0 * np.random.default_rng(3).normal(size=hit.sum()) + 6.0
    out = run(repair, {**x, "a": bad})
    error = np.abs(out["a"] - x["a"])[hit].mean()
    to_mean = np.abs(x["a"].mean(axis=0) - x["a"])[hit].mean()
    assert error < 0.5 * to_mean
    assert np.abs(out["a"] - x["a"])[~hit].mean() < 0.2 * to_mean


def test_features_of_another_sample_are_found_inside_the_range(repair):
    x = clean(1)
    swapped = x["a"].copy()
    swapped[:, ::3] = np.roll(x["a"], 1, axis=0)[:, ::3]
    out = run(repair, {**x, "a": swapped})
    quality = out["modality_quality"][:, 0]
    assert (
        np.median(quality)
        < 0.5
        < np.median(run(repair, x)["modality_quality"][:, 0])
    )
    wrong = np.abs(swapped - x["a"])[:, ::3].mean()
    assert np.abs(out["a"] - x["a"])[:, ::3].mean() < 0.7 * wrong


def test_noise_on_all_features_is_smoothed(repair):
    x = clean(1)
    noisy = x["a"] + 3.0 * normal(COUNT, SIZE, seed=4)
    out = run(repair, {**x, "a": noisy})

    def error(values):
        return np.abs(values - x["a"]).mean()

    assert error(out["a"]) < 0.7 * error(noisy)
    # And better than what says nothing of the sample.
    assert error(out["a"]) < 0.9 * error(x["a"].mean(axis=0))
    assert out["modality_quality"][:, 0].mean() < 0.1


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_sample_does_not_know_its_batch_and_a_missing_one_stays(repair):
    x = clean(1)
    x["a"][::2] += 4.0
    mask = np.ones((COUNT, 2), "float32")
    mask[3, 0] = 0
    holed = {**x, "modality_mask": mask}
    holed["a"] = x["a"].copy()
    holed["a"][3] = np.nan
    whole, part = run(repair, x), run(repair, holed)
    assert part["modality_quality"][3, 0] == 0
    rest = np.arange(COUNT) != 3
    for key in ("a", "b", "modality_quality"):
        np.testing.assert_allclose(part[key][rest], whole[key][rest], atol=1e-5)
    alone = run(repair, {name: v[7:8] for name, v in x.items()})
    np.testing.assert_allclose(alone["a"], whole["a"][7:8], atol=1e-4)


@pytest.mark.slow_on("jax", "tensorflow")
def test_far_values_and_empty_modalities_stay_finite(repair):
    x = clean(1, count=6)
    for value in (0.0, 1e10, -1e10):
        bad = {**x, "a": np.full_like(x["a"], value)}
        out = run(repair, bad)
        assert np.isfinite(out["a"]).all()
        assert (out["modality_quality"][:, 0] < 0.2).all()


@pytest.mark.slow_on("jax", "tensorflow")
def test_until_it_is_adapted_and_where_it_cannot_judge_all_passes():
    x = {
        "few": normal(20, 4),
        "tokens": np.arange(20)[:, None],
        "wide": normal(20, 9),
        "same": np.ones((20, 2), "float32"),
    }
    layer = FeatureRepair(max_features=8)
    for adapted in (False, True):
        if adapted:
            layer.adapt(x, np.arange(20) % 2)
        out = run(layer, x)
        for name, value in x.items():
            np.testing.assert_array_equal(out[name], value)
        np.testing.assert_array_equal(out["modality_quality"], 1)
        assert not layer.adapted


def test_config_and_weights_come_back():
    layer = FeatureRepair(5, 3.0, 100, 50, 7)
    loaded = json_round_trip(layer)
    assert loaded.get_config() == layer.get_config()
    x = clean()
    layer.adapt(x)
    # Weights do not depend on the order of the modalities.
    loaded.build({name: x[name].shape for name in ("b", "a")})
    loaded.set_weights(layer.get_weights())
    assert loaded.adapted
    bad = {**x, "a": 2.0 * x["a"]}
    other = {name: bad[name] for name in ("b", "a")}
    np.testing.assert_allclose(
        run(layer, bad)["a"], run(loaded, other)["a"], atol=1e-4
    )


@pytest.mark.parametrize(
    "x, text",
    [
        ({"a": np.full((40, 2), np.nan)}, "finite"),
        ({"a": np.zeros((0, 2))}, "at least one sample"),
    ],
)
def test_bad_training_data_are_refused(x, text):
    with pytest.raises(ValueError, match=text):
        FeatureRepair().adapt(x)
