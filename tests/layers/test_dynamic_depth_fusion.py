import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import DynamicDepthFusion
from tests.helpers import check_statistics_move_in_fit_only
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(37, 3, 6)).astype("float32")
CONFIDENCE = RNG.uniform(size=(37, 3)).astype("float32")


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def ready_layer(low=0.2, high=0.8, **kwargs):
    """A layer whose depth is dynamic, with blocks that matter."""
    layer = DynamicDepthFusion(4, hidden_dim=12, **kwargs)
    layer.build(X.shape)
    layer.allocator.low.assign(low)
    layer.allocator.high.assign(high)
    layer.allocator.ready.assign(1.0)
    for weight in layer.trainable_weights:
        weight.assign(0.4 * RNG.normal(size=weight.shape))
    return layer


@pytest.mark.parametrize("predicted", [False, True])
def test_standard_checks(predicted):
    run_layer_checks(
        DynamicDepthFusion(4, 3, 12, predicted_parameters=predicted, seed=1),
        [X, CONFIDENCE],
        output_shapes={
            "logits": (37, 4),
            "modality_logits": (37, 3, 4),
            "exit_logits": (37, 3, 3, 4),
            "depth": (37, 3),
            "weights": (37, 3),
        },
    )


def test_depth_is_full_until_the_quantiles_are_known():
    layer = DynamicDepthFusion(4, 3, 12)
    mask = np.ones((37, 3))
    mask[:5, 2] = 0
    out = to_numpy(layer(X, 0 * CONFIDENCE, modality_mask=mask))
    np.testing.assert_array_equal(out["depth"], 3 * mask)


