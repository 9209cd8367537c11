import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import CosineClassifier
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def test_standard_checks():
    run_layer_checks(CosineClassifier(3, scale=4.0), X, output_shapes=(64, 3))


def test_logits_are_scaled_cosines():
    layer = CosineClassifier(3, scale=4.0)
    logits = to_numpy(layer(X))
    kernel = to_numpy(layer.kernel)
    lengths = np.linalg.norm(X, axis=1)[:, None] * np.linalg.norm(
        kernel, axis=1
    )
    np.testing.assert_allclose(logits, 4.0 * X @ kernel.T / lengths, atol=5e-4)
    np.testing.assert_allclose(to_numpy(layer(100 * X)), logits, atol=5e-4)
    layer.kernel.assign(100 * kernel)
    np.testing.assert_allclose(to_numpy(layer(X)), logits, atol=5e-4)


def test_a_feature_of_zeros_says_nothing():
    logits = to_numpy(CosineClassifier(3)(np.zeros((2, 4), "float32")))
    np.testing.assert_array_equal(logits, np.zeros((2, 3)))


def test_large_features_in_half_precision():
    layer = CosineClassifier(3, dtype="mixed_float16")
    logits = layer(ops.full((2, 4), 2e4, dtype="float16"))
    assert keras.backend.standardize_dtype(logits.dtype) == "float16"
    assert np.abs(to_numpy(ops.cast(logits, "float32"))).max() <= 10


def test_bad_input():
    with pytest.raises(ValueError, match="`scale` must be"):
        CosineClassifier(3, scale=0.0)
    with pytest.raises(ValueError, match="`num_classes` must be"):
        CosineClassifier(0)
