import itertools

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.metrics import AURC
from keras_mmrel.metrics import ExcessAURC
from keras_mmrel.metrics._score_grid import cell_of
from keras_mmrel.metrics._score_grid import harmonic_difference
from keras_mmrel.metrics._score_grid import summed_risks
from tests.helpers import SHAPES
from tests.helpers import json_round_trip
from tests.helpers import vectors
from tests.metrics.streams import assert_broken_samples_make_nan
from tests.metrics.streams import assert_streams_and_merges
from tests.metrics.streams import assert_weight_is_repetition
from tests.metrics.streams import result
from tests.metrics.streams import value


def predictions(samples=200, classes=4, seed=0):
    """Labels, logits and probabilities of a classifier of middling skill."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, samples)
    logits = rng.normal(size=(samples, classes)) + np.eye(classes)[y]
    p = np.exp(2.0 * logits - 2.0 * logits.max(axis=1, keepdims=True))
    return y, (2.0 * logits).astype("float32"), p / p.sum(1, keepdims=True)


def binary(logit, right):
    """Labels and two-class logits of this gap, the first class predicted."""
    logit = np.asarray(logit, "float32")
    return 1 - np.asarray(right), np.stack([logit, 0 * logit], axis=1)


def risks(wrong):
    return np.cumsum(wrong) / np.arange(1, len(wrong) + 1)


def reference(p, y):
    """Area and excess without ties, by sorting."""
    wrong = (p.argmax(1) != y)[np.argsort(-p.max(1))]
    area = risks(wrong).mean()
    return area, area - risks(np.sort(wrong)).mean()


def numpy(values):
    return keras.ops.convert_to_numpy(values)


@pytest.mark.parametrize("from_logits", [True, False])
def test_they_are_those_of_sorted_samples(from_logits):
    y, logits, p = predictions()
    area, excess = reference(p, y)
    given = logits if from_logits else p
    # Some of 200 samples share a cell.
    assert value(AURC(from_logits), y, given) == pytest.approx(area, abs=2e-4)
    assert value(ExcessAURC(from_logits), y, given) == (
        pytest.approx(excess, abs=2e-4)
    )
    assert excess > 0.02


def test_probabilities_give_the_value_of_their_logits():
    y, logits, p = predictions()
    of_logits = value(AURC(), y, logits)
    assert value(AURC(from_logits=False), y, p) == (
        pytest.approx(of_logits, abs=1e-5)
    )
    one_hot = np.eye(4, dtype="float32")[y]
    assert value(AURC(), one_hot, logits) == of_logits
    assert value(AURC(), y[:, None], logits) == of_logits


@pytest.mark.slow_on("jax", "tensorflow")
def test_ties_give_the_mean_over_all_their_orders():
    logit = np.array([3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 1.0])
    right = np.array([1, 0, 0, 1, 1, 0, 0])
    orders = [
        risks(1 - right[list(top + middle + (6,))]).mean()
        for top in itertools.permutations(range(2))
        for middle in itertools.permutations(range(2, 6))
    ]
    assert value(AURC(), *binary(logit, right)) == (
        pytest.approx(np.mean(orders), abs=1e-6)
    )
    best = risks(np.sort(1 - right)).mean()
    assert value(ExcessAURC(), *binary(logit, right)) == (
        pytest.approx(np.mean(orders) - best, abs=1e-6)
    )


@pytest.mark.parametrize(
    "logit, right, area, excess",
    [
        ([3, 2, 1, 0.5], [1, 1, 1, 1], 0.0, 0.0),
        ([3, 2, 1, 0.5], [0, 0, 0, 0], 1.0, 0.0),
        ([3, 2, 1, 0.5], [1, 1, 0, 0], (1 / 3 + 2 / 4) / 4, 0.0),
        ([3, 2, 1, 0.5], [0, 1, 1, 1], 25 / 48, 11 / 24),
        ([2, 2, 2, 2], [1, 0, 0, 1], 0.5, 7 / 24),
        ([1], [1], 0.0, 0.0),
        ([1], [0], 1.0, 0.0),
    ],
    ids="right wrong best worst ties one-right one-wrong".split(),
)
def test_degenerate_predictions(logit, right, area, excess):
    y, logits = binary(logit, right)
    assert value(AURC(), y, logits) == pytest.approx(area, abs=1e-6)
    assert value(ExcessAURC(), y, logits) == pytest.approx(excess, abs=1e-6)


def test_order_survives_where_float32_rounds_to_one():
    logit = np.array([60.0, 50.0, 20.0, 19.0], "float32")
    for right in ([1, 1, 0, 0], [0, 1, 0, 1]):
        y, logits = binary(logit, np.array(right))
        expected = risks(1 - np.array(right)).mean()
        assert value(AURC(), y, logits) == pytest.approx(expected, abs=1e-6)
        # The small probability still tells them apart.
        rest = np.exp(-logit)
        p = np.stack([1 - rest, rest], axis=1)
        assert (p[:, 0].astype("float32") == 1).sum() == 4
        assert value(AURC(from_logits=False), y, p) == (
            pytest.approx(expected, abs=1e-6)
        )


def test_certain_and_impossible_classes_are_no_error():
    y = np.array([0, 1, 0, 0])
    p = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.4, 0.6]])
    expected = (0 + 0 + 0 + 1 / 4) / 4
    assert value(AURC(from_logits=False), y, p) == (
        pytest.approx(expected, abs=1e-6)
    )
    logits = np.log(np.maximum(p, 1e-38)).astype("float32")
    logits[p == 0] = -np.inf
    assert value(AURC(), y, logits) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "metric", [AURC(), ExcessAURC()], ids=["all", "excess"]
)
def test_streams_weights_and_broken_samples(metric):
    y, logits, _ = predictions(60)
    weight = np.linspace(0.1, 3.0, len(y))
    assert_streams_and_merges(metric, y, logits, weight)
    assert_weight_is_repetition(metric, y, logits)
    assert_broken_samples_make_nan(metric, y, logits)
    # No probability of such a row is known.
    logits[3] = np.inf
    assert np.isnan(value(metric, y, logits))
    assert np.isnan(value(metric, y[:1], logits[:1], np.zeros(1)))


def test_sum_over_a_cell_is_that_of_its_mean_order():
    weight = np.array([3.0, 0.0, 4.0, 1.0])
    errors = np.array([1.0, 0.0, 3.0, 1.0])
    total = before = seen = 0
    for w, e in zip(weight, errors, strict=True):
        for j in range(1, int(w) + 1):
            total += (before + e * j / w) / (seen + j)
        before, seen = before + e, seen + w
    found = summed_risks(
        keras.ops.convert_to_tensor(weight, "float32"),
        keras.ops.convert_to_tensor(errors, "float32"),
    )
    assert float(numpy(found)) == pytest.approx(total, abs=1e-6)


def test_sum_of_reciprocal_ranks_is_precise_after_a_million():
    start = np.array([0, 0, 7, 1e6, 1e6, 3e6], "float32")
    count = np.array([1, 20, 3, 1, 1000, 4], "float32")
    expected = [
        np.sum(1 / (s + np.arange(1, c + 1, dtype="float64")))
        for s, c in zip(start.astype("float64"), count, strict=True)
    ]
    tensor = keras.ops.convert_to_tensor
    found = harmonic_difference(tensor(start), tensor(count))
    np.testing.assert_allclose(numpy(found), expected, rtol=5e-7)
    half = harmonic_difference(tensor([0.0]), tensor([0.5]))
    np.testing.assert_allclose(numpy(half), [2 - 2 * np.log(2)], rtol=5e-7)


def test_cells_are_as_narrow_as_the_docstring_says():
    p = np.linspace(0.001, 0.999, 40001)
    logit = (np.log(p) - np.log1p(-p)).astype("float32")
    cells = numpy(cell_of(keras.ops.convert_to_tensor(logit)))
    assert (np.diff(cells) >= 0).all()
    _, sizes = np.unique(cells, return_counts=True)
    assert sizes.max() * (p[1] - p[0]) <= 0.0007 + 2 * (p[1] - p[0])
    ends = keras.ops.convert_to_tensor([-np.inf, 0.0, np.inf], "float32")
    assert numpy(cell_of(ends)).tolist() == [0, 4096, 8192]
    thousandths = np.log(np.array([999.0, 9999.0], "float32"))
    pair = numpy(cell_of(keras.ops.convert_to_tensor(thousandths)))
    assert pair[1] - pair[0] > 100


@pytest.mark.parametrize("cls", [AURC, ExcessAURC])
def test_config_survives_json(cls):
    metric = cls(from_logits=False, name="own")
    copy = json_round_trip(metric)
    assert type(copy) is cls
    assert copy.get_config() == metric.get_config()
    assert copy.name == "own"
    assert not copy.from_logits
    y, _, p = predictions(60)
    assert value(copy, y, p) == value(metric, y, p)


@pytest.mark.slow_on("tensorflow")
def test_they_are_metrics_of_a_compiled_model(tmp_path):
    x, y = vectors()
    model = keras_mmrel.LateFusion(SHAPES, 3)
    model.compile(metrics=[AURC()], weighted_metrics=[ExcessAURC()])
    weight = 1.0 + np.arange(len(y)) % 3
    logs = model.fit(
        x, y, batch_size=16, verbose=0, sample_weight=weight
    ).history
    assert 0 < logs["aurc"][-1] < 1
    assert 0 < logs["excess_aurc"][-1] < 1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = loaded.evaluate(
        x, y, batch_size=48, verbose=0, sample_weight=weight, return_dict=True
    )
    logits = model.predict(x, batch_size=48, verbose=0)["logits"]
    assert found["aurc"] == pytest.approx(value(AURC(), y, logits), abs=1e-4)
    expected = value(ExcessAURC(), y, logits, weight)
    assert found["excess_aurc"] == pytest.approx(expected, abs=1e-4)


def test_half_precision_logits_are_counted_in_single_precision():
    y, logits, _ = predictions(60)
    metric = AURC(dtype="mixed_float16")
    expected = value(AURC(), y, logits.astype("float16").astype("float32"))
    half = keras.ops.cast(logits, "float16")
    assert value(metric, y, half) == pytest.approx(expected, abs=1e-3)
    metric.reset_state()
    for _ in range(50):
        metric.update_state(y, half)
    # 3000 samples are more than float16 counts one by one.
    assert numpy(metric.counts).sum() == 3000
    expected = value(AURC(), y, half, np.full(60, 50))
    assert result(metric) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("cls", [AURC, ExcessAURC])
def test_weights_that_do_not_fit_are_named(cls):
    y, logits, _ = predictions(6)
    with pytest.raises(ValueError, match=r"sample_weight.shape=\(5,\)"):
        cls().update_state(y, logits, np.ones(5))
    with pytest.raises(ValueError, match=r"sample_weight.shape=\(6, 4\)"):
        cls().update_state(y, logits, np.ones((6, 4)))
