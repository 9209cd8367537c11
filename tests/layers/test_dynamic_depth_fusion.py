import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers import DynamicDepthFusion
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

RNG = np.random.default_rng(0)
X = RNG.normal(size=(37, 3, 6)).astype("float32")
# A good one in each sample, and others of all depths.
QUALITY = RNG.uniform(size=(37, 3)).astype("float32") ** 2
QUALITY[np.arange(37), np.arange(37) % 3] = 1.0


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def strong_layer(**kwargs):
    """A layer with blocks that matter."""
    layer = DynamicDepthFusion(4, hidden_dim=8, **kwargs)
    layer.build(X.shape)
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(0.4 * rng.normal(size=weight.shape))
    return layer


def test_standard_checks():
    run_layer_checks(
        DynamicDepthFusion(4, 3, 8, seed=1),
        [X, QUALITY],
        output_shapes={
            "logits": (37, 4),
            "modality_logits": (37, 3, 4),
            "exit_logits": (37, 3, 3, 4),
            "depth": (37, 3),
            "weights": (37, 3),
        },
    )


def test_one_block_alone():
    out = DynamicDepthFusion(4, max_depth=1)(X, QUALITY)
    assert out["exit_logits"].shape == (37, 3, 1, 4)


def test_a_truncated_loop_over_blocks_gives_the_masked_answer():
    layer = strong_layer(max_depth=3)
    out = to_numpy(layer(X, QUALITY))
    w = {v.name: to_numpy(v) for v in layer.weights}
    executed = 0
    for row, m in np.ndindex(37, 3):
        depth = int(out["depth"][row, m])
        for level in range(depth):
            executed += 1
            if level == 0:
                hidden = X[row, m] @ w["kernel"][m] + w["bias"][m]
                hidden = np.maximum(hidden, 0)
                continue
            block = (level - 1, m)
            step = hidden @ w["inner"][block]
            step = np.maximum(step + w["inner_bias"][block], 0)
            hidden = hidden + step @ w["outer"][block] + w["outer_bias"][block]
        if depth:
            logits = hidden @ w["head_kernel"][m] + w["head_bias"][m]
            np.testing.assert_allclose(
                out["modality_logits"][row, m], log_softmax(logits), atol=1e-5
            )
            # Nothing runs beyond the depth.
            np.testing.assert_allclose(
                out["exit_logits"][row, m, depth - 1 :],
                np.tile(logits, (4 - depth, 1)),
                atol=1e-4,
            )
    assert executed == out["depth"].sum()
    assert set(np.unique(out["depth"])) == {0, 1, 2, 3}


def test_blocks_start_as_nothing_and_then_all_change_the_answer():
    alike = np.ones_like(QUALITY)
    exits = to_numpy(DynamicDepthFusion(4)(X, alike))["exit_logits"]
    np.testing.assert_allclose(np.diff(exits, axis=2), 0, atol=0.05)
    exits = to_numpy(strong_layer(max_depth=3)(X, alike))["exit_logits"]
    assert np.abs(np.diff(exits, axis=2)).min(axis=(0, 1, 3)).min() > 0


@pytest.mark.slow_on("jax")
@pytest.mark.parametrize("batch", [1, 5, 37])
def test_skipping_gives_the_same_outputs_as_masking(batch):
    masked = strong_layer(max_depth=3)
    skipping = DynamicDepthFusion.from_config(
        {**masked.get_config(), "inference": "skip"}
    )
    skipping.build(X.shape)
    skipping.set_weights(masked.get_weights())
    for power in (0.0, 1.0, 8.0):
        args = (X[:batch], QUALITY[:batch] ** power)
        expected = to_numpy(masked(*args))
        for key, value in to_numpy(skipping(*args)).items():
            np.testing.assert_allclose(value, expected[key], atol=1e-5)


def test_skipping_compiles_once_for_every_pattern_of_depths():
    layer = strong_layer(max_depth=2, inference="skip")
    features = keras.Input((3, 6))
    quality = keras.Input((3,))
    model = keras.Model([features, quality], layer(features, quality)["logits"])
    reference = strong_layer(max_depth=2)
    for power in (0.0, 1.0, 8.0):
        np.testing.assert_allclose(
            model.predict_on_batch([X, QUALITY**power]),
            to_numpy(reference(X, QUALITY**power))["logits"],
            atol=1e-4,
        )


