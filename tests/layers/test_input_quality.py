import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.layers import InputQuality
from keras_mmrel.layers import _quality_fit
from tests.helpers import json_round_trip
from tests.helpers import to_numpy

MASK = "modality_mask"
QUALITY = "modality_quality"
CLASSES = 3


def samples(n=400, seed=0, features=12):
    """Three classes, told a little by all of `a`, and well by two of `b`."""
    rng = np.random.default_rng(seed)
    draw = np.random.default_rng(7)
    y = rng.integers(CLASSES, size=n)
    mixing = {name: draw.normal(size=(4, features)) for name in "ab"}
    centres = {name: draw.normal(size=(CLASSES, features)) for name in "ab"}
    centres["a"] *= 0.5
    centres["b"][:, :2] *= 2.0
    centres["b"][:, 2:] = 0.0
    mixing["b"][:, :2] = 0.0
    x = {}
    for name in "ab":
        latent = rng.normal(size=(n, 4)) @ mixing[name]
        noise = 0.3 * rng.normal(size=(n, features))
        x[name] = 5.0 + centres[name][y] + latent + noise
    return {k: v.astype("float32") for k, v in x.items()}, y


X, Y = samples()
TEST, TEST_Y = samples(200, seed=1)


def adapted(x=X, y=Y, **kwargs):
    layer = InputQuality(**kwargs)
    layer.adapt(x, y)
    return layer


LAYER = adapted()


def call(x, layer=LAYER):
    return to_numpy(layer(x))


