import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers._depth_statistics import DepthStatistics
from tests.helpers import json_round_trip
from tests.helpers import to_numpy

CLASSES, CHANNELS = 3, 5


def unit(v):
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def average(state, new, first):
    return new if first else 0.9 * state + 0.1 * new


def reference(batches):
    """The states after `batches`, sample by sample and class by class."""
    center = np.zeros(CHANNELS)
    prototypes = np.zeros((CLASSES, CHANNELS))
    seen = np.zeros(CLASSES)
    scores, performance = np.zeros(CHANNELS), 1.0 / CLASSES
    for features, y, weight in batches:
        features, y = features[weight > 0], y[weight > 0]
        if len(y) == 0:
            continue
        center = average(center, features.mean(axis=0), not seen.any())
        for k in np.unique(y):
            mean = features[y == k].mean(axis=0)
            prototypes[k] = average(prototypes[k], mean, not seen[k])
        for k in y:
            seen[k] += 1
        directions = unit(prototypes - prototypes.mean(axis=0))
        margins, chances = [], []
        for z, k in zip(unit(features - center), y, strict=True):
            others = [directions[j] for j in range(CLASSES) if j != k]
            margins.append(z * (directions[k] - np.mean(others, axis=0)))
            powers = np.exp(directions @ z / 0.1)
            chances.append(powers[k] / powers.sum())
        scores = average(scores, np.mean(margins, axis=0), False)
        performance = average(performance, np.mean(chances), False)
    return {
        "center": center,
        "prototypes": prototypes,
        "scores": scores,
        "performance": performance,
    }


def make_batches(hidden=np.nan):
    rng = np.random.default_rng(0)
    labels = ([0, 0, 1, 1, 0, 1], [2, 1, 0, 2], [0, 1, 2], [2, 2, 1, 0, 1])
    weights = ([1, 1, 1, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0], [1, 1, 1, 1, 1])
    batches = []
    for y, weight in zip(labels, weights, strict=True):
        y, weight = np.array(y), np.array(weight, "float32")
        features = rng.normal(size=(len(y), CHANNELS)) + np.eye(3, CHANNELS)[y]
        features[weight == 0] = hidden
        batches.append((features.astype("float32"), y, weight))
    return batches


def tensors(*arrays):
    return [ops.convert_to_tensor(a, "float32") for a in arrays]


def updated(batches):
    layer = DepthStatistics(CLASSES)
    layer.build((None, CHANNELS))
    for features, y, weight in batches:
        layer.update_statistics(*tensors(features, np.eye(CLASSES)[y], weight))
    return layer


@pytest.mark.slow_on("jax", "tensorflow")
def test_states_equal_a_plain_implementation_over_several_batches():
    layer = updated(make_batches())
    expected = reference(make_batches())
    for name, value in expected.items():
        np.testing.assert_allclose(
            to_numpy(getattr(layer, name)), value, atol=1e-5, err_msg=name
        )
    assert expected["performance"] > 1 / CLASSES + 0.02


def test_what_a_sample_without_weight_holds_has_no_influence():
    for a, b in zip(
        updated(make_batches(np.nan)).weights,
        updated(make_batches(7.0)).weights,
        strict=True,
    ):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_scores_add_up_to_the_mean_cosine_margin():
    layer = updated(make_batches())
    features, y, _ = make_batches()[3]
    batch = tensors(features, np.eye(CLASSES)[y], np.ones(len(y)))
    margins, chance = (to_numpy(v) for v in layer.margins_of(*batch[:2]))
    prototypes = to_numpy(layer.prototypes)
    cosines = (
        unit(features - to_numpy(layer.center))
        @ unit(prototypes - prototypes.mean(axis=0)).T
    )
    own = cosines[np.arange(len(y)), y]
    others = (cosines.sum(axis=1) - own) / (CLASSES - 1)
    np.testing.assert_allclose(margins.sum(axis=1), own - others, atol=1e-6)
    assert ((chance > 0) & (chance < 1)).all()
    # The moving average of the scores has the same sum.
    before = to_numpy(layer.scores)
    layer.update_statistics(*batch)
    margins, _ = layer.margins_of(*batch[:2])
    expected = 0.9 * before.sum() + 0.1 * to_numpy(margins).sum(axis=1).mean()
    np.testing.assert_allclose(
        to_numpy(layer.scores).sum(), expected, atol=1e-6
    )


def test_a_depth_that_separates_the_classes_performs_better():
    y = np.arange(60) % CLASSES
    noise = np.random.default_rng(0).normal(size=(60, CHANNELS))
    weight = np.ones(60, "float32")
    informative = noise + 5 * np.eye(CLASSES, CHANNELS)[y]
    good = updated([(informative.astype("float32"), y, weight)] * 20)
    bad = updated([(noise.astype("float32"), y, weight)] * 20)
    assert to_numpy(good.performance) > to_numpy(bad.performance) + 0.2
    # The two channels beside the three that tell the classes apart.
    scores = to_numpy(good.scores)
    assert scores[:3].min() > 10 * np.abs(scores[3:]).max()


def test_a_call_passes_features_on_and_the_config_survives_json():
    layer = DepthStatistics(4)
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    copy = json_round_trip(layer)
    assert copy.get_config() == layer.get_config()
    assert copy.num_classes == 4
