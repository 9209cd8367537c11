"""Zeros, constants and equal values: finite outputs and ordinary gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel import backend
from keras_mmrel import layers
from keras_mmrel.layers import _depth_statistics
from keras_mmrel.layers import prototype_confidence
from tests.helpers import to_numpy

Y = np.arange(8) % 4


def gradient(function, x):
    """Gradient of the sum of what `function` returns at `x`."""

    def total(values):
        outputs = keras.tree.flatten(function(values[0]))
        return sum(ops.sum(ops.cast(o, "float32")) for o in outputs)

    x = ops.convert_to_tensor(x)
    _, (result,) = backend.value_and_gradients(total, [x])
    return to_numpy(ops.cast(result, "float32"))


def constant(*shape, value=0.0):
    return np.full(shape, value, "float32")


@pytest.mark.parametrize("value", [0.0, 1e-20, 1e-7, 1e-3])
def test_the_direction_of_a_short_vector_has_a_bounded_gradient(value):
    x = constant(3, 5, value=value)
    unit = prototype_confidence.unit
    assert np.abs(gradient(unit, x)).max() < 400
    assert np.isfinite(to_numpy(unit(ops.convert_to_tensor(x)))).all()
    assert np.isfinite(
        to_numpy(_depth_statistics.unit(ops.convert_to_tensor(x)))
    ).all()
    long = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    np.testing.assert_allclose(
        np.linalg.norm(to_numpy(unit(ops.convert_to_tensor(long))), axis=-1),
        1.0,
        atol=1e-4,
    )


CASES = {
    "PrototypeConfidence": lambda: layers.PrototypeConfidence(4, dropout=0.0),
    "ICIRemoval": layers.ICIRemoval,
    "RunningStandardization": layers.RunningStandardization,
    "DynamicDepthFusion": lambda: layers.DynamicDepthFusion(4, dropout=0.0),
}


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-12])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_constant_inputs_have_finite_outputs_and_gradients(name, value, dtype):
    layer = CASES[name]()
    if dtype != "float32":
        config = {**layer.get_config(), "dtype": f"mixed_{dtype}"}
        layer = type(layer).from_config(config)
    x = constant(8, 2, 5, value=value)
    confidence = constant(8, 2, value=0.5)
    more = [confidence] if name == "DynamicDepthFusion" else []
    layer(x, *more)
    if name == "RunningStandardization":
        layer.adapt(x)
    outputs = layer(x, *more, training=False)
    for leaf in keras.tree.flatten(outputs):
        assert np.isfinite(to_numpy(ops.cast(leaf, "float32"))).all()
    result = gradient(lambda v: layer(v, *more, training=False), x)
    assert np.isfinite(result).all()
    assert np.abs(result).max() < 1e4


def test_a_feature_without_variance_is_not_infinitely_surprising():
    x = constant(4, 2, 3, value=0.5)
    out = layers.ICIRemoval()(x, constant(4, 2, 3), constant(4, 2, 3))
    assert all(np.isfinite(to_numpy(v)).all() for v in out.values())


@pytest.mark.parametrize("value", [0.0, 7.0, -1e4])
def test_a_modality_that_never_varies_is_zero_when_standardised(value):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 2, 5)).astype("float32")
    x[:, 1] = value
    layer = layers.RunningStandardization()
    for start in range(0, 64, 8):
        layer(x[start : start + 8], training=True)
    out = to_numpy(layer(x))
    assert (out[:, 1] == 0).all()
    assert 0.5 < out[:, 0].std() < 1.5


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("value", [0.0, 7.0, -1e4])
def test_a_gate_finds_a_modality_that_never_varies(value):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(64, 2, 5)).astype("float32")
    x[:, 1] = value
    gate = layers.FeatureGate(4)
    batches = [(x[start : start + 8], Y) for start in range(0, 64, 8)]
    gate.adapt(batches)
    assert to_numpy(gate.informative()).tolist() == [1, 0]
    typicality = to_numpy(gate(x)["typicality"])
    assert (typicality[:, 1] == 0).all()
    assert typicality[:, 0].mean() > 0.8


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_mean_of_all_classes_is_not_typical():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 1, 30))
    y = np.arange(400) % 4
    x = centres[y] + 0.5 * rng.normal(size=(400, 1, 30))
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    gate = layers.FeatureGate(4)
    gate.adapt(x, y)
    assert to_numpy(gate(x)["typicality"]).mean() > 0.9
    assert to_numpy(gate(0 * x[:1])["typicality"]).max() < 0.05


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_where_all_confidences_are_the_same_depth_is_full(value):
    allocator = layers.DepthAllocator(4)
    outputs = to_numpy(allocator(constant(8, 2, value=value)))
    assert (outputs["depth"] == 4).all()
    assert (outputs["weight"] == 1).all()
