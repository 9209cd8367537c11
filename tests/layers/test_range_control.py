import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import RangeControl
from tests.data_parallel import train_on_one
from tests.helpers import json_round_trip
from tests.helpers import to_numpy
from tests.layers import _range_worker

WORKER = _range_worker
MASK = "modality_mask"
SHAPES = {"a": (8,), "b": (4, 2), "c": ()}


def data(n=50, seed=0, shapes=None):
    rng = np.random.default_rng(seed)
    shapes = shapes or SHAPES
    return {
        name: rng.normal(3.0, 2.0, (n, *shape)).astype("float32")
        for name, shape in shapes.items()
    }


def adapted(x, **kwargs):
    layer = RangeControl(**kwargs)
    layer.adapt(x)
    return layer


def call(layer, x, **kwargs):
    return to_numpy(layer(x, **kwargs))


def state(layer):
    parts = (layer.count, layer.total, layer.low, layer.high)
    return [{k: ops.convert_to_numpy(v) for k, v in p.items()} for p in parts]


def test_statistics_are_those_of_numpy():
    x = data()
    count, total, low, high = state(adapted(x))
    for name, values in x.items():
        assert count[name] == 50
        np.testing.assert_allclose(total[name], values.sum(axis=0), rtol=1e-5)
        np.testing.assert_array_equal(low[name], values.min(axis=0))
        np.testing.assert_array_equal(high[name], values.max(axis=0))


@pytest.mark.slow_on("jax", "tensorflow")
def test_statistics_are_the_same_in_batches_with_missing_samples_and_nan():
    x = data()
    mask = np.ones((50, 3), "float32")
    mask[::3, 0] = 0
    mask[:10, 1] = 0
    dirty = {name: values.copy() for name, values in x.items()}
    for column, name in enumerate(x):
        dirty[name][mask[:, column] == 0] = np.nan
    layer = RangeControl()
    for start in range(0, 50, 10):
        rows = slice(start, start + 10)
        batch = {name: values[rows] for name, values in dirty.items()}
        call(layer, {**batch, MASK: mask[rows]}, training=True)
    for column, name in enumerate(x):
        present = x[name][mask[:, column] == 1]
        count, total, low, high = (part[name] for part in state(layer))
        assert count == len(present)
        np.testing.assert_allclose(total, present.sum(axis=0), rtol=1e-5)
        np.testing.assert_array_equal(low, present.min(axis=0))
        np.testing.assert_array_equal(high, present.max(axis=0))


def test_data_of_the_range_pass_and_outside_goes_to_the_mean():
    x = data()
    layer = adapted(x)
    out = call(layer, x)
    for name, values in x.items():
        np.testing.assert_array_equal(out[name], values)
    np.testing.assert_array_equal(out[MASK], np.ones((50, 3)))
    high, low = x["b"].max(axis=0), x["b"].min(axis=0)
    width = high - low
    for edge, beyond in ((high, 1.0), (low, -1.0)):
        inside = np.tile(edge + 0.04 * beyond * width, (50, 1, 1))
        outside = inside.copy()
        outside[:, 2, 1] = (edge + 0.06 * beyond * width)[2, 1]
        received = call(layer, {**x, "b": outside})["b"]
        expected = inside.copy()
        expected[:, 2, 1] = x["b"].mean(axis=0)[2, 1]
        np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_margin_widens_the_range():
    x = {"a": np.array([[0.0], [10.0]], "float32")}
    far = {"a": np.array([[14.0]], "float32")}
    assert call(adapted(x, margin=0.3), far)["a"] == 5.0
    assert call(adapted(x, margin=0.5), far)["a"] == 14.0
    assert call(adapted(x, margin=0), {"a": x["a"][1:]})["a"] == 10.0


def test_modality_far_behind_the_best_present_one_is_announced():
    x = data(shapes={"a": (100,), "b": (100,)})
    layer = adapted(x)
    bad = {name: values.copy() for name, values in x.items()}
    for sample, count in enumerate((14, 16, 100)):
        bad["a"][sample, :count] = 1e6
    mask = call(layer, bad)[MASK]
    assert mask[:3].tolist() == [[1, 1], [0, 1], [0, 1]]
    assert (mask[3:] == 1).all()
    # The best one is bad itself: 84 against 90 and 70.
    bad["b"][1, :10] = -1e6
    bad["b"][2, :30] = -1e6
    assert call(layer, bad)[MASK][:3].tolist() == [[1, 1], [1, 1], [0, 1]]
    # Nothing is known of a missing one.
    gone = np.ones((50, 2), "float32")
    gone[:3, 1] = 0
    received = call(layer, {**bad, MASK: gone})[MASK]
    assert received[:3].tolist() == [[1, 0], [1, 0], [1, 0]]