def test_depth_is_a_whole_number_that_grows_with_confidence():
    layer = ready_layer(max_depth=4)
    steps = np.linspace(0, 1, 37, dtype="float32")
    confidence = np.stack([steps, np.ones_like(steps), steps], axis=1)
    depth = to_numpy(layer(X, confidence))["depth"]
    assert set(np.unique(depth)) == {0, 1, 2, 3, 4}
    assert (np.diff(depth[:, 0]) >= 0).all()
    expected = np.round(4 * np.clip((steps - 0.2) / 0.6, 0, 1))
    np.testing.assert_allclose(depth[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("predicted", [False, True])
def test_masked_forward_equals_running_only_the_blocks_of_each_row(predicted):
    layer = ready_layer(max_depth=3, predicted_parameters=predicted)
    out = to_numpy(layer(X, CONFIDENCE))
    weights = {w.name: ops.convert_to_numpy(w) for w in layer.weights}
    executed = 0
    for row in range(len(X)):
        depth = out["depth"][row].astype(int)
        logits = weights["head_bias"].copy()
        factor = np.ones((3, 12))
        for level in range(3):
            part = slice(4 * level, 4 * level + 4)
            for m in np.flatnonzero(depth > level):
                executed += 1
                hidden = X[row, m] @ weights["kernel"][m][:, part]
                hidden = np.maximum(hidden + weights["bias"][m, part], 0)
                hidden = hidden * factor[m, part]
                logits[m] += hidden @ weights["head_kernel"][m, part]
            if level == 0 and predicted:
                best = np.argmax(np.where(depth > 0, CONFIDENCE[row], -1))
                p = np.exp(logits[best] - logits[best].max())
                opinion = p / p.sum() - 1 / 4
                factor = 1 + np.tanh(
                    np.einsum("k,mkh->mh", opinion, weights["predictor"])
                )
        np.testing.assert_allclose(
            out["exit_logits"][row, :, -1], logits, rtol=1e-4, atol=1e-4
        )
    assert executed == out["depth"].sum()


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("batch", [1, 5, 37])
def test_skipping_gives_the_same_outputs_as_masking(predicted, batch):
    masked = ready_layer(max_depth=3, predicted_parameters=predicted)
    skipping = DynamicDepthFusion.from_config(
        {**masked.get_config(), "inference": "skip"}
    )
    skipping.build(X.shape)
    skipping.set_weights(masked.get_weights())
    for scale in (0.0, 0.3, 1.0):
        args = (X[:batch], scale * CONFIDENCE[:batch])
        expected = to_numpy(masked(*args))
        for key, value in to_numpy(skipping(*args)).items():
            np.testing.assert_allclose(value, expected[key], atol=1e-5)


def test_skipping_compiles_once_for_every_pattern_of_depths():
    layer = ready_layer(max_depth=2, inference="skip")
    features = keras.Input((3, 6))
    confidence = keras.Input((3,))
    model = keras.Model(
        [features, confidence], layer(features, confidence)["logits"]
    )
    reference = ready_layer(max_depth=2)
    reference.set_weights(layer.get_weights())
    for scale in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(
            model.predict_on_batch([X, scale * CONFIDENCE]),
            to_numpy(reference(X, scale * CONFIDENCE))["logits"],
            atol=1e-4,
        )


def test_weights_are_equal_over_the_modalities_that_run():
    layer = ready_layer(max_depth=2)
    out = to_numpy(layer(X, CONFIDENCE))
    runs = out["depth"] > 0
    np.testing.assert_allclose(
        out["weights"], runs / runs.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_less_depth_means_less_evidence():
    layer = ready_layer(max_depth=4)
    spreads = []
    for confidence in (0.3, 0.5, 0.65, 0.9):
        out = to_numpy(layer(X, np.full((37, 3), confidence, "float32")))
        evidence = out["exit_logits"][:, :, -1] - ops.convert_to_numpy(
            layer.head_bias
        )
        spreads.append(evidence.std())
    assert spreads == sorted(spreads)


def test_exits_are_cumulative_and_stop_at_the_depth():
    layer = ready_layer(max_depth=3)
    at_inference = to_numpy(layer(X, CONFIDENCE))
    exits, depth = at_inference["exit_logits"], at_inference["depth"]
    np.testing.assert_allclose(
        log_softmax(exits[:, :, -1]), at_inference["modality_logits"], atol=1e-5
    )
    stopped = depth < 3
    np.testing.assert_allclose(exits[stopped][:, 1], exits[stopped][:, 2])


def test_logits_are_the_weighted_product_of_experts():
    layer = ready_layer(max_depth=2, sharpness=0.5)
    p = np.full((37, 3, 4), 0.25, "float32")
    out = to_numpy(layer(X, CONFIDENCE, prototype_probabilities=p))
    own = np.exp(log_softmax(out["exit_logits"][:, :, -1]))
    expert = np.log(0.7 * own + 0.3 * p + 1e-6)
    np.testing.assert_allclose(out["modality_logits"], expert, atol=1e-4)
    running = (out["depth"] > 0).sum(axis=1, keepdims=True)
    expected = (out["weights"][:, :, None] * expert).sum(axis=1)
    np.testing.assert_allclose(
        out["logits"], expected * running**0.5, rtol=1e-4, atol=1e-4
    )


def test_without_any_trust_all_present_modalities_run_once():
    layer = ready_layer(low=5.0, high=6.0, max_depth=3)
    mask = np.ones((37, 3), "float32")
    mask[0] = [0, 1, 1]
    mask[1] = 0
    out = to_numpy(layer(X, CONFIDENCE, modality_mask=mask))
    np.testing.assert_array_equal(out["depth"], mask)
    np.testing.assert_allclose(out["weights"][0], [0, 0.5, 0.5])
    assert np.isfinite(out["logits"]).all()


def test_a_modality_at_depth_zero_has_no_influence():
    layer = ready_layer(max_depth=2)
    confidence = np.full((37, 3), 0.9, "float32")
    confidence[:, 1] = 0.0
    loud = X.copy()
    loud[:, 1] *= 1e4
    np.testing.assert_allclose(
        to_numpy(layer(loud, confidence))["logits"],
        to_numpy(layer(X, confidence))["logits"],
        atol=1e-5,
    )


def test_predicted_parameters_start_close_to_the_static_blocks():
    layer = DynamicDepthFusion(4, 2, 16, predicted_parameters=True)
    layer.build(X.shape)
    static = DynamicDepthFusion(4, 2, 16)
    static.build(X.shape)
    by_name = {w.name: w for w in layer.weights}
    for weight in static.weights:
        weight.assign(by_name[weight.name])
    expected = to_numpy(static(X, CONFIDENCE))["logits"]
    np.testing.assert_allclose(
        to_numpy(layer(X, CONFIDENCE))["logits"], expected, atol=0.1
    )
    layer.predictor.assign(np.zeros(layer.predictor.shape))
    np.testing.assert_allclose(
        to_numpy(layer(X, CONFIDENCE))["logits"], expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"max_depth": 3, "hidden_dim": 8}, "must be a multiple"),
        ({"quantiles": (0.5, 0.5)}, "`quantiles` must be an increasing"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        DynamicDepthFusion(4, **kwargs)


def test_the_scale_of_depth_moves_in_fit_only_unless_frozen():
    check_statistics_move_in_fit_only(
        DynamicDepthFusion(4, hidden_dim=8, dropout=0.0),
        [X, CONFIDENCE],
        output="logits",
    )


def test_a_depth_that_is_given_is_used_and_moves_nothing():
    layer = DynamicDepthFusion(4, hidden_dim=8, dropout=0.0)
    own = to_numpy(layer(X, CONFIDENCE))
    depth = np.ones_like(CONFIDENCE)
    out = to_numpy(layer(X, CONFIDENCE, depth=depth, training=True))
    np.testing.assert_array_equal(out["depth"], 1)
    assert float(layer.allocator.ready) == 0
    same = to_numpy(layer(X, CONFIDENCE, depth=own["depth"]))
    np.testing.assert_array_equal(same["logits"], own["logits"])


@pytest.mark.parametrize("inference", ["masked", "skip"])
def test_a_missing_modality_may_hold_anything(inference):
    layer = DynamicDepthFusion(
        4, hidden_dim=8, predicted_parameters=True, inference=inference
    )
    mask = np.ones_like(CONFIDENCE)
    mask[::2, 1] = 0
    spoiled, confidence = X.copy(), CONFIDENCE.copy()
    spoiled[::2, 1] = confidence[::2, 1] = np.nan
    expected = to_numpy(layer(X, CONFIDENCE, modality_mask=mask))
    out = to_numpy(layer(spoiled, confidence, modality_mask=mask))
    np.testing.assert_array_equal(out["logits"], expected["logits"])
