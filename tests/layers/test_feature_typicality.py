import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers._feature_typicality import FeatureTypicality
from tests.helpers import json_round_trip
from tests.helpers import to_numpy


def data(samples=300, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 3
    centres = 3 * np.random.default_rng(9).normal(size=(3, 8))
    deviation = np.linspace(0.5, 2, 8)
    x = centres[y] + deviation * rng.normal(size=(samples, 8))
    return (scale * x).astype("float32"), y


def adapted(scale=1.0, batches=30, hide=None):
    layer = FeatureTypicality(3)
    layer.build((None, 8))
    for seed in range(batches):
        x, y = data(60, scale, seed + 1)
        weight = np.ones(60, "float32")
        if hide is not None:
            x[::3], weight[::3] = hide, 0
        layer.update_statistics(
            ops.convert_to_tensor(x), ops.convert_to_tensor(y), weight
        )
    return layer


@pytest.mark.slow_on("jax", "tensorflow")
def test_it_is_the_distance_to_the_nearest_class_in_units_within_classes():
    layer = adapted()
    x, y = data()
    x[::5] += 4 * np.random.default_rng(3).normal(size=(60, 8))
    prototypes = to_numpy(layer.prototypes)
    variance = to_numpy(layer.within) + 0.05 * to_numpy(layer.spread)
    np.testing.assert_allclose(variance[-1] / variance[0], 11, rtol=0.4)
    distance = ((x[:, None] - prototypes) ** 2 / variance).mean(2).min(1)
    mean, square = to_numpy(layer.logarithms)
    limit = np.exp(mean + 1.645 * np.sqrt(square - mean**2))
    expected = 1 / (1 + np.maximum(distance / limit - 1, 0))
    np.testing.assert_allclose(to_numpy(layer(x)), expected, atol=1e-4)
    # Of samples as in training one in twenty is unusual.
    fresh, _ = data(2000, seed=99)
    assert 0.01 < (to_numpy(layer(fresh)) < 1).mean() < 0.1
    assert expected[::5].mean() < 0.6


def test_before_training_everything_is_typical():
    layer = FeatureTypicality(3)
    x, _ = data()
    np.testing.assert_array_equal(to_numpy(layer(x)), 1.0)
    assert json_round_trip(layer).get_config() == layer.get_config()


def test_a_constant_scale_changes_nothing():
    x, _ = data()
    x[::2] *= 3
    np.testing.assert_allclose(
        to_numpy(adapted(scale=100.0)(100 * x)),
        to_numpy(adapted()(x)),
        atol=1e-3,
    )


def test_what_does_not_count_has_no_influence():
    for a, b in zip(
        adapted(hide=np.nan).weights, adapted(hide=7.0).weights, strict=True
    ):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
        assert np.isfinite(to_numpy(a)).all()
