"""Tests of the paired differences, their adjustment, and the ranks."""

import math

import numpy as np
import pandas
import pytest
from scipy import stats

from keras_mmrel.benchmark._ranks import critical_difference
from keras_mmrel.benchmark._ranks import friedman
from keras_mmrel.benchmark._statistics import holm
from keras_mmrel.benchmark._statistics import mean_ranks
from keras_mmrel.benchmark._statistics import paired_difference


@pytest.mark.parametrize("count", [2, 3, 10])
def test_without_a_ratio_it_is_the_paired_t_test(count):
    rng = np.random.default_rng(count)
    a, b = rng.normal(size=(2, count))
    mean, error, p = paired_difference(a, b)
    expected = stats.ttest_rel(a, b)
    assert mean == pytest.approx((a - b).mean())
    assert error == pytest.approx(stats.sem(a - b))
    assert p == pytest.approx(expected.pvalue)
    assert mean / error == pytest.approx(expected.statistic)


def test_the_correction_is_that_of_nadeau_and_bengio():
    a, b = np.array([0.9, 0.8, 0.85, 0.95]), np.array([0.8, 0.8, 0.8, 0.8])
    # Differences 0.1, 0, 0.05, 0.15: mean 0.075, variance 0.0125 / 3.
    mean, error, p = paired_difference(a, b, test_to_training=3 / 7)
    variance = (1 / 4 + 3 / 7) * 0.0125 / 3
    assert mean == pytest.approx(0.075)
    assert error == pytest.approx(math.sqrt(variance))
    assert p == pytest.approx(2 * stats.t.sf(0.075 / math.sqrt(variance), 3))
    assert p > paired_difference(a, b)[2]


def test_equal_values_and_single_seeds_have_no_surprise():
    assert paired_difference([0.5, 0.7], [0.5, 0.7]) == (0.0, 0.0, 1.0)
    mean, error, p = paired_difference([0.75, 1.0], [0.5, 0.75])
    assert (mean, error, p) == (0.25, 0.0, 0.0)
    mean, error, p = paired_difference([0.75], [0.5])
    assert mean == 0.25 and math.isnan(error) and math.isnan(p)


def test_nan_makes_the_difference_nan():
    found = paired_difference([0.5, math.nan, 0.7], [0.4, 0.5, 0.6])
    assert all(math.isnan(value) for value in found)


def test_holm_steps_down_as_by_hand():
    # 4 x 0.005, 3 x 0.01, then 2 x 0.03 and, never less, 1 x 0.04.
    found = holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])


def test_holm_is_the_published_example():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm").
    found = holm([0.01, 0.02, 0.03, 0.04, 0.05])
    np.testing.assert_allclose(found, [0.05, 0.08, 0.09, 0.09, 0.09])


def test_holm_stays_below_one_and_leaves_nan_out_of_the_family():
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    found = holm([0.02, math.nan, 0.01])
    np.testing.assert_allclose(found, [0.02, math.nan, 0.02])
    assert holm([]) == [] and math.isnan(holm([math.nan])[0])


def test_ranks_share_ties_and_leave_out_blocks_with_nan():
    table = pandas.DataFrame(
        {
            "A": [0.9, 0.5, 0.9, 0.2],
            "B": [0.9, 0.7, np.nan, 0.3],
            "C": [0.1, 0.6, 0.8, 0.4],
        }
    )
    # Up: 1.5 1.5 3, 3 1 2, 3 2 1.
    up = mean_ranks(table, down=False)
    assert up.to_dict() == {"A": 2.5, "B": 1.5, "C": 2.0}
    down = mean_ranks(table, down=True)
    assert down.to_dict() == {"A": 1.5, "B": 2.5, "C": 2.0}


def test_friedman_and_nemenyi_as_in_demsar_2006():
    # His example: four classifiers on 14 data sets, F = 3.69 and CD = 1.25.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    # Studentized range for ten methods over sqrt(2): 3.164.
    unit = np.sqrt(10 * 11 / (6 * 7))
    assert critical_difference(10, 7) == pytest.approx(3.164 * unit, rel=1e-3)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 5)) + 0.5 * np.arange(5)
    values[0, :2] = values[0, 2]
    chi2 = stats.friedmanchisquare(*values.T).statistic
    f = 7 * chi2 / (8 * 4 - chi2)
    ranks = stats.rankdata(values, axis=1)
    assert friedman(ranks) == pytest.approx(stats.f.sf(f, 4, 28))
    assert friedman(np.full((3, 4), 2.5)) == 1.0
    assert friedman(np.tile(np.arange(1.0, 5.0), (3, 1))) == 0.0
