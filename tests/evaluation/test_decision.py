import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.contract import MASK
from keras_mmrel.evaluation import Decision
from keras_mmrel.evaluation import DriftReport
from tests.exported import FORMATS
from tests.exported import path_for
from tests.exported import run_exported
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,), "c": (5,)}
NAMES = list(SHAPES)
KEYS = {
    "label", "probability", "accept", "prediction_set", "suspect",
    "confidence", "out_of_range", "missing",
}  # fmt: skip


def take(x, rows):
    return {name: values[rows] for name, values in x.items()}


def data(samples=600):
    x, y = vectors(samples, SHAPES)
    rng = np.random.default_rng(1)
    # Some mistakes, and samples of different difficulty.
    noise = rng.uniform(0.0, 0.6, size=(samples, 1))
    x = {
        n: (v + noise * rng.normal(size=v.shape)).astype("float32")
        for n, v in x.items()
    }
    return x, y


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    x, y = data()
    model = keras_mmrel.LateFusion(
        SHAPES, 3, class_names=["ash", "oak", "yew"], seed=0
    )
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(take(x, slice(200)), y[:200], epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def calibrated(model):
    x, y = data()
    rows = slice(200, 500)
    return Decision.fit(model, take(x, rows), y[rows], 0.2)


def new(samples=100):
    x, y = data()
    return take(x, slice(500, 500 + samples)), y[500 : 500 + samples]


# -- On every backend --------------------------------------------------------


@pytest.mark.slow_on("tensorflow")
def test_outputs_are_those_of_temperature_rule_sets_and_limits(
    model, calibrated
):
    x, _ = new()
    out = calibrated.predict(x, verbose=0)
    assert set(out) == KEYS
    logits = model.predict(x, verbose=0)["logits"]
    scaling = keras_mmrel.evaluation.TemperatureScaling(calibrated.temperature)
    p = scaling.calibrate(logits).astype("float64")
    limits = calibrated.limits[0]
    np.testing.assert_array_equal(out["label"], p.argmax(axis=1))
    np.testing.assert_allclose(out["probability"], p.max(axis=1), atol=1e-6)
    accepted = limits.rule.accept(confidence=p.max(axis=1) - 1.0)
    assert 0 < accepted.sum() < len(accepted)
    np.testing.assert_array_equal(out["accept"], accepted)
    sets = limits.sets.predict(p)
    assert 1 < sets.sum(axis=1).mean() < 3
    np.testing.assert_array_equal(out["prediction_set"], sets)
    assert not out["missing"].any()
    assert {k: (v.dtype.name, v.shape) for k, v in out.items()} == {
        "label": ("int32", (100,)),
        "probability": ("float32", (100,)),
        "accept": ("bool", (100,)),
        "prediction_set": ("bool", (100, 3)),
        "suspect": ("bool", (100, 3)),
        "confidence": ("float32", (100, 3)),
        "out_of_range": ("bool", (100, 3)),
        "missing": ("bool", (100, 3)),
    }


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_call_and_a_prediction_are_the_same(calibrated):
    x, _ = new()
    called = calibrated(x)
    for name, values in calibrated.predict(x, verbose=0).items():
        other = ops.convert_to_numpy(called[name])
        np.testing.assert_allclose(other, values, atol=1e-6)


@pytest.mark.one_backend
def test_a_file_loads_on_another_backend_and_decides_the_same(
    calibrated, tmp_path
):
    x, _ = new()
    expected = calibrated.predict(x, verbose=0)
    calibrated.save(tmp_path / "decision.keras")
    np.savez(tmp_path / "x.npz", **x)
    code = (
        "import keras, keras_mmrel, numpy as np\n"
        "decision = keras.saving.load_model('decision.keras')\n"
        "out = decision(dict(np.load('x.npz')))\n"
        "np.savez('out.npz', **{k: v.numpy() for k, v in out.items()})\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "PYTHONPATH": os.getcwd(),
        },
        check=True,
        capture_output=True,
    )
    found = dict(np.load(tmp_path / "out.npz"))
    assert set(found) == KEYS
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [FORMATS[0], pytest.param("onnx", marks=pytest.mark.slow)],
)
def test_an_exported_file_decides_the_same(model, form, tmp_path):
    path = path_for(form, tmp_path)
    x, y = data()
    groups = np.array(["x", "y"])[np.arange(300) % 2]
    decision = Decision.fit(
        model, take(x, slice(200, 500)), y[200:500], 0.2, groups=groups
    )
    x, _ = new(30)
    x["b"][3] = np.nan
    x = {**x, MASK: np.ones((30, 3), "float32")}
    x["group"] = (np.arange(30) % 3 - 1).astype("int32")
    decision.export(path, format=form, verbose=False, modality_mask=True)
    served = run_exported(path, form, x)
    for name, values in decision(x).items():
        values = ops.convert_to_numpy(values)
        np.testing.assert_allclose(served[name], values, atol=1e-5)
    if form == "onnx":
        # No group is that of all, no mask that all is there.
        part = {name: x[name] for name in ("a", "b", "c")}
        served = run_exported(path, form, part)
        for name, values in decision(part).items():
            values = ops.convert_to_numpy(values)
            np.testing.assert_allclose(served[name], values, atol=1e-5)


# -- What is missing ---------------------------------------------------------


@pytest.mark.one_backend
def test_what_is_missing_is_said_and_no_suspect(calibrated):
    x, _ = new(40)
    x["b"] = np.full_like(x["b"], 1e6)
    mask = np.ones((40, 3), "float32")
    mask[:, 1] = 0
    broken = calibrated.predict({**x, MASK: mask}, verbose=0)
    for other in (
        calibrated.predict({"a": x["a"], "c": x["c"]}, verbose=0),
        calibrated({**x, "b": x["b"] * np.nan}),
    ):
        for name, values in broken.items():
            found = ops.convert_to_numpy(other[name])
            np.testing.assert_allclose(found, values, atol=1e-6)
    assert broken["missing"][:, 1].all()
    assert not broken["missing"][:, [0, 2]].any()
    assert not broken["suspect"][:, 1].any()
    assert not broken["out_of_range"][:, 1].any()
    there = calibrated.predict(x, verbose=0)
    assert there["out_of_range"][:, 1].all()


@pytest.mark.one_backend
def test_a_sample_without_any_modality_is_open(calibrated):
    x, _ = new(5)
    mask = np.zeros((5, 3), "int32")
    out = calibrated.predict({**x, MASK: mask}, verbose=0)
    assert not out["accept"].any()
    assert out["prediction_set"].all()
    assert out["missing"].all() and not out["suspect"].any()
    text = calibrated.explain({**take(x, 0), MASK: mask[0]})["sentence"]
    assert "but every modality is missing" in text


# -- Limits ------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_limit_of_confidence_is_that_of_its_rank(model, calibrated):
    x, _ = data()
    confidence = model.predict(take(x, slice(200, 500)), verbose=0)
    confidence = np.sort(confidence["confidence"], axis=0)
    # Of 301 samples, 15 are at most 5 %.
    assert list(calibrated.limits[0].confidence.values()) == pytest.approx(
        confidence[14].tolist()
    )
    x, _ = new()
    out = calibrated.predict(x, verbose=0)
    np.testing.assert_array_equal(
        out["suspect"], out["confidence"] < confidence[14]
    )
    assert out["suspect"].any()


@pytest.mark.one_backend
def test_one_wild_value_is_out_of_range_and_none_inside_is(calibrated):
    x, _ = data()
    x = take(x, slice(200, 500))
    middle = {n: np.median(v, axis=0, keepdims=True) for n, v in x.items()}
    assert not calibrated.predict(middle, verbose=0)["out_of_range"].any()
    middle["c"][0, 2] = 100.0
    out = calibrated.predict(middle, verbose=0)["out_of_range"]
    np.testing.assert_array_equal(out, [[False, False, True]])


@pytest.mark.one_backend
def test_pictures_of_bytes_have_a_range_and_other_integers_none():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = {
        "picture": rng.integers(50, 200, (60, 4, 4, 3)).astype("uint8"),
        "counts": rng.integers(0, 9, (60, 3)),
    }
    shapes = {"picture": (4, 4, 3), "counts": (3,)}
    model = keras_mmrel.LateFusion(shapes, 2)
    decision = Decision.fit(model, x, y, 0.4, temperature=1.0)
    assert decision.ranged == ["picture"]
    other = {**x, "picture": np.zeros_like(x["picture"]), "counts": x["counts"]}
    for black in (other, {**other, "picture": np.zeros((60, 4, 4, 3))}):
        out = decision.predict({**black, "counts": 99 + x["counts"]}, verbose=0)
        np.testing.assert_array_equal(out["out_of_range"][:, 0], True)
        np.testing.assert_array_equal(out["out_of_range"][:, 1], False)


@pytest.mark.one_backend
def test_the_temperature_has_samples_of_its_own(model, calibrated):
    assert calibrated.temperature != 1.0
    assert calibrated.limits[0].rule.samples == 240
    x, y = data()
    given = Decision.fit(
        model, take(x, slice(200, 500)), y[200:500], 0.2, temperature=2.0
    )
    assert given.temperature == 2.0
    assert given.limits[0].rule.samples == 300


@pytest.mark.one_backend
def test_a_temperature_that_samples_do_not_tell_stays_1(model):
    x, y = data()
    x = take(x, slice(200, 500))
    y = model.predict(x, verbose=0)["logits"].argmax(axis=1)
    with pytest.warns(UserWarning, match="too few mistakes .* it stays 1"):
        decision = Decision.fit(model, x, y)
    assert decision.temperature == 1.0
    assert decision.limits[0].rule.samples == 240


@pytest.mark.one_backend
def test_few_samples_promise_nothing_and_a_warning_says_so(model):
    x, y = data()
    x, y = take(x, slice(200, 208)), y[200:208]
    with pytest.warns(UserWarning) as told:
        decision = Decision.fit(model, x, y)
    # Frameworks tell what is deprecated.
    told = [w for w in told if w.category is UserWarning]
    assert len(told) == 1
    text = str(told[0].message)
    assert ". " not in text and text.endswith(".")
    for part in (
        "These 8 calibration samples do not allow every promise: ",
        "a temperature is fitted from 100 samples on, so it stays 1; ",
        "a risk of 0.05 takes 59 samples, so with 8 nothing is accepted; ",
        "a coverage of 0.9 takes 9 samples, so with 8 a set holds every class",
        "a false-alarm rate of 0.05 takes 19 samples of a modality, so 'a' (8)",
    ):
        assert part in text
    assert told[0].filename == __file__
    x = {n: v + 50.0 for n, v in new()[0].items()}
    out = decision.predict(x, verbose=0)
    assert not out["accept"].any()
    assert out["prediction_set"].all()
    assert not out["suspect"].any() and not out["out_of_range"].any()
    assert "no limit keeps the risk" in decision.explain(take(x, 0))["sentence"]
    assert decision.describe()["limits"][0]["bound"] is None
    json.dumps(decision.describe(), allow_nan=False)


# -- Groups ------------------------------------------------------------------


def grouped(model, names):
    x, y = data()
    x, y = take(x, slice(200, 500)), y[200:500].copy()
    group = np.arange(300) % 2
    # The model is wrong more often about the second.
    wrong = (group == 1) & (np.arange(300) % 8 == 1)
    y[wrong] = (y[wrong] + 1) % 3
    return Decision.fit(model, x, y, 0.3, 0.8, groups=np.array(names)[group])


@pytest.mark.one_backend
@pytest.mark.parametrize("names", [["east", "west"], [7, 3]], ids=str)
def test_each_group_has_limits_of_its_own(model, names, tmp_path):
    decision = grouped(model, names)
    assert decision.groups == sorted(names)
    x, _ = new(90)
    outs = {
        group: decision.predict({**x, "group": np.full(90, group)}, verbose=0)
        for group in names
    }
    sizes = {g: out["prediction_set"].sum() for g, out in outs.items()}
    assert sizes[names[0]] < sizes[names[1]]
    mixed = {**x, "group": np.array(names * 45)}
    found = decision.predict(mixed, verbose=0)
    for row in range(90):
        one = outs[names[row % 2]]
        for name in KEYS:
            np.testing.assert_allclose(found[name][row], one[name][row], 1e-5)
    decision.save(tmp_path / "decision.keras")
    loaded = keras.saving.load_model(tmp_path / "decision.keras")
    again = loaded.predict(mixed, verbose=0)
    np.testing.assert_array_equal(again["accept"], found["accept"])
    assert [g["group"] for g in loaded.describe()["limits"]] == [
        None, *sorted(names)
    ]  # fmt: skip
    told = decision.explain({**take(x, 0), "group": names[1]})
    assert told["group"] == names[1]
    json.dumps(told, allow_nan=False)


@pytest.mark.one_backend
def test_an_unknown_group_gets_the_limits_of_all_samples(model):
    decision = grouped(model, ["east", "west"])
    x, _ = new(60)
    plain = decision.predict(x, verbose=0)
    unknown = decision.predict({**x, "group": ["north"] * 60}, verbose=0)
    of_tensors = decision({**x, "group": np.full((60, 1), -1)})
    for name in KEYS:
        np.testing.assert_array_equal(unknown[name], plain[name])
        other = ops.convert_to_numpy(of_tensors[name])
        np.testing.assert_allclose(other, plain[name], atol=1e-6)
    share = decision.limits[0].share
    assert decision.limits[1].share > share > decision.limits[2].share
    assert decision.explain(take(x, 0))["group"] is None


@pytest.mark.one_backend
def test_a_group_of_few_samples_is_named_and_promised_nothing(model):
    x, y = data()
    groups = np.where(np.arange(300) < 5, "small", "large")
    with pytest.warns(UserWarning, match="of group 'small', a risk of 0.2 tak"):
        decision = Decision.fit(
            model, take(x, slice(200, 500)), y[200:500], 0.2, groups=groups
        )
    x, _ = new(20)
    out = decision.predict({**x, "group": np.full(20, "small")}, verbose=0)
    assert not out["accept"].any() and out["prediction_set"].all()


# -- Words -------------------------------------------------------------------


@pytest.mark.one_backend
def test_an_explanation_says_what_is_decided_and_why(calibrated):
    x, _ = data()
    x = take(x, slice(500, 600))
    out = calibrated.predict(x, verbose=0)
    assert out["out_of_range"].any()
    for wanted in (True, False):
        rows = np.flatnonzero(out["accept"] == wanted)
        # One that has something to say, if there is any.
        row = max(rows, key=lambda r: out["out_of_range"][r].sum())
        found = calibrated.explain(take(x, row))
        assert found["accepted"] is wanted
        assert found["class"] == ["ash", "oak", "yew"][found["label"]]
        assert found["label"] == out["label"][row]
        assert found["sentence"].startswith(
            f"{'accepted: ' if wanted else 'abstained: perhaps '}"
            f"'{found['class']}', {found['probability']:.2f}"
        )
        for index, name in enumerate(NAMES):
            text = f"modality '{name}' is out of the range of the calibration"
            said = text in found["sentence"]
            assert said == out["out_of_range"][row, index]
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        batch = {n: v[row : row + 1] for n, v in x.items()}
        assert calibrated.explain(batch) == found


@pytest.mark.one_backend
def test_an_explanation_names_suspects_and_what_is_missing(calibrated):
    x, _ = new()
    out = calibrated.predict(x, verbose=0)
    row = int(np.flatnonzero(out["suspect"][:, 0])[0])
    found = calibrated.explain({"a": x["a"][row], "b": x["b"][row]})
    limit = calibrated.limits[0].confidence["a"]
    assert found["modalities"]["a"] == {
        "confidence": pytest.approx(out["confidence"][row, 0], abs=1e-6),
        "confidence_limit": limit,
        "suspect": True,
        "missing": False,
        "out_of_range": bool(out["out_of_range"][row, 0]),
    }
    assert "; modality 'a' is suspect: confidence 0." in found["sentence"]
    assert f"under its limit {limit:.2f}; " in found["sentence"]
    assert found["sentence"].endswith("; modality 'c' is missing")


@pytest.mark.one_backend
def test_promises_are_checked_on_labelled_samples(calibrated):
    x, y = new()
    out = calibrated.predict(x, verbose=0)
    found = calibrated.evaluate({"a": x["a"], "b": x["b"]}, y)
    assert found["missing"] == {"a": 0.0, "b": 0.0, "c": 1.0}
    found = calibrated.evaluate(x, np.eye(3)[y])
    wrong, accepted = out["label"] != y, out["accept"]
    assert found["accuracy"] == pytest.approx(1 - wrong.mean())
    assert found["accepted"] == pytest.approx(accepted.mean())
    assert found["risk"] == pytest.approx(wrong[accepted].mean())
    covered = out["prediction_set"][np.arange(100), y].mean()
    assert found["coverage"] == pytest.approx(covered)
    assert found["suspect"]["a"] == pytest.approx(out["suspect"][:, 0].mean())


# -- Drift -------------------------------------------------------------------


@pytest.mark.one_backend
def test_drift_names_the_modality_that_changed(calibrated):
    x, _ = new()
    report = calibrated.drift(x)
    assert isinstance(report, DriftReport)
    assert report.changed == []
    assert str(report).startswith("No change found (level 0.05).\n  a: mean")
    x["b"] = x["b"] + 3.0
    report = calibrated.drift(x)
    assert report.changed == ["b"]
    assert str(report).startswith("Changed (level 0.05): 'b'.\n")
    assert report.samples == [100] * 3
    mask = np.ones((100, 3))
    mask[:, 1] = 0
    report = calibrated.drift({**x, MASK: mask})
    assert report.changed == [] and report.p_values[1] is None
    assert "b: not compared, 0 samples" in str(report)
    json.dumps(report.describe(), allow_nan=False)
    with pytest.warns(UserWarning, match="1 samples of a stream are too few"):
        calibrated.drift(new(1)[0], level=0.001, permutations=2999)


@pytest.mark.one_backend
def test_a_group_is_compared_with_itself(model):
    x, y = data()
    x, y = take(x, slice(200, 600)), y[200:600]
    groups = np.arange(400) % 2
    # The second group's sensor measures in another unit.
    x["a"] = np.where(groups[:, None] == 1, 3.0 * x["a"], x["a"])
    part = slice(0, 300)
    decision = Decision.fit(
        model, take(x, part), y[part], 0.3, groups=groups[part]
    )
    rest = 300 + np.flatnonzero(groups[300:] == 1)
    stream = take(x, rest)
    assert decision.drift(stream).changed == ["a"]
    stream["group"] = groups[rest]
    assert decision.drift(stream).changed == []


# -- Files -------------------------------------------------------------------


