import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import DiscriminativePower
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import gradients_of
from tests.micinet_models import input_gradient
from tests.micinet_models import normal
from tests.micinet_models import randomise
from tests.micinet_models import sigmoid
from tests.micinet_models import softmax

P = softmax(2.0 * normal(10, 3, 4))
SURPRISE = normal(10, 3, seed=1)
SHARE = sigmoid(normal(10, 3, seed=2))
MASK = np.ones((10, 3), "float32")
MASK[::2, 0] = 0
MASK[::3, 1] = 0


def random_layer():
    layer = DiscriminativePower()
    layer.build(P.shape)
    randomise(layer.trainable_weights)
    return layer


def features_of(p, surprise, share, mask):
    ordered = np.sort(p, axis=-1)
    present = p * mask[:, :, None]
    agreement = np.zeros(p.shape[:2])
    for b in range(len(p)):
        for m in range(p.shape[1]):
            others = present[b].sum(axis=0) - present[b, m]
            lengths = np.linalg.norm(others) * np.linalg.norm(present[b, m])
            if lengths:
                agreement[b, m] = present[b, m] @ others / lengths
    return np.stack(
        [
            ordered[:, :, -1] - ordered[:, :, -2],
            ordered[:, :, -1],
            -(p * np.log(p)).sum(axis=-1) / np.log(p.shape[-1]),
            surprise,
            4 * share,
            agreement,
        ],
        axis=-1,
    )


def test_standard_checks():
    run_layer_checks(
        DiscriminativePower(),
        [P, SURPRISE, SHARE, MASK],
        output_shapes={
            "own_logits": (10, 3),
            "power_logits": (10, 3),
            "discriminative_power": (10, 3),
        },
    )


@pytest.mark.parametrize("mask", [None, MASK])
def test_power_follows_the_formula(mask):
    layer = random_layer()
    out = to_numpy(layer(P, SURPRISE, SHARE, mask))
    mask = np.ones_like(MASK) if mask is None else mask
    found = features_of(P, SURPRISE, SHARE, mask)
    power = 10 * (found @ to_numpy(layer.kernel) + to_numpy(layer.bias))
    power = np.where(mask > 0, power, -1e4)
    np.testing.assert_allclose(out["power_logits"], power, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        out["discriminative_power"], softmax(power), atol=1e-4
    )


def test_relative_powers_sum_to_one_and_the_missing_have_none():
    out = to_numpy(random_layer()(P, SURPRISE, SHARE, MASK))[
        "discriminative_power"
    ]
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-6)
    assert (out[MASK == 0] == 0).all()


def test_a_missing_modality_neither_agrees_nor_disagrees():
    layer = random_layer()
    changed = P.copy()
    changed[MASK == 0] = softmax(normal(*P[MASK == 0].shape, seed=5))
    np.testing.assert_allclose(
        to_numpy(layer(changed, SURPRISE, SHARE, MASK))["power_logits"],
        to_numpy(layer(P, SURPRISE, SHARE, MASK))["power_logits"],
        rtol=1e-5,
    )


def test_two_equally_likely_classes_have_no_margin():
    layer = DiscriminativePower()
    layer.build((None, 1, 3))
    layer.kernel.assign([1.0, 0, 0, 0, 0, 0])
    p = np.array([[[0.45, 0.45, 0.1]], [[0.6, 0.3, 0.1]]], "float32")
    none = np.zeros((2, 1), "float32")
    power = to_numpy(layer(p, none, none))["power_logits"]
    np.testing.assert_allclose(power[:, 0], [0, 3], atol=1e-5)


def test_one_modality_has_all_power_and_agrees_with_nobody():
    layer = random_layer()
    alone = DiscriminativePower()
    alone.build((None, 1, 4))
    alone.kernel.assign(layer.kernel)
    alone.bias.assign(to_numpy(layer.bias)[:1])
    out = to_numpy(alone(P[:, :1], SURPRISE[:, :1], SHARE[:, :1]))
    np.testing.assert_allclose(out["discriminative_power"], 1, atol=1e-6)
    found = features_of(
        P[:, :1], SURPRISE[:, :1], SHARE[:, :1], np.ones((10, 1))
    )
    assert (found[:, :, 5] == 0).all()
    expected = 10 * (found @ to_numpy(alone.kernel) + to_numpy(alone.bias))
    np.testing.assert_allclose(
        out["power_logits"], expected, rtol=1e-4, atol=1e-4
    )


def test_gradients_reach_the_weights_but_none_of_the_features():
    layer = random_layer()

    def score(p, surprise, share):
        return ops.sum(layer(p, surprise, share)["discriminative_power"][:, 0])

    for gradient in (
        input_gradient(lambda p: score(p, SURPRISE, SHARE), P),
        input_gradient(lambda s: score(P, s, SHARE), SURPRISE),
        input_gradient(lambda s: score(P, SURPRISE, s), SHARE),
    ):
        np.testing.assert_array_equal(gradient, 0)
    for gradient in gradients_of(
        lambda: score(P, SURPRISE, SHARE), layer.trainable_weights
    ):
        assert np.abs(gradient).min() > 0


def test_at_first_agreement_is_trusted_and_surprise_is_not():
    p = np.tile(softmax(np.array([[2.0, 0, 0]] * 2 + [[0, 0, 2.0]])), (2, 1, 1))
    none = np.zeros((2, 3), "float32")
    surprise = none.copy()
    surprise[1, 0] = 2.0
    relative = to_numpy(DiscriminativePower()(p, surprise, none))[
        "discriminative_power"
    ]
    assert relative[0, 0] > 2 * relative[0, 2]
    assert relative[1, 0] < 0.5 * relative[1, 1]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, classes"):
        DiscriminativePower()(P[:, 0], SURPRISE, SHARE)
