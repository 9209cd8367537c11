import numpy as np
import pytest

from keras_mmrel.losses import RankLoss
from tests.helpers import json_round_trip
from tests.helpers import to_numpy

HISTORY = np.array([0.2, 0.8, 0.8, 0.5], "float32")
CONFIDENCE = np.array([0.9, 0.1, 0.6, 0.5], "float32")
# 0 is easier than 1 and more confident by more than 0.6; 1 and 2 are equal;
# 2 is harder than 3 by 0.3 and more confident by 0.1; 3 is harder than 0 by
# 0.3 and less confident by 0.4.
LOSSES = [0.0, 0.0, 0.4, 0.0]


def pairs(*args, **kwargs):
    return to_numpy(RankLoss(reduction=None)(*args, **kwargs))


def test_losses_of_the_pairs_are_those_computed_by_hand():
    np.testing.assert_allclose(pairs(HISTORY, CONFIDENCE), LOSSES, atol=1e-6)
    np.testing.assert_allclose(
        to_numpy(RankLoss()(HISTORY, CONFIDENCE)), 0.1, atol=1e-6
    )


def test_the_wrong_order_costs_the_gap_and_the_margin():
    history, confidence = np.array([0.0, 1.0]), np.array([0.3, 0.5])
    np.testing.assert_allclose(pairs(history, confidence), [1.2, 1.2])


def test_the_right_order_costs_what_the_margin_lacks():
    history, confidence = np.array([0.0, 0.5]), np.array([0.5, 0.3])
    np.testing.assert_allclose(
        pairs(history, confidence), [0.3, 0.3], atol=1e-6
    )


def test_equal_histories_and_a_batch_of_one_cost_nothing():
    assert (pairs(np.full(3, 0.5), np.array([3.0, -1.0, 0.0])) == 0).all()
    np.testing.assert_array_equal(pairs(np.ones(1), np.ones(1)), [0])


def test_columns_are_ranked_each_by_itself():
    history = np.stack([HISTORY, HISTORY[::-1]], axis=1)
    confidence = np.stack([CONFIDENCE, CONFIDENCE[::-1]], axis=1)
    losses = pairs(history, confidence)
    np.testing.assert_allclose(losses[:, 0], LOSSES, atol=1e-6)
    np.testing.assert_allclose(
        losses[:, 1], pairs(HISTORY[::-1], CONFIDENCE[::-1]), atol=1e-6
    )


def test_a_pair_counts_by_the_geometric_mean_of_its_weights():
    history, confidence = np.array([0.0, 1.0, 0.0]), np.zeros(3)
    np.testing.assert_array_equal(pairs(history, confidence), [1, 1, 0])
    np.testing.assert_allclose(
        pairs(history, confidence, sample_weight=np.array([1.0, 4.0, 9.0])),
        [2, 6, 0],
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        pairs(history, confidence, sample_weight=np.array([1.0, 0.0, 1.0])),
        [0, 0, 0],
    )


def test_weights_may_differ_between_columns():
    history, confidence = np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((2, 2))
    weight = np.array([[1.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(
        pairs(history, confidence, sample_weight=weight), [[1, 0], [1, 0]]
    )


@pytest.mark.parametrize("reduction", ["sum", None])
def test_config_round_trip(reduction):
    loss = RankLoss(reduction=reduction, name="order")
    copy = json_round_trip(loss)
    assert copy.get_config() == loss.get_config()
    np.testing.assert_array_equal(
        to_numpy(copy(HISTORY, CONFIDENCE)), to_numpy(loss(HISTORY, CONFIDENCE))
    )


@pytest.mark.parametrize("samples", [3, 4])
def test_one_weight_a_sample_counts_for_all_of_its_columns(samples):
    rng = np.random.default_rng(0)
    history = rng.random((samples, 3)).astype("float32")
    confidence = rng.random((samples, 3)).astype("float32")
    weight = np.linspace(0.1, 1.0, samples).astype("float32")
    np.testing.assert_allclose(
        pairs(history, confidence, sample_weight=weight),
        pairs(
            history, confidence, sample_weight=np.tile(weight[:, None], (1, 3))
        ),
        rtol=1e-6,
    )
