"""Ways to feed a metric which must all give one value."""

import numpy as np
import pytest
from keras import ops


def result(metric):
    return float(ops.convert_to_numpy(metric.result()))


def value(metric, *args, **kwargs):
    metric.reset_state()
    metric.update_state(*args, **kwargs)
    return result(metric)


def assert_streams_and_merges(metric, y_true, y_pred, weight):
    """Batches in any order, and the sum of two states, change nothing."""
    sizes = [tuple(v.shape) for v in metric.variables]
    whole = value(metric, y_true, y_pred, weight)
    assert np.isfinite(whole)
    assert abs(whole - value(metric, y_true, y_pred)) > 1e-4
    order = np.random.default_rng(1).permutation(len(y_true))
    metric.reset_state()
    for rows in np.array_split(order, 4):
        metric.update_state(y_true[rows], y_pred[rows], weight[rows])
    np.testing.assert_allclose(result(metric), whole, atol=2e-6)

    states = []
    for rows in (order[:30], order[30:]):
        metric.reset_state()
        metric.update_state(y_true[rows], y_pred[rows], weight[rows])
        states.append([ops.convert_to_numpy(v) for v in metric.variables])
    for variable, first, second in zip(metric.variables, *states, strict=True):
        variable.assign(first + second)
    np.testing.assert_allclose(result(metric), whole, atol=2e-6)

    assert [tuple(v.shape) for v in metric.variables] == sizes
    metric.reset_state()
    assert np.isnan(result(metric))
    assert all((ops.convert_to_numpy(v) == 0).all() for v in metric.variables)


def assert_weight_is_repetition(metric, y_true, y_pred):
    """A weight of 0 drops a sample, NaN included, and 3 is three samples."""
    weight = np.arange(len(y_true)) % 4
    times = np.repeat(np.arange(len(y_true)), weight)
    expected = value(metric, y_true[times], y_pred[times])
    y_pred = np.array(y_pred, "float32")
    y_pred[weight == 0] = np.nan
    assert abs(value(metric, y_true, y_pred, weight) - expected) < 2e-6
    column = weight[:, None].astype("int64")
    assert abs(value(metric, y_true, y_pred, column) - expected) < 2e-6


def assert_broken_samples_make_nan(metric, y_true, y_pred):
    """One NaN prediction, and all later results, are NaN.

    A bad weight that is at hand is refused.
    """
    broken = np.array(y_pred, "float32")
    broken.reshape(-1)[0] = np.nan
    assert np.isnan(value(metric, y_true, broken))
    metric.update_state(y_true, y_pred)
    assert np.isnan(result(metric))
    metric.reset_state()
    metric.update_state(y_true, y_pred)
    assert np.isfinite(result(metric))
    for bad in (np.nan, np.inf, -1.0):
        weight = np.ones(len(y_true))
        weight[1] = bad
        with pytest.raises(ValueError, match="`sample_weight` must be finite"):
            value(metric, y_true, y_pred, weight)
