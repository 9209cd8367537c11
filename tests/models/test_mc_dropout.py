import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from tests.helpers import SHAPES
from tests.helpers import run_model_checks
from tests.helpers import vectors

X, Y = vectors()


class Joined(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, features):
        return self.dense(ops.concatenate(features, axis=1))


def test_standard_checks(tmp_path):
    run_model_checks(keras_mmrel.MCDropout, tmp_path)


def test_the_prediction_is_the_mean_of_the_passes():
    model = keras_mmrel.MCDropout(SHAPES, 3, rate=0.5, passes=7, seed=0)
    out = model.predict(X, verbose=0)
    features = [
        ops.convert_to_numpy(encoder(X[name], training=False))
        for name, encoder in zip(SHAPES, model.encoders, strict=True)
    ]
    logits = np.zeros((48, 7, 3))
    for feature, drops, part in zip(
        features, model.drops, model.head, strict=True
    ):
        factors = ops.convert_to_numpy(drops.factors)
        assert set(np.unique(factors)) == {0.0, 2.0}
        kernel = ops.convert_to_numpy(part.kernel)
        logits += (feature[:, None] * factors) @ kernel
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(out["probabilities"], p.mean(1), atol=1e-5)

    def entropy(q):
        return -(q * np.log(q)).sum(-1)

    expected = entropy(p.mean(1)) - entropy(p).mean(1)
    np.testing.assert_allclose(out["disagreement"], expected, atol=1e-5)


def test_calls_and_batches_agree_and_seeds_differ():
    model = keras_mmrel.MCDropout(SHAPES, 3, seed=0)
    first = model.predict(X, verbose=0)["probabilities"]
    second = model.predict(X, batch_size=7, verbose=0)["probabilities"]
    np.testing.assert_allclose(first, second, atol=1e-6)
    other = keras_mmrel.MCDropout(SHAPES, 3, seed=1)
    factors = [ops.convert_to_numpy(m.drops[0].factors) for m in (model, other)]
    assert (factors[0] != factors[1]).any()


def test_a_fusion_of_ones_own_has_passes_too():
    model = keras_mmrel.MCDropout(SHAPES, 3, fusion=Joined(), passes=4, seed=0)
    out = model.predict(X, verbose=0)
    assert out["modality_logits"].shape == (48, 3, 3)
    assert (out["disagreement"] >= 0).all() and out["disagreement"].max() > 0


@pytest.mark.slow_on("jax", "tensorflow")
def test_passes_disagree_more_on_what_is_unlike_the_training_data():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = {n: np.eye(3)[y] @ rng.normal(size=(3, 8)) * 2 for n in "ab"}
    x = {n: (v + rng.normal(size=v.shape)).astype("f4") for n, v in x.items()}
    model = keras_mmrel.MCDropout({"a": (8,), "b": (8,)}, 3, seed=0)
    model.compile()
    model.fit(x, y, epochs=20, verbose=0)
    known = model.predict(x, verbose=0)["disagreement"]
    conflict = {"a": x["a"], "b": np.roll(x["b"], 1, axis=0)}
    unknown = model.predict(conflict, verbose=0)["disagreement"]
    assert unknown.mean() > 2 * known.mean()


def test_bad_input():
    with pytest.raises(ValueError, match="`rate` must be"):
        keras_mmrel.MCDropout(SHAPES, 3, rate=1.0)
    with pytest.raises(ValueError, match="`passes` must be"):
        keras_mmrel.MCDropout(SHAPES, 3, passes=1)