def permuted(x, seed=0):
    """Each feature from another sample: none leaves its range."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(column) for column in x.T], axis=1)


def auroc(clean, bad):
    """How often a clean sample has more quality than a bad one; ties half."""
    return ((clean[:, None] > bad) + 0.5 * (clean[:, None] == bad)).mean()


# -- The host's statistics ---------------------------------------------------


@pytest.mark.one_backend
def test_a_left_out_sample_has_no_part_in_what_judges_it():
    u = np.random.default_rng(0).normal(size=(15, 4))
    left_out = _quality_fit._LeftOut(u, u, 0.3)
    received = left_out.residuals(u + 0.5)
    for i in range(15):
        others = np.delete(u, i, axis=0)
        correlation = others.T @ others / 15
        precision = np.linalg.inv(0.7 * correlation + 0.3 * np.eye(4))
        expected = np.abs((u[i] + 0.5) @ precision / np.diag(precision))
        np.testing.assert_allclose(received[i], expected, rtol=1e-9)


@pytest.mark.one_backend
def test_the_probe_has_not_seen_the_label_of_the_sample():
    """Labels without any relation are guessed no better than by chance."""
    rng = np.random.default_rng(0)
    u, y = rng.normal(size=(60, 80)), np.arange(60) % 2
    rights = [
        _quality_fit._Probe(u, rng.permutation(y)).right(u).mean()
        for _ in range(20)
    ]
    # Seen labels would be given back: more features than samples.
    assert np.mean(rights) < 0.55


@pytest.mark.one_backend
def test_clean_samples_that_were_not_seen_are_believed():
    quality = call(TEST)[QUALITY]
    assert (quality > 0.8).mean(axis=0).min() > 0.93
    received = call(TEST)["a"]
    assert (received == TEST["a"]).all(axis=1).mean() > 0.93
    assert (received == TEST["a"]).mean() > 0.99


@pytest.mark.slow_on("jax", "tensorflow")
def test_what_stays_in_range_is_noticed_where_a_range_sees_nothing():
    bad = {**TEST, "a": permuted(TEST["a"])}
    quality, clean = call(bad)[QUALITY], call(TEST)[QUALITY]
    assert auroc(clean[:, 0], quality[:, 0]) > 0.95
    assert quality[:, 0].mean() < 0.55
    np.testing.assert_array_equal(quality[:, 1], clean[:, 1])
    control = keras_mmrel.layers.RangeControl()
    control.adapt(X)
    assert to_numpy(control(bad))[MASK].mean() > 0.99


@pytest.mark.one_backend
def test_without_correlations_nothing_is_noticed():
    """The mechanism is the precision: a mere variance does not see it."""
    blind = adapted(shrinkage=1.0)
    bad = {**TEST, "a": permuted(TEST["a"])}
    clean = call(TEST, blind)[QUALITY][:, 0]
    assert auroc(clean, call(bad, blind)[QUALITY][:, 0]) < 0.65


@pytest.mark.parametrize(
    "value", [0.0, X["a"].mean(axis=0)], ids=["zeros", "means"]
)
def test_a_modality_that_is_too_ordinary_is_not_believed_either(value):
    bad = {**TEST, "a": np.zeros_like(TEST["a"]) + value}
    assert call(bad)[QUALITY][:, 0].max() < 0.2


@pytest.mark.one_backend
def test_quality_falls_with_the_damage():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=TEST["a"].shape).astype("float32")
    means = [
        call({**TEST, "a": TEST["a"] + size * noise})[QUALITY][:, 0].mean()
        for size in (0.0, 0.5, 1.0, 2.0)
    ]
    assert (np.diff(means) < -0.1).all()
    assert means[-1] < 0.45


@pytest.mark.one_backend
def test_damage_to_what_tells_the_classes_counts_more():
    """Two features of `b` tell the classes, the other ten nothing."""
    importance = to_numpy(LAYER.judged["b"]["importance"])
    assert importance[:2].sum() > 0.45
    bad = []
    for columns in ([0, 1], [2, 3], [4, 5], [6, 7]):
        x = {**TEST, "b": TEST["b"].copy()}
        x["b"][:, columns] = permuted(TEST["b"])[:, columns]
        bad.append(call(x)[QUALITY][:, 1].mean())
    # They are hard to see: nothing but the class relates them to the others.
    assert bad[0] < np.mean(bad[1:])


def test_few_wild_features_are_taken_out_and_mild_noise_is_left_in():
    wild = {**TEST, "a": TEST["a"].copy()}
    wild["a"][:, :2] = 1e3
    out = call(wild)
    expected = wild["a"].copy()
    expected[:, :2] = X["a"].mean(axis=0)[:2]
    assert np.isclose(out["a"], expected, rtol=1e-4).mean() > 0.99
    # They are lost, and the rest is as good as before.
    assert 0.5 < out[QUALITY][:, 0].mean() < 0.95
    left = call(wild, adapted(cleaning=False))
    np.testing.assert_array_equal(left["a"], wild["a"])
    np.testing.assert_array_equal(left[QUALITY], out[QUALITY])
    # Replacing what has just left its range would not make the rest true.
    rng = np.random.default_rng(0)
    noise = 0.5 * X["a"].std(axis=0) * rng.normal(size=TEST["a"].shape)
    noisy = {**TEST, "a": (TEST["a"] + noise).astype("float32")}
    outside = (
        (noisy["a"] > X["a"].max(axis=0)) | (noisy["a"] < X["a"].min(axis=0))
    ).any(axis=1)
    same = (call(noisy)["a"] == noisy["a"]).all(axis=1)
    assert outside.sum() > 20
    assert same[outside].mean() > 0.5


@pytest.mark.one_backend
def test_what_is_replaced_is_lost_however_well_the_rest_fits():
    qualities = []
    for count in (0, 3, 6, 9, 12):
        x = {**TEST, "a": TEST["a"].copy()}
        x["a"][:, :count] = -1e6
        qualities.append(call(x)[QUALITY][:, 0].mean())
    assert (np.diff(qualities) < 0).all()
    assert qualities[-1] < 0.1


@pytest.mark.one_backend
def test_real_views_of_digits():
    """Permuted features of each view: AUROC of the quality, held out rows."""
    (x, y), (test, _) = keras_mmrel.datasets.load_multiview_digits()
    layer = adapted(x, y)
    clean = call(test, layer)[QUALITY]
    bad = call({k: permuted(v) for k, v in test.items()}, layer)[QUALITY]
    assert min(auroc(c, b) for c, b in zip(clean.T, bad.T, strict=True)) > 0.8
    assert clean.mean() > 0.97
    assert bad.mean() < 0.6
    # Means that stand in for what is out of range promise nothing.
    noise = np.random.default_rng(0).normal(size=test["fourier"].shape)
    qualities = [
        call({**test, "fourier": test["fourier"] + size * noise}, layer)
        for size in (0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
    ]
    index = list(test).index("fourier")
    means = [q[QUALITY][:, index].mean() for q in qualities]
    assert max(means) < 0.35
    assert (np.diff(means) < 0.05).all()


# -- The layer ---------------------------------------------------------------


def test_golden_values():
    x = {k: v[:4] for k, v in TEST.items()}
    x["a"] = permuted(x["a"])
    x["b"] = x["b"] + np.array([[0.0], [1.0], [4.0], [100.0]], "float32")
    np.testing.assert_allclose(call(x)[QUALITY], GOLDEN, atol=1e-3)


def test_missing_ones_have_no_quality_and_are_never_read():
    mask = np.ones((200, 2), "float32")
    mask[::2, 0] = 0
    bad = {**TEST, "a": TEST["a"].copy(), MASK: mask}
    bad["a"][::2] = np.nan
    out, clean = call(bad), call(TEST)
    np.testing.assert_array_equal(out[MASK], mask)
    np.testing.assert_array_equal(out[QUALITY], clean[QUALITY] * mask)
    np.testing.assert_array_equal(out["a"][::2], bad["a"][::2])
    np.testing.assert_array_equal(out["a"][1::2], clean["a"][1::2])


@pytest.mark.one_backend
def test_missing_ones_take_no_part_in_the_statistics():
    mask = np.ones((len(Y), 2), "float32")
    mask[::4, 0] = 0
    holes = {**X, "a": X["a"].copy(), MASK: mask}
    holes["a"][::4] = np.nan
    rest = np.arange(len(Y)) % 4 > 0
    layer, fewer = adapted(holes), adapted({"a": X["a"][rest]}, Y[rest])
    for key in ("mean", "precision", "scale", "low"):
        np.testing.assert_allclose(
            to_numpy(layer.judged["a"][key]),
            to_numpy(fewer.judged["a"][key]),
            rtol=1e-6,
        )


def test_nothing_changes_before_it_is_adapted():
    layer = InputQuality()
    out = call({**TEST, "a": 1e6 * TEST["a"]}, layer)
    np.testing.assert_array_equal(out[QUALITY], 1)
    np.testing.assert_array_equal(out["a"], np.float32(1e6) * TEST["a"])
    assert not layer.adapted
    layer.adapt(X, Y)
    assert layer.adapted


@pytest.mark.slow_on("jax", "tensorflow")
def test_what_cannot_be_judged_passes():
    x = {
        "tokens": np.arange(400, dtype="int32").reshape(100, 4),
        "text": {"ids": np.ones((100, 5), "int32")},
        "wide": X["a"][:100].repeat(3, axis=1),
        "constant": np.full((100, 2), 3.0, "float32"),
        "a": X["a"][:100],
    }
    layer = adapted(x, Y[:100], max_features=20)
    assert sorted(layer.judged) == ["a", "constant", "tokens"]
    far = {
        "tokens": x["tokens"] + 1000,
        "text": {"ids": x["text"]["ids"] + 9},
        "wide": np.float32(1e6) * x["wide"],
        "constant": x["constant"] + 1.0,
        "a": np.float32(1e6) * x["a"],
    }
    out = call(far, layer)
    for name in ("tokens", "wide", "constant"):
        np.testing.assert_array_equal(out[name], far[name])
    np.testing.assert_array_equal(out["text"]["ids"], far["text"]["ids"])
    np.testing.assert_array_equal(out[QUALITY][:, :4], 1)
    assert out[QUALITY][:, 4].max() < 0.5


@pytest.mark.one_backend
@pytest.mark.parametrize("case", ["29 samples", "one class"])
def test_too_little_to_learn_from_leaves_it_unadapted(case):
    rows = np.arange(29) if case == "29 samples" else Y == 0
    layer = adapted({k: v[rows] for k, v in X.items()}, Y[rows])
    assert not layer.adapted
    np.testing.assert_array_equal(call(TEST, layer)[QUALITY], 1)


def test_images_are_judged_by_all_their_pixels():
    shaped = {"a": X["a"].reshape(-1, 3, 4)}
    layer = adapted(shaped)
    bad = permuted(TEST["a"])
    out = call({"a": bad.reshape(-1, 3, 4)}, layer)
    assert out["a"].shape == (200, 3, 4)
    flat = call({"a": bad}, adapted({"a": X["a"]}))
    np.testing.assert_allclose(out[QUALITY], flat[QUALITY], atol=1e-6)


@pytest.mark.one_backend
def test_units_do_not_matter():
    layer = adapted({k: 1000.0 * v - 7.0 for k, v in X.items()})
    bad = {**TEST, "a": permuted(TEST["a"])}
    moved = {k: (1000.0 * v - 7.0).astype("float32") for k, v in bad.items()}
    # Zeros of other units are another corruption: close, not equal.
    np.testing.assert_allclose(
        call(moved, layer)[QUALITY].mean(axis=0),
        call(bad)[QUALITY].mean(axis=0),
        atol=0.1,
    )


@pytest.mark.one_backend
def test_labels_may_be_rows_and_only_some_samples_are_used():
    rows = np.eye(CLASSES, dtype="float32")[Y]
    for ours, theirs in zip(
        adapted(X, rows).weights, LAYER.weights, strict=True
    ):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    few = adapted(samples=100)
    assert (to_numpy(few.judged["a"]["low"]) >= low(LAYER) - 1e-5).all()
    bad = {**TEST, "a": permuted(TEST["a"])}
    seen = [call(x, few)[QUALITY][:, 0] for x in (TEST, bad)]
    assert auroc(*seen) > 0.8


def low(layer):
    return to_numpy(layer.judged["a"]["low"])


def in_a_model(layer):
    inputs = {n: keras.Input(X[n].shape[1:], name=n) for n in X}
    out = layer(inputs)
    return keras.Model(
        inputs, {**out, "logits": keras.layers.Dense(2)(out["a"])}
    )


@pytest.mark.slow_on("tensorflow")
def test_it_works_in_any_model_and_is_saved(tmp_path):
    model = in_a_model(LAYER)
    model.compile("sgd", {"logits": "mse"})
    state = [to_numpy(w) for w in LAYER.weights]
    model.fit(X, {"logits": np.ones((len(Y), 2))}, 64, verbose=0)
    for before, after in zip(state, LAYER.weights, strict=True):
        np.testing.assert_array_equal(before, to_numpy(after))
    assert not LAYER.trainable_weights
    bad = {**TEST, "a": permuted(TEST["a"])}
    expected = model.predict(bad, verbose=0)
    np.testing.assert_allclose(expected[QUALITY], call(bad)[QUALITY], atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    received = loaded.predict(bad, verbose=0)
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_judges_in_float32(policy):
    layer = adapted(dtype=policy)
    bad = {**TEST, "a": permuted(TEST["a"])}
    np.testing.assert_array_equal(call(bad, layer)[QUALITY], call(bad)[QUALITY])
    half = {k: v.astype("float16") for k, v in bad.items()}
    out = call(half, layer)
    assert out["a"].dtype == np.float16
    np.testing.assert_allclose(
        out[QUALITY].mean(axis=0), call(bad)[QUALITY].mean(axis=0), atol=0.02
    )


def test_outputs_are_finite_for_anything_finite():
    for scale in (0.0, 1e15, -1e15):
        out = call({k: np.full_like(v, scale) for k, v in TEST.items()})
        assert all(np.isfinite(v).all() for v in out.values())
        assert out[QUALITY].max() < 0.5


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("wild", [1e4, 1e9, 1e15, np.nan, np.inf])
def test_wild_values_are_taken_out_even_where_nothing_is_left(wild):
    rows = 8
    x = {k: v[:rows].copy() for k, v in TEST.items()}
    x["a"][:, 0] = wild
    x["b"][:] = wild
    out = call(x)
    assert all(np.isfinite(v).all() for v in out.values())
    assert np.abs(out["a"]).max() < 50 and np.abs(out["b"]).max() < 50
    assert out[QUALITY][:, 1].max() < 0.1


@pytest.mark.one_backend
def test_features_of_other_units_do_not_hide_each_other():
    unit = np.where(np.arange(12) < 6, 1.0, 1e3).astype("float32")
    bad = {**TEST, "a": TEST["a"].copy()}
    bad["a"][:, :6] = permuted(TEST["a"])[:, :6]
    layer = adapted({**X, "a": X["a"] * unit})
    moved = call({**bad, "a": bad["a"] * unit}, layer)[QUALITY][:, 0]
    assert abs(moved.mean() - call(bad)[QUALITY][:, 0].mean()) < 0.1


@pytest.mark.one_backend
def test_training_samples_that_look_too_good_are_believed():
    """More features than samples: each fits what it was fitted to."""
    y = np.arange(60) % 2
    x = np.random.default_rng(0).normal(size=(60, 200))
    x[:, :5] += 2.0 * y[:, None]
    x = {"a": x.astype("float32")}
    assert call(x, adapted(x, y))[QUALITY].mean() > 0.95


@pytest.mark.one_backend
def test_where_nothing_is_known_nothing_is_lost():
    """Labels of chance, many classes: the probe is never right."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 8)).astype("float32"), np.arange(60) % 30
    layer = adapted({"a": x}, y)
    fresh = rng.normal(size=(60, 8)).astype("float32")
    assert call({"a": fresh}, layer)[QUALITY].mean() > 0.7


