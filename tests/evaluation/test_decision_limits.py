"""Ranks, ranges and tests that a decision's promises stand on."""

import itertools

import numpy as np
import pytest
from keras import ops

from keras_mmrel.evaluation import DriftReport
from keras_mmrel.evaluation._range_excess import MOST
from keras_mmrel.evaluation._range_excess import fit_range
from keras_mmrel.evaluation._range_excess import range_excess
from keras_mmrel.evaluation._ranks import fewest_for_alarm
from keras_mmrel.evaluation._ranks import rarely_exceeded
from keras_mmrel.evaluation._two_samples import holm
from keras_mmrel.evaluation._two_samples import permutation_test
from keras_mmrel.evaluation._two_samples import smallest_p_value

pytestmark = pytest.mark.one_backend


def excess(x, others):
    return of_range(x, others.min(axis=0), others.max(axis=0))


def of_range(*arrays):
    tensors = [ops.convert_to_tensor(a, "float32") for a in arrays]
    return ops.convert_to_numpy(range_excess(*tensors))


def samples(count, features, seed):
    """Continuous features, one with ties, one that never varies but once."""
    x = np.random.default_rng(seed).normal(size=(count, features))
    x[:, 0] = np.round(x[:, 0])
    x[:, 1] = 0.0
    x[0, 1] = 1.0
    return x.astype("float32")


# -- Alarms ------------------------------------------------------------------


@pytest.mark.parametrize(("alarm", "fewest"), [(0.05, 19), (0.1, 9), (0.3, 3)])
def test_a_limit_takes_so_many_samples(alarm, fewest):
    assert fewest_for_alarm(alarm) == fewest
    values = np.arange(fewest, dtype=float)
    assert rarely_exceeded(values[1:], alarm) is None
    assert rarely_exceeded(values, alarm) == fewest - 1


@pytest.mark.parametrize("ties", [False, True])
def test_a_new_value_exceeds_the_limit_as_rarely_as_promised(ties):
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(4000):
        values = rng.normal(size=20)
        values = np.round(values) if ties else values
        alarms.append(values[-1] > rarely_exceeded(values[:-1], 0.1))
    # Of 20 exchangeable values, 2 are above the limit.
    error = 3 * np.sqrt(0.09 / 4000)
    assert np.mean(alarms) < 0.1 + error
    if not ties:
        assert np.mean(alarms) > 0.1 - error


# -- Ranges ------------------------------------------------------------------


def test_each_sample_is_measured_by_the_range_of_the_others():
    x = samples(9, 5, seed=0)
    fitted = fit_range(x)
    expected = [
        excess(x[i : i + 1], np.delete(x, i, axis=0))[0] for i in range(9)
    ]
    np.testing.assert_allclose(fitted.excess, expected, rtol=1e-5)
    assert fitted.excess[0] >= MOST
    np.testing.assert_array_equal(fitted.low, x.min(axis=0))
    np.testing.assert_array_equal(excess(x, x), 0.0)


def test_a_further_sample_never_makes_an_excess_larger():
    for seed in range(20):
        x = samples(8, 6, seed)
        new = 3.0 * samples(1, 6, seed + 100)
        before = fit_range(x).excess
        after = fit_range(np.concatenate([x, new])).excess[:-1]
        assert (after <= before + 1e-5).all()


@pytest.mark.parametrize("features", [2, 300])
def test_a_clean_sample_is_out_of_range_as_rarely_as_promised(features):
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(500):
        # Heavy tails: most of many features have had their extremes.
        x = rng.standard_t(3, size=(30, features)).astype("float32")
        fitted = fit_range(x[:-1])
        limit = rarely_exceeded(fitted.excess, 0.1)
        low, high = fitted.low, fitted.high
        beyond = np.maximum(np.maximum(low - x[-1], x[-1] - high), 0)
        found = np.minimum(beyond / (high - low), MOST).sum()
        alarms.append(found > limit)
    assert np.mean(alarms) < 0.1 + 3 * np.sqrt(0.09 / 500)


def test_what_is_no_number_is_as_far_out_as_can_be():
    x = np.array([[0.5, np.nan], [0.5, np.inf], [0.5, 1e30], [-1.0, 0.5]])
    found = of_range(x, np.zeros(2), np.ones(2))
    np.testing.assert_allclose(found, [MOST, MOST, MOST, 1.0])


# -- Two samples -------------------------------------------------------------


def draw(rng, count, shift=0.0, ties=False):
    values = rng.normal(shift, size=count)
    return np.round(values) if ties else values


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sizes", [[(12, 8)], [(9, 5), (4, 11)]], ids=str)
def test_a_p_value_is_as_rarely_small_as_it_says(sizes, ties):
    rng = np.random.default_rng(0)
    found = []
    for seed in range(600):
        strata = [(draw(rng, n, i, ties), draw(rng, m, i, ties))
                  for i, (n, m) in enumerate(sizes)]  # fmt: skip
        found.append(permutation_test(strata, 99, seed))
    for level in (0.05, 0.2):
        error = 3 * np.sqrt(level * (1 - level) / 600)
        assert np.mean(np.array(found) <= level) <= level + error


def test_the_test_counts_the_permutations_that_are_as_far_apart():
    reference, new = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.8, 0.95])
    pooled = np.concatenate([reference, new])

    def distance(chosen):
        rest = np.setdiff1d(np.arange(6), chosen)
        at = pooled[:, None]
        return np.abs(
            (pooled[list(chosen)] <= at).mean(axis=1)
            - (pooled[rest] <= at).mean(axis=1)
        ).max()

    every = [distance(c) for c in itertools.combinations(range(6), 2)]
    exact = np.mean(np.array(every) >= distance((4, 5)) - 1e-9)
    p = permutation_test([(reference, new)], 20000, seed=0)
    assert abs(p - exact) < 0.02
    assert smallest_p_value([(reference, new)], 20000) == 1 / 15
    assert smallest_p_value([(reference, new)], 9) == 1 / 10


def test_a_change_is_found():
    rng = np.random.default_rng(0)
    strata = [(draw(rng, 60), draw(rng, 40, shift=1.5))]
    assert permutation_test(strata, 499, seed=0) == 1 / 500
    assert permutation_test(strata, 499, 0) == permutation_test(strata, 499, 0)


def test_holm_adjusts_the_smallest_most():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_report_describes_itself():
    report = DriftReport(
        ["a", "b"], [0.02, None], [0.5, 0.5], [0.7, None], [30, 0], 0.05
    )
    assert report.changed == ["a"]
    assert report.describe()["changed"] == ["a"]
    assert str(report).splitlines()[1].endswith("p = 0.02, 30 samples *")
