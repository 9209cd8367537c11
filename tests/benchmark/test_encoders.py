"""Inputs may be standardised inside the model, behind the augmentation."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel import benchmark
from keras_mmrel.benchmark._encoders import modality_specs
from keras_mmrel.encoders import MLPEncoder
from tests.benchmark.helpers import arrays

RNG = np.random.default_rng(0)
X = {
    "a": RNG.normal(5.0, 0.01, size=(50, 4)).astype("float32"),
    "image": RNG.random((50, 8, 8, 1)).astype("float32"),
}


def standardized(inputs, values):
    """What reaches the encoder, read from the layer before it."""
    model = modality_specs(X, None, inputs)["a"]
    encoder = next(x for x in model.layers if isinstance(x, MLPEncoder))
    identity = type(model)(model.input, encoder.input)
    return ops.convert_to_numpy(identity(values))


def test_raw_inputs_are_left_to_the_method():
    assert modality_specs(X, None, "raw") == {"a": (4,), "image": (8, 8, 1)}
    specs = modality_specs(X, {"hidden_units": [3]}, "raw")
    assert specs["a"].hidden_units == (3,)
    assert specs["image"] == (8, 8, 1)


def test_inputs_are_standardised_as_the_training_part():
    found = standardized("standardized", X["a"] + 1.0)
    expected = (X["a"] + 1.0 - X["a"].mean(axis=0)) / X["a"].std(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
    assert np.abs(found).max() > 50


def test_clipped_inputs_stay_within_three_deviations():
    found = standardized("clipped", X["a"] + 1.0)
    np.testing.assert_array_equal(found, np.full_like(found, 3.0))


def test_noise_on_a_feature_that_is_constant_in_training_is_not_blown_up():
    constant = {"a": np.zeros((50, 4), "float32")}
    model = modality_specs(constant, None, "standardized")["a"]
    encoder = next(x for x in model.layers if isinstance(x, MLPEncoder))
    shifted = type(model)(model.input, encoder.input)(constant["a"] + 0.5)
    np.testing.assert_allclose(ops.convert_to_numpy(shifted), 0.5)


def test_encoders_of_ones_own_get_name_and_shape():
    seen = []

    def encoder(name, shape):
        seen.append((name, shape))
        return keras.layers.Flatten()

    specs = modality_specs(X, encoder, "raw")
    assert seen == [("a", (4,)), ("image", (8, 8, 1))]
    assert all(isinstance(s, keras.layers.Flatten) for s in specs.values())
    with pytest.raises(ValueError, match="`encoder` must return one layer"):
        modality_specs(X, lambda name, shape: [], "clipped")


@pytest.mark.parametrize("name", ["QADMNet", "MICINet", "MMDynamics", "AIM"])
def test_a_method_with_encoders_of_its_own_takes_raw_inputs_only(name):
    with pytest.raises(ValueError, match=f"methods.{name}.inputs"):
        benchmark.Comparison(["rosmap"], {name: {"inputs": "clipped"}})


@pytest.mark.skipif(
    keras.config.backend() != "torch",
    reason="only there a layer sees numbers in training",
)
def test_training_noise_has_one_unit_in_all_rows_of_a_regime(tmp_path):
    """What a row is corrupted by cannot depend on how it scales its inputs."""
    x, y = arrays()
    # Far from deviations of 1: in standardised units the noise would be
    # another one.
    x = {name: 100.0 * values for name, values in x.items()}
    noise = {}

    class Recorded(keras_mmrel.layers.CorruptionAugmentation):
        def call(self, inputs, training=None):
            outputs = super().call(inputs, training=training)
            if training:
                noise.setdefault(id(self), []).append(
                    ops.convert_to_numpy(outputs["a"] - inputs["a"])
                )
            return outputs

    benchmark.Comparison(
        datasets={"own": benchmark.Dataset(lambda: (x, y), scale="none")},
        methods={
            inputs: benchmark.Method("LateFusion", inputs=inputs)
            for inputs in ("raw", "standardized", "clipped")
        },
        regimes={"noisy": lambda seed: Recorded([7.0], 1.0, seed=seed)},
        seeds=1,
        training={"epochs": 1, "batch_size": "full"},
        evaluation={"corruptions": []},
    ).run(tmp_path, verbose=0)
    widths = [np.std(found[-1]) for found in noise.values()]
    np.testing.assert_allclose(widths, 7.0, rtol=0.3)
    first, second, third = (found[-1] for found in noise.values())
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(first, third, rtol=1e-3, atol=1e-3)