@pytest.mark.slow_on("jax", "tensorflow")
def test_weights_do_not_depend_on_the_order_of_the_modalities():
    turned = adapted(dict(reversed(X.items())))
    other = InputQuality()
    other(X)
    other.set_weights([to_numpy(w) for w in turned.weights])
    bad = {**TEST, "a": permuted(TEST["a"])}
    np.testing.assert_allclose(
        call(bad, other)[QUALITY], call(bad, turned)[QUALITY], atol=1e-6
    )


@pytest.mark.one_backend
def test_adapting_to_some_modalities_forgets_the_others():
    layer = adapted()
    layer.adapt({"a": X["a"]}, Y)
    np.testing.assert_array_equal(call(TEST, layer)[QUALITY][:, 1], 1)


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_sample_is_judged_by_itself_alone():
    bad = {**TEST, "a": permuted(TEST["a"])}
    whole = call(bad)[QUALITY]
    alone = call({k: v[5:6] for k, v in bad.items()})[QUALITY]
    np.testing.assert_allclose(alone, whole[5:6], atol=1e-5)


@pytest.mark.one_backend
def test_config_survives_json():
    layer = InputQuality(0.3, max_features=9, samples=50, seed=4, name="q")
    copy = json_round_trip(layer)
    assert copy.get_config() == layer.get_config()
    assert (copy.shrinkage, copy.max_features) == (0.3, 9)


@pytest.mark.parametrize("name", InputQuality.constraints)
def test_bad_arguments_are_refused(name):
    for value in InputQuality.constraints[name].bad:
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            InputQuality(**{name: value})


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X["a"], Y, "`inputs` must be a dict of modality names"),
        (X, Y[:-1], "`y` must have one label a sample"),
        (X, Y - 1, r"`y` must hold class numbers in \[0"),
        (X, Y + 0.5, "`y` must hold integer class numbers"),
        ({**X, "a": X["a"] * np.nan}, Y, "must be finite where a modality"),
        ({"a": X["a"][:0]}, Y[:0], "must hold at least one sample"),
        ({**X, MASK: np.full((400, 2), 0.5)}, Y, "must hold only 0"),
        ({**X, "b": X["b"][:9]}, Y, "same number of samples of every"),
    ],
)
def test_bad_data_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        InputQuality().adapt(x, y)


def test_gradients_pass_to_the_inputs_and_not_through_the_quality():
    x = {k: ops.convert_to_tensor(v[:8]) for k, v in TEST.items()}
    model = in_a_model(adapted())
    model.compile("sgd", {"logits": "mse"})
    before = to_numpy(model.trainable_weights[0])
    model.train_on_batch(x, {"logits": np.ones((8, 2), "float32")})
    assert np.abs(to_numpy(model.trainable_weights[0]) - before).max() > 0