def test_never_all_are_announced():
    x = data()
    layer = adapted(x, threshold=1.0)
    rng = np.random.default_rng(1)
    for scale in (0.5, 5.0, 1e9):
        bad = {k: scale * rng.normal(size=v.shape) for k, v in x.items()}
        mask = call(layer, {k: v.astype("float32") for k, v in bad.items()})
        assert (mask[MASK].sum(axis=1) >= 1).all()
    none = call(layer, {**x, MASK: np.zeros((50, 3), "float32")})
    assert (none[MASK] == 0).all()


def test_threshold_of_zero_announces_nothing():
    x = data()
    bad = {**x, "a": x["a"] + 1e6}
    assert (call(adapted(x, threshold=0), bad)[MASK] == 1).all()
    assert (call(adapted(x), bad)[MASK][:, 0] == 0).all()


def test_nothing_changes_before_the_first_sample():
    x = {**data(), MASK: np.ones((50, 3), "float32")}
    x[MASK][::2, 1] = 0
    layer = RangeControl()
    missing = {**x, MASK: np.zeros((50, 3), "float32")}
    for received in (call(layer, x), call(layer, x)):
        for name, values in x.items():
            np.testing.assert_array_equal(received[name], values)
    # A batch in which everything is missing is none.
    call(layer, missing, training=True)
    np.testing.assert_array_equal(call(layer, x)["a"], x["a"])


def test_training_adds_the_batch_before_it_is_used():
    x = data()
    layer = RangeControl()
    out = call(layer, x, training=True)
    for name, values in x.items():
        np.testing.assert_array_equal(out[name], values)
    wide = {name: 10 * values for name, values in x.items()}
    shut = call(layer, wide)
    assert (shut["a"] != wide["a"]).any()
    np.testing.assert_array_equal(
        call(layer, wide, training=True)["a"], wide["a"]
    )


def test_a_frozen_layer_stands_still_in_training():
    layer = adapted(data())
    layer.trainable = False
    before = state(layer)
    out = call(layer, {k: 10 * v for k, v in data().items()}, training=True)
    for old, new in zip(before, state(layer), strict=True):
        for name in old:
            np.testing.assert_array_equal(old[name], new[name])
    assert out["a"].max() < 10 * data()["a"].max()


def test_adapt_forgets_and_update_does_not():
    x, other = data(), data(20, seed=1)
    layer = adapted(x)
    layer.update_statistics(other)
    assert state(layer)[0]["a"] == 70
    both = np.concatenate([x["a"], other["a"]])
    np.testing.assert_array_equal(state(layer)[2]["a"], both.min(axis=0))
    layer.adapt(other)
    assert state(layer)[0]["a"] == 20
    np.testing.assert_array_equal(state(layer)[2]["a"], other["a"].min(axis=0))


def test_integers_and_nested_inputs_pass_unchanged():
    x = {
        "tokens": np.arange(40, dtype="int32").reshape(10, 4),
        "text": {
            "ids": np.ones((10, 5), "int32"),
            "weights": np.ones((10, 5), "float32"),
        },
        "a": data(10)["a"],
    }
    layer = RangeControl()
    call(layer, x, training=True)
    assert "text" not in layer.low
    ids = x["text"]["ids"]
    far = {
        "tokens": x["tokens"] + 1000,
        "text": {"ids": ids + 9, "weights": 9.0 * ids},
        "a": x["a"] + 1000,
    }
    out = call(layer, far)
    np.testing.assert_array_equal(out["tokens"], far["tokens"])
    np.testing.assert_array_equal(out["text"]["ids"], far["text"]["ids"])
    np.testing.assert_array_equal(
        out["text"]["weights"], far["text"]["weights"]
    )
    # They count as in range.
    assert out[MASK].tolist() == [[1, 1, 0]] * 10


def test_missing_nan_leaves_every_other_value_alone():
    x = data()
    layer = adapted(x)
    mask = np.ones((50, 3), "float32")
    mask[::2, 0] = 0
    bad = {**x, "a": x["a"].copy(), MASK: mask}
    bad["a"][::2] = np.nan
    out = call(layer, bad)
    assert all(np.isfinite(values).all() for values in out.values())
    np.testing.assert_array_equal(out["a"][1::2], x["a"][1::2])
    np.testing.assert_array_equal(out[MASK], mask)


