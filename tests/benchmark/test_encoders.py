"""Inputs may be standardised inside the model, behind the augmentation."""

from pathlib import Path

import numpy as np
import pytest
from keras import ops

from keras_mmrel.benchmark._config import check_config
from keras_mmrel.benchmark._encoders import modality_specs
from keras_mmrel.encoders import MLPEncoder

RNG = np.random.default_rng(0)
X = {
    "a": RNG.normal(5.0, 0.01, size=(50, 4)).astype("float32"),
    "image": RNG.random((50, 8, 8, 1)).astype("float32"),
}


def method(inputs, **entry):
    return {"inputs": inputs, **entry}


def standardized(inputs, values):
    """What reaches the encoder, read from the layer before it."""
    model = modality_specs(method(inputs), X)["a"]
    encoder = next(x for x in model.layers if isinstance(x, MLPEncoder))
    identity = type(model)(model.input, encoder.input)
    return ops.convert_to_numpy(identity(values))


def test_raw_inputs_are_left_to_the_method():
    assert modality_specs(method("raw"), X) == {"a": (4,), "image": (8, 8, 1)}
    specs = modality_specs(method("raw", encoder={"hidden_units": [3]}), X)
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
    model = modality_specs(method("standardized"), constant)["a"]
    encoder = next(x for x in model.layers if isinstance(x, MLPEncoder))
    shifted = type(model)(model.input, encoder.input)(constant["a"] + 0.5)
    np.testing.assert_allclose(ops.convert_to_numpy(shifted), 0.5)


@pytest.mark.parametrize("name", ["QADMNet", "MICINet", "MMDynamics", "AIM"])
def test_a_method_with_encoders_of_its_own_takes_raw_inputs_only(name):
    config = {
        "datasets": ["rosmap"],
        "methods": {name: {"inputs": "clipped"}},
    }
    with pytest.raises(ValueError, match=f"methods.{name}.inputs"):
        check_config(config, Path())