# Made once, on PyTorch.
GOLDEN = [
    [0.638433, 1.0],
    [0.707284, 0.472623],
    [0.796733, 0.317608],
    [0.488737, 0.0],
]


@pytest.mark.slow_on("jax", "tensorflow")
def test_it_repairs_single_features_and_believes_as_without():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    hidden = np.eye(3)[y] @ rng.normal(size=(3, 2)) + rng.normal(size=(400, 2))
    x = hidden @ rng.normal(size=(2, 12)) + 0.1 * rng.normal(size=(400, 12))
    x = x.astype("float32")
    bad = x.copy()
    bad[:, 3] += 30.0
    bad[0] = 1e30
    outputs = {}
    for cleaning in (True, "repair"):
        layer = keras_mmrel.layers.InputQuality(cleaning=cleaning)
        layer.adapt({"a": x, "b": x}, y)
        outputs[cleaning] = to_numpy(layer({"a": bad, "b": x}))
    plain, repaired = outputs[True], outputs["repair"]
    np.testing.assert_array_equal(
        plain["modality_quality"], repaired["modality_quality"]
    )
    np.testing.assert_allclose(repaired["b"], x, atol=0.5)
    # What looks as clean samples do stays to the last bit, though some of its
    # features are further off than what repair alone believes.
    usual = repaired["modality_quality"][:, 1] == 1
    assert 0.8 < usual.mean() < 1
    np.testing.assert_array_equal(repaired["b"][usual], x[usual])
    layer.repair.radius = 1.0
    alone = to_numpy(layer.repair({"a": x, "b": x})["b"])
    assert (alone[usual] != x[usual]).any()
    changed = to_numpy(layer({"a": bad, "b": x})["b"])
    assert (changed[~usual] != x[~usual]).any()
    np.testing.assert_array_equal(changed[usual], x[usual])
    error = {k: abs(v["a"] - x)[1:, 3].mean() for k, v in outputs.items()}
    assert error["repair"] < 0.5 * error[True]
    assert np.isfinite(repaired["a"]).all()
    assert abs(repaired["a"][0]).max() < 100


@pytest.mark.one_backend
def test_a_rare_class_counts_as_much_as_any_other():
    """What noise costs does not hang on how many samples a class has."""

    def quality_of_noise(every):
        rng = np.random.default_rng(0)
        y = (np.arange(800) % every == 0).astype(int)
        x = y[:, None] + 0.5 * rng.normal(size=(800, 8))
        x = (x + 0.5 * rng.normal(size=(800, 1))).astype("float32")
        layer = InputQuality()
        layer.adapt({"a": x, "b": x}, y)
        bad = x + 2.0 * x.std(axis=0) * rng.normal(size=x.shape)
        found = to_numpy(layer({"a": x, "b": bad.astype("float32")})[QUALITY])
        return found.mean(axis=0)

    for every in (2, 20):
        clean, noisy = quality_of_noise(every)
        assert clean > 0.9
        assert 0.5 < noisy < 0.8