def test_constant_feature_keeps_its_value():
    x = {"a": np.full((1000, 1), 0.1, "float32")}
    layer = adapted(x)
    np.testing.assert_array_equal(call(layer, x)["a"], x["a"])
    out = call(layer, {"a": np.array([[0.1001]], "float32")})
    assert out["a"][0, 0] == np.float32(0.1)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float16"])
def test_mask_keeps_its_dtype(dtype):
    x = data()
    layer = adapted(x)
    out = layer({**x, "a": x["a"] + 1e3, MASK: np.ones((50, 3), dtype)})
    assert keras.backend.standardize_dtype(out[MASK].dtype) == dtype
    assert not to_numpy(out[MASK])[:, 0].any()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_statistics_and_inputs_in_float32(policy):
    x = data()
    layer = RangeControl(dtype=policy)
    out = call(layer, x, training=True)
    assert all(
        keras.backend.standardize_dtype(w.dtype) == "float32"
        for w in layer.weights
    )
    np.testing.assert_array_equal(out["a"], x["a"])
    half = call(layer, {k: v.astype("float16") for k, v in x.items()})
    assert half["a"].dtype == np.float16


def in_a_model(layer, shapes=SHAPES):
    inputs = {n: keras.Input(shape, name=n) for n, shape in shapes.items()}
    inputs[MASK] = keras.Input((len(shapes),), name=MASK)
    out = layer(inputs)
    logits = keras.layers.Dense(2)(out["a"])
    return keras.Model(inputs, {**out, "logits": logits})


def test_compiled_model_trains_saves_and_loads_the_statistics(tmp_path):
    x = {**data(64), MASK: np.ones((64, 3), "float32")}
    model = in_a_model(RangeControl(margin=0.1, name="control"))
    model.compile("sgd", {"logits": "mse"})
    history = model.fit(x, {"logits": np.ones((64, 2))}, 16, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    layer = model.get_layer("control")
    np.testing.assert_array_equal(state(layer)[3]["b"], x["b"].max(axis=0))
    assert state(layer)[0]["a"] == 64
    assert not layer.trainable_variables
    far = {**x, "a": x["a"] * 100}
    expected = model.predict(far, batch_size=32, verbose=0)
    assert (expected[MASK][:, 0] == 0).mean() > 0.9
    eager = to_numpy(model(far, training=False))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    received = loaded.predict(far, batch_size=32, verbose=0)
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, atol=1e-6)
        np.testing.assert_allclose(eager[name], values, atol=1e-4, rtol=1e-5)


def test_columns_of_the_mask_are_in_the_order_of_the_inputs_when_compiled():
    x = data(64, shapes={"z": (8,), "a": (8,)})
    layer = RangeControl(name="control")
    model = in_a_model(layer, {"z": (8,), "a": (8,)})
    layer.adapt(x)
    far = {"a": x["a"] + 99, "z": x["z"], MASK: np.ones((64, 2), "float32")}
    out = model.predict(far, verbose=0)
    assert out[MASK].tolist() == [[1, 0]] * 64


def test_config_survives_json():
    layer = RangeControl(margin=0.2, threshold=0.5, name="control")
    copy = json_round_trip(layer)
    assert copy.get_config() == layer.get_config()
    assert (copy.margin, copy.threshold) == (0.2, 0.5)


@pytest.mark.parametrize("name", RangeControl.constraints)
def test_bad_arguments_are_refused(name):
    for value in RangeControl.constraints[name].bad:
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            RangeControl(**{name: value})


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("case", ["range"])
def test_two_devices_have_the_statistics_of_one(replicas, case):
    """The lowest and highest values are on different devices."""
    one = train_on_one(_range_worker, case)
    model, _ = _range_worker.run(case)
    kept = {id(v) for v in model.non_trainable_variables}
    checked = 0
    for index, variable in enumerate(model.variables):
        if id(variable) in kept and "range_control" in variable.path:
            for values in replicas:
                np.testing.assert_allclose(
                    values[index], one[index], rtol=1e-6, atol=1e-6
                )
            checked += 1
    assert checked == 8


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_sample_that_is_not_finite_does_not_stay_in_the_range():
    x = np.random.default_rng(0).uniform(size=(20, 3)).astype("float32")
    bad = np.concatenate([x, [[np.nan, 0.5, 0.5], [0.5, np.inf, 0.5]]])
    control, expected = RangeControl(), RangeControl()
    bad = bad.astype("float32")
    control({"a": bad, "b": bad}, training=True)
    expected.adapt({"a": x, "b": x})
    for ours, theirs in zip(control.weights, expected.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )
