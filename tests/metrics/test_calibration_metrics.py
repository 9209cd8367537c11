import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.metrics import BrierScore
from keras_mmrel.metrics import ExpectedCalibrationError
from tests.helpers import SHAPES
from tests.helpers import vectors


def predictions(samples=200, classes=4, seed=0):
    """Labels, logits and probabilities of an overconfident classifier."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[y]
    logits = (2.0 * logits).astype("float32")
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return y, logits, p / p.sum(axis=1, keepdims=True)


def reference_error(p, true, bins, weight=None):
    """Bins of equal width, one after the other; a border belongs below."""
    weight = np.ones(len(p)) if weight is None else weight
    total = 0.0
    for b in range(bins):
        inside = (p > b / bins) & (p <= (b + 1) / bins)
        total += abs((weight * (p - true))[inside].sum())
    return total / weight.sum()


def value(metric, *args, **kwargs):
    metric.reset_state()
    metric.update_state(*args, **kwargs)
    return float(ops.convert_to_numpy(metric.result()))


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_top_label_error_is_that_of_a_loop_over_bins(bins):
    y, logits, p = predictions()
    right = p.argmax(axis=1) == y
    expected = reference_error(p.max(axis=1), right, bins)
    metric = ExpectedCalibrationError(bins=bins)
    assert value(metric, y, logits) == pytest.approx(expected, abs=1e-5)
    assert expected > 0.02
    metric = ExpectedCalibrationError(bins=bins, from_logits=False)
    assert value(metric, y, p) == pytest.approx(expected, abs=1e-5)


def test_class_wise_error_is_the_mean_over_classes():
    y, logits, p = predictions()
    expected = np.mean([reference_error(p[:, k], y == k, 10) for k in range(4)])
    metric = ExpectedCalibrationError(10, kind="class_wise", num_classes=4)
    assert value(metric, y, logits) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow_on("jax", "tensorflow")
def test_bins_of_equal_mass_hold_equally_many():
    y, logits, p = predictions(samples=500)
    top, right = p.max(axis=1), p.argmax(axis=1) == y
    order = np.argsort(top)
    expected = np.mean(
        [abs((top - right)[part].mean()) for part in np.array_split(order, 5)]
    )
    metric = ExpectedCalibrationError(5, binning="mass")
    # Borders lie on a grid of 500 cells.
    assert value(metric, y, logits) == pytest.approx(expected, abs=0.01)


def test_brier_score_is_the_mean_squared_distance():
    y, logits, p = predictions()
    expected = np.square(p - np.eye(4)[y]).sum(axis=1).mean()
    assert value(BrierScore(), y, logits) == pytest.approx(expected, abs=1e-5)
    assert value(BrierScore(from_logits=False), np.eye(4)[y], p) == (
        pytest.approx(expected, abs=1e-5)
    )


def metrics():
    return [
        BrierScore(),
        ExpectedCalibrationError(),
        ExpectedCalibrationError(binning="mass"),
        ExpectedCalibrationError(8, "class_wise", num_classes=4),
    ]


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("metric", metrics(), ids=lambda m: m.name)
def test_batches_in_any_order_give_the_value_of_one_batch(metric):
    y, logits, _ = predictions()
    weight = np.linspace(0.1, 2.0, len(y))
    whole = value(metric, y, logits, sample_weight=weight)
    metric.reset_state()
    order = np.random.default_rng(1).permutation(len(y))
    for rows in np.array_split(order, 7):
        metric.update_state(y[rows], logits[rows], weight[rows])
    streamed = float(ops.convert_to_numpy(metric.result()))
    assert streamed == pytest.approx(whole, abs=1e-5)
    assert abs(whole - value(metric, y, logits)) > 1e-4


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("metric", metrics(), ids=lambda m: m.name)
def test_a_sample_of_weight_two_counts_twice(metric):
    y, logits, _ = predictions(samples=30)
    weight = 1 + (np.arange(30) % 3 == 0)
    twice = np.repeat(np.arange(30), weight)
    expected = value(metric, y[twice], logits[twice])
    found = value(metric, y, logits, sample_weight=weight)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize(
    "p, y, expected",
    [
        ([[1.0, 0.0]] * 4, [0, 0, 0, 0], 0.0),
        ([[1.0, 0.0]] * 4, [1, 1, 1, 1], 1.0),
        ([[0.5, 0.5]] * 4, [0, 0, 1, 1], 0.0),
        ([[0.75, 0.25]] * 4, [0, 0, 0, 0], 0.25),
    ],
    ids=["all right", "all wrong", "ties", "one class"],
)
def test_degenerate_predictions(p, y, expected, binning):
    metric = ExpectedCalibrationError(binning=binning, from_logits=False)
    found = value(metric, np.array(y), np.array(p, "float32"))
    assert found == pytest.approx(expected, abs=1e-6)


def test_nothing_seen_is_no_error():
    assert float(ExpectedCalibrationError().result()) == 0


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("metric", metrics(), ids=lambda m: m.name)
def test_a_nan_prediction_is_not_averaged_away(metric):
    y, logits, _ = predictions(samples=40)
    broken = logits.copy()
    broken[0, 0] = np.nan
    assert np.isnan(value(metric, y, broken))
    metric.update_state(y, logits)
    assert np.isnan(float(metric.result()))
    # What does not count may hold anything.
    weight = np.ones(40)
    weight[0] = 0
    expected = value(metric, y[1:], logits[1:])
    assert value(metric, y, broken, sample_weight=weight) == (
        pytest.approx(expected, abs=1e-5)
    )


@pytest.mark.parametrize("metric", metrics(), ids=lambda m: m.name)
def test_config_survives_json(metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == metric.get_config()
    y, logits, _ = predictions()
    assert value(copy, y, logits) == value(metric, y, logits)


@pytest.mark.slow_on("tensorflow")
def test_they_are_metrics_of_a_compiled_model(tmp_path):
    x, y = vectors()
    model = keras_mmrel.LateFusion(SHAPES, 3)
    model.compile(metrics=[BrierScore(), ExpectedCalibrationError(bins=10)])
    logs = model.fit(x, y, batch_size=16, verbose=0).history
    assert 0 < logs["brier_score"][-1] < 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = loaded.evaluate(x, y, batch_size=48, verbose=0, return_dict=True)
    p = model.predict(x, batch_size=48, verbose=0)["probabilities"]
    right = p.argmax(axis=1) == y
    expected = reference_error(p.max(axis=1), right, 10)
    assert found["expected_calibration_error"] == (
        pytest.approx(expected, abs=1e-4)
    )


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"kind": "class_wise"}, "num_classes=None"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        ExpectedCalibrationError(**kwargs)