def test_logits_are_the_weighted_product_of_experts():
    layer = strong_layer(max_depth=2, sharpness=0.5, tolerance=1.0)
    p = np.full((37, 3, 4), 0.25, "float32")
    out = to_numpy(layer(X, QUALITY, prototype_probabilities=p))
    own = np.exp(
        log_softmax(
            np.take_along_axis(
                out["exit_logits"],
                np.maximum(out["depth"] - 1, 0).astype(int)[:, :, None, None],
                axis=2,
            )[:, :, 0]
        )
    )
    expert = 0.7 * own + 0.3 * p
    np.testing.assert_allclose(
        np.exp(out["modality_logits"]), expert, atol=1e-4
    )
    weight = QUALITY * (out["depth"] > 0)
    total = weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(out["weights"], weight / total, atol=1e-4)
    expected = np.einsum("bm,bmk->bk", weight, np.log(expert)) / total**0.5
    np.testing.assert_allclose(out["logits"], expected, rtol=1e-3, atol=1e-3)


def test_where_all_suffer_alike_nothing_changes():
    layer = strong_layer(max_depth=3)
    good = to_numpy(layer(X, np.ones_like(QUALITY)))
    bad = to_numpy(layer(X, np.full_like(QUALITY, 0.05)))
    np.testing.assert_array_equal(bad["depth"], 3)
    np.testing.assert_allclose(bad["logits"], good["logits"], atol=1e-4)


def test_a_modality_at_depth_zero_has_no_influence():
    layer = strong_layer(max_depth=2)
    quality = np.ones((37, 3), "float32")
    quality[:, 1] = 0.1
    loud = X.copy()
    loud[:, 1] *= 1e4
    out = to_numpy(layer(loud, quality))
    assert (out["depth"][:, 1] == 0).all() and (out["weights"][:, 1] == 0).all()
    np.testing.assert_allclose(
        out["logits"], to_numpy(layer(X, quality))["logits"], atol=1e-5
    )


def test_fixed_depth_leaves_the_weights():
    fixed = strong_layer(max_depth=4, dynamic_depth=False)
    out = to_numpy(fixed(X, QUALITY))
    np.testing.assert_array_equal(out["depth"], 4)
    assert out["weights"][QUALITY < 0.3].max() < out["weights"].max() / 2


@pytest.mark.parametrize("inference", ["masked", "skip"])
def test_a_missing_modality_may_hold_anything(inference):
    layer = DynamicDepthFusion(4, hidden_dim=8, inference=inference)
    mask = np.ones_like(QUALITY)
    mask[::2, 1] = 0
    spoiled, quality = X.copy(), QUALITY.copy()
    spoiled[::2, 1] = quality[::2, 1] = np.nan
    expected = to_numpy(layer(X, QUALITY, modality_mask=mask))
    out = to_numpy(layer(spoiled, quality, modality_mask=mask))
    np.testing.assert_array_equal(out["logits"], expected["logits"])
    assert (out["depth"][::2, 1] == 0).all()
    nothing = to_numpy(layer(X, QUALITY, modality_mask=0 * mask))
    assert np.isfinite(nothing["logits"]).all()


def test_gradients_reach_every_weight():
    layer = strong_layer(max_depth=3, dropout=0.0)
    before = [ops.convert_to_numpy(v) for v in layer.trainable_weights]
    inputs = [keras.Input(X.shape[1:]), keras.Input((3,))]
    out = layer(*inputs)
    model = keras.Model(inputs, [out["logits"], out["exit_logits"]])
    model.compile(keras.optimizers.SGD(1.0), loss=["mse", "mse"])
    model.train_on_batch(
        [X, QUALITY], [np.zeros((37, 4)), np.zeros((37, 3, 3, 4))]
    )
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        assert np.abs(to_numpy(weight) - old).max() > 0, weight.path
