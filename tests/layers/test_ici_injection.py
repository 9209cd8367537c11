import numpy as np
import pytest

from keras_mmrel.layers._ici_injection import ICIInjection
from tests.helpers import json_round_trip
from tests.helpers import to_numpy
from tests.micinet_models import normal

COUNT = 60
X = {"a": normal(COUNT, 4), "b": normal(COUNT, 2, 3, seed=1)}
NOTHING = {"noise": 0.0, "replacement": 0.0, "emptying": 0.0, "sparse": 0.0}
HOLES = np.ones((COUNT, 2), "float32")
HOLES[::3, 0] = 0
HOLES[1::4, 1] = 0


def inject(x=None, mask=None, training=True, active=1.0, seed=0, **kwargs):
    layer = ICIInjection(**{**NOTHING, **kwargs, "seed": seed})
    x = X if x is None else x
    if mask is not None:
        x = {**x, "modality_mask": mask}
    return to_numpy(layer(x, active=active, training=training))


def rows_of(out, index):
    return out["inputs"]["ab"[index]].reshape(COUNT, -1)


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("off", [{"training": False}, {"active": 0.0}])
def test_at_inference_and_when_inactive_nothing_happens(off):
    out = inject(noise=0.3, replacement=0.3, emptying=0.3, sparse=1.0, **off)
    for name, x in X.items():
        np.testing.assert_array_equal(out["inputs"][name], x)
    np.testing.assert_array_equal(out["injected"], 0)
    np.testing.assert_array_equal(out["replaced"], 0)


@pytest.mark.slow_on("jax", "tensorflow")
def test_hits_are_as_frequent_as_asked_and_the_rest_stays():
    x = {name: np.tile(v, (30,) + (1,) * (v.ndim - 1)) for name, v in X.items()}
    out = inject(x, noise=0.2, replacement=0.2, emptying=0.1, sparse=0.5)
    assert abs(out["replaced"].mean() - 0.3) < 0.03
    # Half of the samples, where nothing else has hit.
    assert abs(out["injected"].mean() - (0.5 + 0.5 * 0.5)) < 0.03
    for index, name in enumerate("ab"):
        calm = out["injected"][:, index] == 0
        np.testing.assert_array_equal(out["inputs"][name][calm], x[name][calm])


def test_replacements_are_other_samples_that_have_the_modality():
    out = inject(mask=HOLES, replacement=1.0)
    assert 40 < out["replaced"].sum() < HOLES.sum()
    moved = 0
    for m, x in enumerate(X.values()):
        x = x.reshape(COUNT, -1)
        for b, row in enumerate(rows_of(out, m)):
            source = np.abs(x - row).max(axis=1).argmin()
            np.testing.assert_array_equal(x[source], row)
            assert HOLES[source, m] == HOLES[b, m]
            moved += source != b
    assert moved > 0.9 * out["replaced"].sum()


def test_missing_modalities_are_never_hit():
    out = inject(mask=HOLES, noise=0.5, emptying=0.5)
    for m, x in enumerate(X.values()):
        missing = HOLES[:, m] == 0
        np.testing.assert_array_equal(out["injected"][:, m], 1 - missing)
        expected = x.reshape(COUNT, -1)[missing]
        np.testing.assert_array_equal(rows_of(out, m)[missing], expected)


@pytest.mark.slow_on("jax", "tensorflow")
def test_noise_is_a_log_uniform_multiple_of_how_the_features_vary():
    x = {"a": 0.1 * normal(400, 200), "b": np.zeros((400, 1), "float32")}
    out = inject(x, noise=1.0)
    kappa = (out["inputs"]["a"] - x["a"]).std(axis=1) / 0.1
    assert 0.85 < kappa.min() < 1.3 and 13 < kappa.max() < 18.5
    fractions = [(kappa < 2.0**i).mean() for i in (1, 2, 3)]
    np.testing.assert_allclose(fractions, [0.25, 0.5, 0.75], atol=0.08)
    # What never varies gets no noise.
    np.testing.assert_array_equal(out["inputs"]["b"], 0)


def test_emptied_modalities_are_zero():
    out = inject(emptying=1.0, announced=0.0)
    assert "modality_mask" not in out["inputs"]
    assert all((v == 0).all() for v in out["inputs"].values())
    np.testing.assert_array_equal(out["replaced"], 1)


def test_a_part_of_what_is_emptied_is_announced_but_never_all_of_a_sample():
    out = inject(emptying=1.0, announced=0.5)
    mask = out["inputs"]["modality_mask"]
    # One of two in a half of the samples; both, in a quarter, is not said.
    assert 0.15 < 1 - mask.mean() < 0.35
    assert (mask.sum(axis=1) > 0).all()
    # Only what became empty, and all of it where samples keep another one.
    out = inject(noise=0.3, emptying=0.3, announced=1.0, mask=HOLES)
    mask, empty = out["inputs"]["modality_mask"], out["replaced"]
    left = HOLES * (1 - empty)
    some = left.sum(axis=1) > 0
    np.testing.assert_array_equal(mask[some], left[some])
    np.testing.assert_array_equal(mask[~some], HOLES[~some])
    assert (~some).any() and empty[some].any()


def test_sparse_hits_leave_at_least_half_of_the_features():
    x = {"a": normal(200, 300)}
    out = inject(x, sparse=1.0, seed=1)
    changed = (out["inputs"]["a"] != x["a"]).mean(axis=1)
    assert np.quantile(changed, 0.05) < 0.1 and 0.4 < changed.max() < 0.6
    np.testing.assert_array_equal(out["injected"], 1)
    np.testing.assert_array_equal(out["replaced"], 0)


def test_token_numbers_are_replaced_but_get_no_noise():
    x = {"a": np.arange(COUNT)[:, None], "b": {"c": np.arange(COUNT)[:, None]}}
    out = inject(x, noise=0.5, sparse=1.0)
    np.testing.assert_array_equal(out["injected"], 0)
    np.testing.assert_array_equal(out["inputs"]["a"], x["a"])
    out = inject(x, replacement=1.0)
    assert (out["inputs"]["b"]["c"] != x["b"]["c"]).mean() > 0.9


def test_the_same_seed_injects_the_same():
    kwargs = {"noise": 0.5, "sparse": 0.5}
    a, b, c = (inject(seed=seed, **kwargs) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a["inputs"]["a"], b["inputs"]["a"])
    assert (a["inputs"]["a"] != c["inputs"]["a"]).any()
    layer = ICIInjection(0.1, 0.2, 0.3, 0.4, 2.0, 3.0, seed=5)
    assert json_round_trip(layer).get_config() == layer.get_config()


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"low": 5.0, "high": 2.0}, "low=5.0, high=2.0"),
        ({"noise": 0.6, "replacement": 0.5}, "noise=0.6, replacement=0.5"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        ICIInjection(**kwargs)
