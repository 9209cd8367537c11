import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve

from keras_mmrel.metrics import DetectionAUROC
from keras_mmrel.metrics import FalsePositiveRateAtRecall
from tests.helpers import json_round_trip
from tests.metrics.streams import assert_broken_samples_make_nan
from tests.metrics.streams import assert_streams_and_merges
from tests.metrics.streams import assert_weight_is_repetition
from tests.metrics.streams import result
from tests.metrics.streams import value

METRICS = [DetectionAUROC, FalsePositiveRateAtRecall]


def scores(samples=300, seed=0, step=None):
    """Labels, logits (rounded to ties where asked) and probabilities."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, samples)
    logit = rng.normal(size=samples) * 2 + 2 * y
    if step:
        logit = step * np.round(logit / step)
    return y, logit.astype("float32"), 1 / (1 + np.exp(-logit))


def reference_rate(y, score, recall, weight=None):
    """False positive rate of the highest threshold with that recall."""
    false, true, _ = roc_curve(
        y, score, sample_weight=weight, drop_intermediate=False
    )
    return false[np.argmax(true >= recall - 1e-9)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("step", [None, 0.25, 2.0])
def test_auroc_is_that_of_scikit_learn(step, seed):
    y, logit, p = scores(seed=seed, step=step)
    # Without ties of their own, some of 300 scores share a cell.
    tolerance = 2e-6 if step else 2e-4
    expected = roc_auc_score(y, p)
    assert value(DetectionAUROC(), y, p) == (
        pytest.approx(expected, abs=tolerance)
    )
    assert value(DetectionAUROC(from_logits=True), y, logit) == (
        pytest.approx(expected, abs=tolerance)
    )
    weight = np.random.default_rng(2).uniform(size=len(y))
    expected = roc_auc_score(y, p, sample_weight=weight)
    assert value(DetectionAUROC(), y, p, weight) == (
        pytest.approx(expected, abs=5e-4 if step is None else 2e-6)
    )


@pytest.mark.parametrize("recall", [0.05, 0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("step", [None, 0.25, 2.0])
def test_false_positive_rate_is_that_of_scikit_learn(step, recall):
    y, logit, p = scores(step=step)
    expected = reference_rate(y, p, recall)
    # One cell flags a sample or two more where scores are not on a lattice.
    tolerance = 2e-6 if step else 2 / (y == 0).sum()
    found = value(FalsePositiveRateAtRecall(recall), y, p)
    assert found == pytest.approx(expected, abs=tolerance)
    assert found >= expected - 2e-6
    metric = FalsePositiveRateAtRecall(recall, from_logits=True)
    assert value(metric, y, logit) == pytest.approx(expected, abs=tolerance)
    weight = 1 + np.arange(len(y)) % 3
    expected = reference_rate(y, p, recall, weight)
    assert value(metric, y, logit, weight) == (
        pytest.approx(expected, abs=2 * tolerance)
    )


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("positives", [20, 60, 1000])
def test_a_recall_that_is_met_exactly_is_enough(positives):
    # The last 5 % of the positives lie below all negatives.
    score = np.r_[np.full(positives // 20, 0.1), np.full(10, 0.2)]
    score = np.r_[score, np.full(positives - positives // 20, 0.9)]
    y = np.ones(len(score))
    y[positives // 20 : positives // 20 + 10] = 0
    assert value(FalsePositiveRateAtRecall(0.95), y, score) == 0
    assert value(FalsePositiveRateAtRecall(0.951), y, score) == 1


@pytest.mark.parametrize(
    "y, score, area, rate",
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 1.0, 0.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], 0.0, 1.0),
        ([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], 0.5, 1.0),
        ([0, 1, 1, 0], [0.3, 0.3, 0.9, 0.1], 0.875, 0.5),
        ([0, 0, 0, 1], [0.0, 0.0, 0.0, 1.0], 1.0, 0.0),
        ([1, 1, 1, 0], [0.0, 0.0, 0.0, 1.0], 0.0, 1.0),
        ([1, 1, 1, 1], [0.1, 0.2, 0.8, 0.9], np.nan, np.nan),
        ([0, 0, 0, 0], [0.1, 0.2, 0.8, 0.9], np.nan, np.nan),
        ([1], [0.5], np.nan, np.nan),
    ],
    ids=(
        "perfect reversed ties half-tied extremes extremes-reversed "
        "positives-only negatives-only one"
    ).split(),
)
def test_degenerate_scores(y, score, area, rate):
    y, score = np.array(y), np.array(score)
    for metric, expected in (
        (DetectionAUROC(), area),
        (FalsePositiveRateAtRecall(), rate),
    ):
        found = value(metric, y, score)
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
        found = value(metric, y.astype(bool), score[:, None])
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("cls", METRICS)
def test_an_inverted_score_is_that_of_one_minus_it(cls):
    y, logit, p = scores()
    expected = value(cls(), y, 1 - p)
    assert value(cls(invert=True), y, p) == pytest.approx(expected, abs=1e-3)
    assert value(cls(invert=True, from_logits=True), y, logit) == (
        value(cls(from_logits=True), y, -logit)
    )
    assert abs(expected - value(cls(), y, p)) > 0.1


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("cls", METRICS)
def test_each_modality_counts_and_a_missing_one_does_not(cls):
    y, _, p = scores(60)
    hits, confidence = y.reshape(20, 3), p.reshape(20, 3).astype("float32")
    assert value(cls(), hits, confidence) == value(cls(), y, p)
    mask = np.random.default_rng(3).integers(0, 2, (20, 3))
    kept = mask.reshape(-1) > 0
    confidence[mask == 0] = np.nan
    assert value(cls(), hits, confidence, mask) == (
        pytest.approx(value(cls(), y[kept], p[kept]), abs=1e-6)
    )
    rows = np.arange(20) % 2
    kept = np.repeat(rows, 3) > 0
    assert value(cls(), hits, p.reshape(20, 3), rows) == (
        pytest.approx(value(cls(), y[kept], p[kept]), abs=1e-6)
    )


@pytest.mark.parametrize("cls", METRICS)
def test_streams_weights_and_broken_samples(cls):
    y, logit, _ = scores(60)
    metric = cls(from_logits=True)
    weight = np.linspace(0.1, 3.0, len(y))
    assert_streams_and_merges(metric, y, logit, weight)
    assert_weight_is_repetition(metric, y, logit)
    assert_broken_samples_make_nan(metric, y, logit)


@pytest.mark.parametrize("cls", METRICS)
def test_what_is_no_label_or_no_probability_is_refused(cls):
    y, _, p = scores(60)
    assert np.isfinite(value(cls(), y, p))
    for bad in (-0.1, 1.1, np.inf):
        with pytest.raises(ValueError, match=r"`y_pred` must .* in \[0, 1\]"):
            value(cls(), y, np.r_[p[:-1], bad])
    for bad in (-1, 2, np.nan):
        with pytest.raises(ValueError, match="`y_true` must hold 1 .positive"):
            value(cls(), np.r_[y[:-1], bad], p)
    weight = np.ones(60)
    weight[-1] = 0
    assert np.isfinite(value(cls(), np.r_[y[:-1], -1], p, weight))


@pytest.mark.parametrize(
    "metric",
    [
        DetectionAUROC(invert=True, name="own"),
        FalsePositiveRateAtRecall(0.8, from_logits=True, invert=True),
    ],
    ids=lambda m: type(m).__name__,
)
def test_config_survives_json(metric):
    copy = json_round_trip(metric)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    assert copy.invert
    y, logit, p = scores(60)
    given = logit if metric.from_logits else p
    assert value(copy, y, given) == value(metric, y, given)


def test_they_are_metrics_of_a_model_in_mixed_precision():
    y, logit, _ = scores(48)
    x = np.stack([logit, np.ones(48)], axis=1).astype("float32")
    inputs = keras.Input((2,), dtype="float32")
    outputs = keras.layers.Dense(1, "sigmoid", dtype="mixed_float16")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1),
        "binary_crossentropy",
        metrics=[DetectionAUROC()],
        weighted_metrics=[FalsePositiveRateAtRecall(0.9)],
    )
    weight = 1.0 + np.arange(48) % 2
    model.fit(x, y, batch_size=16, verbose=0, sample_weight=weight)
    found = model.evaluate(
        x, y, batch_size=16, verbose=0, sample_weight=weight, return_dict=True
    )
    p = model.predict(x, batch_size=48, verbose=0).astype("float32")
    assert 0 < found["detection_auroc"] < 1
    assert found["detection_auroc"] == (
        pytest.approx(value(DetectionAUROC(), y, p), abs=0.01)
    )
    expected = value(FalsePositiveRateAtRecall(0.9), y, p, weight)
    assert found["false_positive_rate_at_recall"] == (
        pytest.approx(expected, abs=0.1)
    )


@pytest.mark.parametrize("cls", METRICS)
def test_shapes_that_do_not_fit_are_named(cls):
    metric = cls()
    with pytest.raises(ValueError, match=r"y_pred.shape=\(4, 2\)"):
        metric.update_state(np.ones(4), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"y_true.shape=\(3,\)"):
        metric.update_state(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match=r"sample_weight.shape=\(3,\)"):
        metric.update_state(np.ones(4), np.ones(4), np.ones(3))
    assert np.isnan(result(metric))
