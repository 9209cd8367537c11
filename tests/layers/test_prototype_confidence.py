import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import PrototypeConfidence
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

X = np.random.default_rng(0).normal(size=(12, 2, 5)).astype("float32")
Y = np.arange(12) % 3


def test_standard_checks():
    run_layer_checks(
        PrototypeConfidence(3, embedding_dim=8, seed=1),
        X,
        output_shapes={
            "embedding": (12, 2, 8),
            "logits": (12, 2, 3),
            "probabilities": (12, 2, 3),
            "confidence": (12, 2),
            "prototypes": (2, 3, 8),
        },
    )


@pytest.mark.parametrize("classes", [2, 10, 101])
def test_temperature_rule_gives_99_percent_on_an_orthogonal_prototype(classes):
    layer = PrototypeConfidence(classes)
    logit = 1 / layer.tau
    largest = math.exp(logit) / (math.exp(logit) + classes - 1)
    assert abs(largest - 0.99) < 1e-6


def test_confidence_is_typicality_times_distance_from_chance():
    layer = PrototypeConfidence(3, temperature=0.2)
    typicality = np.random.default_rng(1).uniform(size=(12, 2))
    mask = np.ones((12, 2))
    mask[0, 1] = 0
    out = to_numpy(layer(X, typicality=typicality, modality_mask=mask))
    expected = (out["probabilities"].max(-1) - 1 / 3) / (2 / 3)
    np.testing.assert_allclose(
        out["confidence"], expected * typicality * mask, atol=1e-5
    )


def test_logits_ignore_the_length_of_the_embedding():
    layer = PrototypeConfidence(3)
    layer.build(X.shape)
    small = to_numpy(layer(X))["logits"]
    layer.kernel.assign(layer.kernel * 7.0)
    np.testing.assert_allclose(to_numpy(layer(X))["logits"], small, atol=1e-4)


def test_orthogonality_loss_is_zero_for_orthogonal_and_one_for_equal():
    layer = PrototypeConfidence(3, embedding_dim=8)
    layer.build(X.shape)
    layer.prototypes.assign(np.tile(np.eye(3, 8), (2, 1, 1)))
    assert abs(float(layer.orthogonality_loss())) < 1e-6
    layer.prototypes.assign(np.ones((2, 3, 8)))
    assert abs(float(layer.orthogonality_loss()) - 1) < 1e-5


def test_zero_embedding_is_finite():
    layer = PrototypeConfidence(3)
    out = to_numpy(layer(np.zeros((2, 2, 5))))
    assert all(np.isfinite(v).all() for v in out.values())


def test_it_trains_in_a_plain_keras_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2, 5))
    logits = PrototypeConfidence(3, dropout=0.0)(inputs)["logits"]
    model = keras.Model(inputs, ops.mean(logits, axis=1))
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = model.fit(X, Y, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
