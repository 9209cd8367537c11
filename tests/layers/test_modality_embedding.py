import numpy as np
import pytest

from keras_mmrel.layers import ModalityEmbedding
from tests.helpers import assert_same_state
from tests.helpers import check_statistics_move_in_fit_only
from tests.helpers import to_numpy
from tests.micinet_models import normal

X = [3.0 + normal(40, 5), 0.5 * normal(40, 3, seed=1) - 1.0]
MASK = np.ones((40, 2), "float32")
MASK[::3, 1] = 0


@pytest.mark.slow_on("jax", "tensorflow")
def test_outputs_are_projected_around_the_mean_and_standardised():
    layer = ModalityEmbedding(8)
    layer(X)
    layer.update_statistics(X, MASK)
    z = to_numpy(layer(X))
    for m, x in enumerate(X):
        present = MASK[:, m] > 0
        kernel, bias = (to_numpy(w) for w in layer.projections[m].weights)
        h = (x - x[present].mean(axis=0)) @ kernel + bias
        h = np.maximum(h, 0)
        variance = h[present].var(axis=0)
        floor = 0.1 * np.sqrt(variance).mean()
        expected = h - h[present].mean(axis=0)
        expected /= np.sqrt(variance + floor**2)
        np.testing.assert_allclose(z[:, m], expected, atol=1e-4)


@pytest.mark.slow_on("jax", "tensorflow")
def test_after_one_batch_the_next_is_standardised():
    layer = ModalityEmbedding(16)
    layer(X)
    layer.update_statistics([x[:20] for x in X])
    z = to_numpy(layer([x[20:] for x in X]))
    assert abs(z.mean()) < 0.3 and 0.6 < z.std() < 1.4


def test_missing_modalities_are_zero_and_enter_no_statistic():
    layers = [ModalityEmbedding(8) for _ in range(2)]
    spoiled = X[1].copy()
    spoiled[MASK[:, 1] == 0] = 50.0
    for layer in layers:
        layer(X)
        layer.set_weights(layers[0].get_weights())
    layers[0].update_statistics(X, MASK)
    layers[1].update_statistics([X[0], spoiled], MASK)
    for a, b in zip(*(layer.weights for layer in layers), strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-5)
    z = to_numpy(layers[0](X, MASK))
    assert (z[MASK == 0] == 0).all() and np.abs(z[MASK > 0]).max() > 0.5


def test_a_tensor_is_no_list_of_features():
    with pytest.raises(ValueError, match="list of"):
        ModalityEmbedding(4)(np.ones((3, 4)))


def test_a_training_call_has_taken_in_its_batch():
    a, b = X
    called = ModalityEmbedding(4)
    called([a, b])
    updated = ModalityEmbedding(4)
    updated([a, b])
    updated.set_weights(called.get_weights())
    updated.update_statistics([a, b])
    out = to_numpy(called([a, b], training=True))
    np.testing.assert_array_equal(out, to_numpy(updated([a, b])))
    assert_same_state(called, updated)


def test_a_missing_modality_may_hold_anything():
    a, b = X
    mask = np.ones((len(a), 2), "float32")
    mask[::3, 1] = 0
    spoiled = b.copy()
    spoiled[::3] = np.nan
    layer = ModalityEmbedding(4)
    layer([a, b], mask)
    weights = layer.get_weights()
    expected = to_numpy(layer([a, b], mask, training=True))
    state = layer.get_weights()
    layer.set_weights(weights)
    out = to_numpy(layer([a, spoiled], mask, training=True))
    np.testing.assert_array_equal(out, expected)
    for own, other in zip(layer.get_weights(), state, strict=True):
        np.testing.assert_array_equal(own, other)
    assert (out[::3, 1] == 0).all()


def test_statistics_move_in_fit_only_unless_frozen():
    check_statistics_move_in_fit_only(ModalityEmbedding(4), X, True)


def test_statistics_build_the_layer():
    layer = ModalityEmbedding(4)
    layer.update_statistics(X)
    assert layer.built and layer.non_trainable_weights