@pytest.mark.one_backend
def test_a_file_has_all_but_what_a_training_needs(model, calibrated, tmp_path):
    x, _ = new()
    optimizer = model.optimizer
    calibrated.save(tmp_path / "decision.keras")
    assert model.optimizer is optimizer
    loaded = keras.saving.load_model(tmp_path / "decision.keras")
    assert isinstance(loaded, Decision)
    assert not loaded.model.compiled
    assert loaded.get_config() == calibrated.get_config()
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0)["probability"],
        calibrated.predict(x, verbose=0)["probability"],
    )
    assert loaded.drift(x) == calibrated.drift(x)
    assert loaded.explain(take(x, 3)) == calibrated.explain(take(x, 3))
    model.save(tmp_path / "model.keras")
    sizes = [
        os.path.getsize(tmp_path / f"{n}.keras") for n in ("decision", "model")
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.one_backend
def test_any_model_with_logits_and_confidence_will_do():
    x, y = data(200)
    inputs = {n: keras.Input(s, name=n) for n, s in SHAPES.items()}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    model = keras.Model(
        inputs,
        {
            "logits": keras.layers.Dense(3)(joined),
            "confidence": keras.layers.Dense(3, activation="sigmoid")(joined),
        },
    )
    decision = Decision.fit(model, x, y, 0.9)
    assert decision.predict(x, verbose=0)["suspect"].shape == (200, 3)
    assert decision.explain(take(x, 0))["class"] in (0, 1, 2)
    with pytest.raises(ValueError, match="the model takes no 'modality_mask'"):
        decision.predict({"a": x["a"], "b": x["b"]})
    with pytest.raises(ValueError, match="`model` must return .* 'confidence'"):
        Decision.fit(
            keras.Model(inputs, {"logits": model.output["logits"]}), x, y
        )


# -- What is refused ---------------------------------------------------------


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"model": keras.Model}, "`model` must be a Keras model"),
        ({"x_calibration": np.ones((20, 3))}, "`x_calibration` must be a dict"),
        ({"x_calibration": {"a": np.ones((20, 6))}}, r"the model, \['a', 'b'"),
        ({"y_calibration": np.ones(3, int)}, "one label a sample"),
        ({"y_calibration": np.full(20, 7)}, r"class numbers in \[0, 3\)"),
        ({"groups": np.ones(3, int)}, "`groups` must hold one group a sample"),
        ({"groups": np.ones(20, int)}, "`groups` must hold two groups"),
        ({"groups": np.ones(20)}, "`groups` must hold strings, or whole"),
        ({"groups": np.arange(20) - 3}, "`groups` must hold strings, or whole"),
    ],
    ids=str,
)
def test_bad_calibration_is_refused(model, changed, text):
    x, y = data(20)
    good = {"model": model, "x_calibration": x, "y_calibration": y}
    with pytest.raises(ValueError, match=text) as error:
        Decision.fit(**{**good, **changed})
    assert "\n" not in str(error.value) and "Received: " in str(error.value)


@pytest.mark.one_backend
def test_a_number_that_is_none_is_refused_by_name(model):
    x, y = data(20)
    for name, constraint in Decision.fit.constraints.items():
        for bad in constraint.bad:
            with pytest.raises(ValueError, match=f"^`{name}` must be "):
                Decision.fit(model, x, y, **{name: bad})


@pytest.mark.one_backend
def test_bad_samples_are_refused(model, calibrated):
    x, y = data(20)
    named = {**x, "group": np.zeros(20, int)}
    with pytest.raises(ValueError, match="none of them named 'group'"):
        Decision.fit(model, named, y)
    for bad, text in (
        (named, r"`x` must hold the modalities .* Received: \['group'\]"),
        ({**x, "d": x["a"]}, r"`x` must hold the modalities .* \['d'\]"),
        ({**x, "a": x["a"][:3]}, "the same positive number of samples"),
        ({**x, MASK: np.full((20, 3), 0.5)}, "must hold only 0"),
        ({}, "`x` must be a dict of modality names"),
    ):
        with pytest.raises(ValueError, match=text):
            calibrated.predict(bad, verbose=0)
    with pytest.raises(ValueError, match="`sample` must hold one sample"):
        calibrated.explain(x)
    with pytest.raises(ValueError, match="`sample` must be a dict"):
        calibrated.explain(x["a"])
    with pytest.raises(ValueError, match="`permutations` must be at least 59 "):
        calibrated.drift(x, permutations=20)
    with pytest.raises(ValueError, match="`level` must be a number in"):
        calibrated.drift(x, level=0.0)
    grouped_decision = grouped(model, [7, 3])
    with pytest.raises(ValueError, match="'group' must hold whole numbers"):
        grouped_decision.predict({**x, "group": ["a"] * 20})


@pytest.mark.one_backend
def test_a_good_calibration_says_nothing(model):
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Decision.fit(model, take(x, slice(200, 500)), y[200:500], 0.2)
