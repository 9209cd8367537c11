import dataclasses
import json
import math

import keras
import numpy as np
import pytest

from keras_mmrel.evaluation import SelectiveRule
from keras_mmrel.evaluation import selective_prediction
from keras_mmrel.evaluation._binomial import binomial_cdf
from keras_mmrel.evaluation._binomial import upper_bound
from keras_mmrel.evaluation._selective import candidate_counts

RISK, DELTA = 0.1, 0.1
REPEATS = 400
# Largest count of failures, of probability `DELTA` each, that is not rarer
# than 1 in 1000.
ALLOWED = next(
    k for k in range(REPEATS) if binomial_cdf(k, REPEATS, DELTA) > 0.999
)


def predictions(confidence):
    """Two classes, the first always predicted, with this probability."""
    return np.stack([confidence, 1.0 - confidence], axis=1)


def draw(samples, error_rate, seed):
    """Confidences in (0.5, 1) and labels that are wrong at their rate."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, samples)
    wrong = rng.random(samples) < error_rate(confidence)
    return predictions(confidence), wrong.astype("int32")


def unsure(confidence):
    """A risk of 0.13 at full coverage, of 0.1 at a coverage of 0.87."""
    return 1.6 * (1.0 - confidence) ** 2


def true_risk(threshold, error_rate):
    """Risk of what is accepted, by integration."""
    at = np.linspace(max(threshold, 0.5), 1.0, 2001)
    return error_rate(at).mean()


def violations(samples, error_rate):
    """How often the rule breaks its promise, and its mean coverage."""
    broken, coverage = 0, []
    for seed in range(REPEATS):
        rule = selective_prediction(
            *draw(samples, error_rate, seed), risk=RISK, delta=DELTA
        )
        coverage.append(rule.coverage)
        if rule.coverage:
            broken += true_risk(rule.threshold, error_rate) > RISK
    return broken, np.mean(coverage)


@pytest.mark.filterwarnings("ignore:No threshold")
def test_risk_holds_where_every_threshold_is_just_too_risky():
    # All 20 candidates are traps: without the correction for the search,
    # about 30 % of the calibration samples would fall into one.
    def error_rate(confidence):
        return np.full_like(confidence, RISK + 1e-6)

    assert len(candidate_counts(600, RISK, DELTA)) == 20
    assert violations(600, error_rate)[0] <= ALLOWED


@pytest.mark.filterwarnings("ignore:No threshold")
def test_search_needs_its_correction():
    # The same traps by the bound of a single test at each candidate: what the
    # test above would see if `delta` were not divided.
    broken = 0
    for seed in range(REPEATS):
        p, wrong = draw(600, lambda c: np.full_like(c, RISK), seed)
        ordered = wrong[np.argsort(-p[:, 0])]
        broken += any(
            binomial_cdf(ordered[:n].sum(), n, RISK) <= DELTA
            for n in candidate_counts(600, RISK, DELTA)
        )
    assert broken > ALLOWED


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.filterwarnings("ignore:No threshold")
@pytest.mark.parametrize(
    "error_rate, least_coverage, most_coverage",
    [
        (lambda c: 0.02 * np.ones_like(c), 0.99, 1.0),
        (unsure, 0.4, 0.8),
        # Most sure where it is most wrong: the risk is not monotone.
        (lambda c: np.where(c > 0.95, 0.4, 0.01), 0.2, 1.0),
    ],
)
def test_risk_holds_for_easy_hard_and_overconfident_models(
    error_rate, least_coverage, most_coverage
):
    broken, coverage = violations(400, error_rate)
    assert broken <= ALLOWED
    assert least_coverage <= coverage <= most_coverage


@pytest.mark.filterwarnings("ignore:No threshold")
def test_risk_holds_with_few_samples_and_with_ties():
    broken = 0
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        confidence = rng.choice([0.6, 0.8, 1.0], 60)
        rate = np.where(confidence == 1.0, RISK + 1e-6, 0.3)
        wrong = (rng.random(60) < rate).astype("int32")
        rule = selective_prediction(
            predictions(confidence), wrong, risk=RISK, delta=DELTA
        )
        # Nothing may be accepted: every group is too risky.
        broken += rule.coverage > 0
    assert broken <= ALLOWED


def test_rule_agrees_with_its_numbers():
    p, y = draw(500, unsure, seed=3)
    rule = selective_prediction(p, y, risk=RISK, delta=DELTA)
    accepted = rule.accept(p)
    assert accepted.dtype == bool
    np.testing.assert_array_equal(accepted, p.max(axis=1) > rule.threshold)
    assert accepted.sum() in candidate_counts(500, RISK, DELTA)
    assert rule.coverage == accepted.mean()
    assert rule.empirical_risk == y[accepted].mean()
    assert rule.empirical_risk < rule.bound <= RISK
    tests = len(candidate_counts(500, RISK, DELTA))
    np.testing.assert_allclose(
        binomial_cdf(int(y[accepted].sum()), accepted.sum(), rule.bound),
        DELTA / tests,
        rtol=1e-6,
    )


def test_most_accepting_candidate_that_holds_is_taken():
    p, y = draw(500, unsure, seed=3)
    rule = selective_prediction(p, y, risk=RISK, delta=DELTA)
    counts = candidate_counts(500, RISK, DELTA)
    ordered = y[np.argsort(-p[:, 0])]
    larger = [n for n in counts if n > rule.coverage * 500]
    assert larger
    for n in larger:
        assert upper_bound(ordered[:n].sum(), n, DELTA / len(counts)) > RISK


def test_a_perfect_model_with_just_enough_samples_is_accepted_whole():
    p = predictions(np.linspace(0.6, 0.9, 59))
    rule = selective_prediction(p, np.zeros(59, "int32"))
    assert (rule.threshold, rule.coverage) == (-math.inf, 1.0)
    assert 0.049 < rule.bound <= 0.05
    assert rule.accept(p).all()
    with pytest.raises(ValueError, match=r"at least 59 .* Received: 58"):
        selective_prediction(p[:58], np.zeros(58, "int32"))


def test_a_hopeless_model_is_never_accepted_and_it_is_said():
    p, y = draw(300, lambda c: np.full_like(c, 0.5), seed=0)
    with pytest.warns(UserWarning, match="accepts nothing"):
        rule = selective_prediction(p, y)
    assert rule.coverage == 0.0
    assert math.isnan(rule.bound)
    assert not rule.accept(np.array([[1.0, 0.0]])).any()


def test_confidence_of_the_user_replaces_the_largest_probability():
    p, _ = draw(500, lambda c: np.zeros_like(c), seed=1)
    y = np.zeros(500, "int32")
    score = np.arange(500.0)
    y[:250] = 1
    rule = selective_prediction(p, y, confidence=score)
    assert rule.own_confidence
    np.testing.assert_array_equal(
        rule.accept(confidence=score), score > rule.threshold
    )
    assert 0.3 < rule.coverage < 0.53
    with pytest.raises(ValueError, match="made with one"):
        rule.accept(p)
    plain = dataclasses.replace(rule, own_confidence=False)
    with pytest.raises(ValueError, match="made without one"):
        plain.accept(p, confidence=score)


def test_model_outputs_tensors_and_one_hot_labels_are_taken():
    p, y = draw(300, lambda c: np.full_like(c, 0.01), seed=0)
    p = p.astype("float32")
    expected = selective_prediction(p, y)
    assert selective_prediction({"probabilities": p}, y) == expected
    tensor = keras.ops.convert_to_tensor(p)
    assert selective_prediction(tensor, np.eye(2)[y]) == expected
    np.testing.assert_array_equal(
        expected.accept({"probabilities": tensor}), expected.accept(p)
    )


def test_rule_survives_a_file(tmp_path):
    p, y = draw(300, lambda c: np.full_like(c, 0.01), seed=0)
    rule = selective_prediction(p, y)
    rule.save(tmp_path / "rule.json")
    assert SelectiveRule.load(tmp_path / "rule.json") == rule
    assert SelectiveRule.from_config(rule.get_config()) == rule
    (tmp_path / "bad.json").write_text(json.dumps({"a": 1})[:-2])
    with pytest.raises(ValueError, match="SelectiveRule.save"):
        SelectiveRule.load(tmp_path / "bad.json")


def test_bound_is_the_one_of_clopper_and_pearson():
    # Published values for one-sided 97.5 %, as in two-sided 95 % intervals.
    np.testing.assert_allclose(upper_bound(0, 10, 0.025), 0.3085, atol=1e-4)
    np.testing.assert_allclose(upper_bound(5, 10, 0.025), 0.8129, atol=1e-4)
    np.testing.assert_allclose(upper_bound(1, 100, 0.025), 0.0545, atol=1e-4)
    assert upper_bound(3, 3, 0.05) == upper_bound(0, 0, 0.05) == 1.0
    direct = sum(math.comb(30, k) * 0.2**k * 0.8 ** (30 - k) for k in range(5))
    np.testing.assert_allclose(binomial_cdf(4, 30, 0.2), direct, rtol=1e-10)


GOOD, LABELS = draw(100, lambda c: np.zeros_like(c), seed=0)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"risk": 0.0}, "`risk` must be .* Received: risk=0.0"),
        ({"risk": "low"}, "risk='low'"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"delta": True}, "delta=True"),
        ({"probabilities": GOOD[:, 0]}, r"shape=\(100,\)"),
        ({"probabilities": 2 * GOOD}, "sum to one"),
        ({"probabilities": GOOD - 0.6}, "not logits"),
        ({"probabilities": {"logits": GOOD}}, r"a dict with \['logits'\]"),
        ({"probabilities": None}, "numbers|shape"),
        ({"y": LABELS[:50]}, "50 labels for 100 samples"),
        ({"y": LABELS + 2}, r"in \[0, 2\)"),
        ({"y": LABELS + 0.5}, "y.dtype=float64"),
        ({"confidence": np.ones(7)}, r"\(100,\). Received: shape=\(7,\)"),
        ({"confidence": np.full(100, np.nan)}, "100 NaN"),
        ({"confidence": np.ones((100, 2))}, r"shape=\(100, 2\)"),
        ({"confidence": "high"}, "a str"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, text):
    arguments = {"probabilities": GOOD, "y": LABELS, **change}
    with pytest.raises(ValueError, match=text):
        selective_prediction(**arguments)


def test_rows_with_nan_are_named():
    p = GOOD.copy()
    p[[3, 8], 0] = np.nan
    with pytest.raises(ValueError, match=r"2 of 100 rows .*\[3, 8\]"):
        selective_prediction(p, LABELS)


@pytest.mark.filterwarnings("ignore:No threshold")
def test_few_samples_still_search_as_soon_as_two_candidates_can_pass():
    assert candidate_counts(71, 0.05, 0.05) == [71]
    assert candidate_counts(117, 0.05, 0.05) == [72, 117]
    p = predictions(np.linspace(0.99, 0.6, 117))
    wrong = (np.arange(117) >= 97).astype("int32")
    rule = selective_prediction(p, wrong, risk=0.05, delta=0.05)
    assert rule.coverage == 72 / 117
