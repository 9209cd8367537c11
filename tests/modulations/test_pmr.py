"""Prototypes and what they add to the loss, against NumPy by hand."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.modulations import PMR
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

# `test_methods.py` has what runs on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")
SGD = keras.optimizers.SGD
SHAPES = {"a": (6,), "b": (4,), "c": (3,)}
C = np.random.default_rng(5).normal(size=(24, 3)).astype("float32")
MASK = np.ones((24, 3), "float32")
MASK[:6, 1] = 0
MASK[3:9, 2] = 0
INPUTS = {**X, "c": C, "modality_mask": MASK}


def features_of(model):
    record = model(INPUTS, training=True)["training_record"]
    return [ops.convert_to_numpy(f) for f in record["fused_features"]]


def means(features, labels=Y):
    """Mean feature of each class, of the samples that have the modality."""
    return [
        np.stack(
            [f[(labels == k) & (MASK[:, m] > 0)].mean(axis=0) for k in range(3)]
        )
        for m, f in enumerate(features)
    ]


def loss_by_hand(features, prototypes, alpha):
    """The loss that is added, and which modalities are slow."""
    scores, losses = [], []
    for m, (feature, prototype) in enumerate(
        zip(features, prototypes, strict=True)
    ):
        apart = feature[:, None].astype("float64") - prototype
        logits = -np.sqrt((apart**2).sum(axis=-1))
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        own = log_p[np.arange(24), Y] * MASK[:, m]
        scores.append((np.exp(own) * MASK[:, m]).sum() / MASK[:, m].sum())
        losses.append(-own.sum() / 24)
    slow = [s < (sum(scores) - s) / 2 for s in scores]
    return alpha * np.dot(slow, losses), slow


def test_the_slow_ones_are_drawn_to_prototypes_of_the_epoch_before():
    model = make_model(SHAPES)
    features = features_of(model)
    prototypes = means(features)
    added, slow = loss_by_hand(features, prototypes, 0.7)
    assert 0 < sum(slow) < 3
    # Without a step the features of the second epoch are those of the first.
    _, history = train(
        PMR(0.7), SGD(0.0), model, x=INPUTS, y=Y, batch_size=24, epochs=2
    )
    difference = history["loss"][1] - history["loss"][0]
    np.testing.assert_allclose(difference, added, rtol=1e-4)
    for name, is_slow in zip("abc", slow, strict=True):
        weight = history[f"{name}_prototype_weight"]
        np.testing.assert_allclose(weight, [0, 0.7 * is_slow], rtol=1e-6)
    for found, expected in zip(
        model.modulation.prototypes, prototypes, strict=True
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(found), expected, atol=1e-5
        )


def test_prototypes_keep_a_part_of_the_old_ones():
    modulation = PMR(momentum=0.3)
    model = make_model(SHAPES)
    old = means(features_of(model))
    train(modulation, SGD(0.5), model, x=INPUTS, y=Y, batch_size=24)
    new = means(features_of(model))
    train(modulation, SGD(0.0), model, x=INPUTS, y=Y, batch_size=24)
    modulation.begin_epoch()
    for found, a, b in zip(modulation.prototypes, old, new, strict=True):
        assert np.abs(a - b).max() > 1e-3
        np.testing.assert_allclose(
            ops.convert_to_numpy(found), 0.3 * a + 0.7 * b, atol=1e-5
        )


def test_a_class_that_was_never_seen_has_no_prototype():
    modulation = PMR()
    rows = Y != 2
    seen = {k: v[rows] for k, v in X.items()}
    model, _ = train(modulation, SGD(0.1), x=seen, y=Y[rows], batch_size=16)
    _, history = train(modulation, SGD(0.1), model, epochs=1)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(modulation.known), [[1, 1, 0]] * 2
    )
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][0] < 100
    assert all(np.isfinite(w).all() for w in weights(model))


def test_only_the_slow_one_learns_more():
    modulation = PMR()
    model, _ = train(modulation, SGD(0.0))
    before = weights(model)
    _, history = train(modulation, SGD(0.1), model, batch_size=24)
    slow = [history[f"{n}_prototype_weight"][0] for n in "ab"]
    assert sorted(slow) == [0, 1]
    ours = [a - b for a, b in zip(weights(model), before, strict=True)]
    plain, _ = train(None, SGD(0.1), batch_size=24)
    theirs = [a - b for a, b in zip(weights(plain), before, strict=True)]
    owners = model.modulation_slot.owners(model.trainable_variables)
    for a, b, owner in zip(ours, theirs, owners, strict=True):
        if owner is not None and slow[owner]:
            assert np.abs(a - b).max() > 1e-4
        else:
            np.testing.assert_allclose(a, b, atol=1e-7)


def test_it_refuses_a_model_without_a_head_on_all_features():
    model = keras_mmrel.LateFusion({"a": (6,), "b": (4,)}, 3)
    with pytest.raises(ValueError, match="PMR needs one with a head .* Late"):
        model.compile("sgd", modulation=PMR())


def test_it_refuses_a_model_that_is_not_built():
    layers = {n: keras.layers.Dense(4) for n in "ab"}
    model = keras_mmrel.ConcatFusion(layers, 3)
    with pytest.raises(ValueError, match="that is built.* built=False"):
        model.compile("sgd", modulation=PMR())
