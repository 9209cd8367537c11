"""Features that a loss does not see, against NumPy with the same drawings."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.modulations import OPM
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import make_model
from tests.modulations.helpers import own_fusion
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


def loss_by_hand(outputs, mask, drop, draws):
    """Mean loss of the samples that keep a modality, from partial logits."""
    kept = mask * (draws >= drop)
    scale = 1.0 / (1.0 - drop.mean())
    left = kept.max(axis=1) > 0
    own = outputs["modality_logits"]
    bias = (own.sum(axis=1) - outputs["logits"]) / (mask.shape[1] - 1)
    parts = own - bias[:, None, :]
    logits = (kept[:, :, None] * scale * parts).sum(axis=1) + bias
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_p[np.arange(24), Y][left].mean(), left.sum()


def outputs_of(model, inputs):
    outputs = model(inputs, training=False)
    return {
        k: ops.convert_to_numpy(outputs[k])
        for k in ("logits", "modality_logits")
    }


def drop_by_hand(outputs, base, alpha):
    p = np.exp(outputs["modality_logits"])
    p = (p / p.sum(axis=-1, keepdims=True))[np.arange(24), :, Y]
    s = (p * MASK).sum(axis=0) / MASK.sum(axis=0)
    lead = np.maximum(s / ((s.sum() - s) / 2) - 1, 0)
    return np.where(lead > 0, base * (1 + alpha * np.tanh(lead)), 0)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_loss_sees_what_the_drawings_leave(seed):
    base, alpha, probability = 0.7, 2.0, 0.6
    model = make_model(SHAPES)
    outputs = outputs_of(model, INPUTS)
    drawing = keras.random.SeedGenerator(seed)
    coin = float(keras.random.uniform((), seed=drawing))
    draws = keras.random.uniform((24, 3), seed=drawing)
    drop = drop_by_hand(outputs, base, alpha) * (coin < probability)
    drop = np.minimum(drop, 1)
    loss, left = loss_by_hand(outputs, MASK, drop, ops.convert_to_numpy(draws))
    if coin >= probability:
        assert left == 24
    model, history = train(
        OPM(base, alpha, probability, seed),
        model=model,
        x=INPUTS,
        y=Y,
        batch_size=24,
    )
    np.testing.assert_allclose(history["loss"], loss, rtol=1e-5)
    for name, q in zip("abc", drop, strict=True):
        found = history[f"{name}_drop_probability"]
        np.testing.assert_allclose(found, q, atol=1e-6)


def test_samples_that_lose_everything_do_not_count():
    mask = np.zeros((24, 2), "float32")
    mask[::2, 0] = mask[1::2, 1] = 1
    inputs = {**X, "modality_mask": mask}
    start = make_model()
    outputs = outputs_of(start, inputs)
    model, history = train(
        OPM(1.0, 0.0, 1.0), SGD(1.0), x=inputs, y=Y, batch_size=24
    )
    drop = np.array([history[f"{n}_drop_probability"][0] for n in "ab"])
    assert sorted(drop) == [0, 1]
    loss, left = loss_by_hand(outputs, mask, drop, np.full((24, 2), 0.5))
    assert left == 12
    np.testing.assert_allclose(history["loss"], loss, rtol=1e-5)
    owners = model.modulation_slot.owners(model.trainable_variables)
    for before, after, owner in zip(
        weights(start), weights(model), owners, strict=True
    ):
        if owner is not None:
            assert (before != after).any() == (drop[owner] == 0)


def test_sample_weights_still_count():
    weight = np.linspace(0.5, 2, 24)
    options = {"sample_weight": weight, "batch_size": 24}
    _, plain = train(None, **options)
    _, history = train(OPM(probability=0.0), **options)
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-6)
    _, history = train(OPM(1.0, 0.0, 1.0), **options)
    assert abs(history["loss"][0] - plain["loss"][0]) > 1e-3


@pytest.mark.parametrize("options", [{"probability": 0.0}, {"warmup": 0.99}])
def test_where_nothing_is_dropped_it_is_a_plain_training(options):
    plain, _ = train(None, epochs=2)
    model, _ = train(OPM(seed=0, **options), epochs=2)
    assert_equal_weights(weights(model), weights(plain), atol=1e-7)


def test_a_fusion_of_any_kind_sees_features_without_the_leader():
    _, history = train(OPM(1.0, 0.0, 1.0), model=own_fusion(), batch_size=24)
    assert np.isfinite(history["loss"]).all()
    drop = [history[f"{n}_drop_probability"][0] for n in "ab"]
    assert sorted(drop) == [0, 1]


def test_it_refuses_a_model_without_a_head_on_all_features():
    model = keras_mmrel.LateFusion({"a": (6,), "b": (4,)}, 3)
    with pytest.raises(ValueError, match="OPM needs one with a head .* Late"):
        model.compile("sgd", modulation=OPM())
