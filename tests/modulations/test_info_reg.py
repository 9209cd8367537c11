"""A pull towards where an epoch began, and the window that it is made in."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mmrel
from keras_mmrel.modulations import InfoReg
from tests.modulations.helpers import X
from tests.modulations.helpers import Y
from tests.modulations.helpers import assert_equal_weights
from tests.modulations.helpers import distance
from tests.modulations.helpers import make_model
from tests.modulations.helpers import train
from tests.modulations.helpers import weights

# `test_methods.py` has what runs on every backend.
pytestmark = pytest.mark.slow_on("jax", "tensorflow")
SGD = keras.optimizers.SGD


class Steps(keras.callbacks.Callback):
    """Weights after every step."""

    def on_train_begin(self, logs=None):
        self.weights = [weights(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(weights(self.model))


def scores(model):
    logits = ops.convert_to_numpy(model(X)["modality_logits"])
    p = np.exp(logits)
    return (p / p.sum(axis=-1, keepdims=True))[np.arange(24), :, Y]


def step_of(values, data=slice(None)):
    """What a plain step from these weights moves."""
    model = make_model()
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    part = {k: v[data] for k, v in X.items()}
    train(None, SGD(0.1), model, x=part, y=Y[data], batch_size=24)
    return [b - a for a, b in zip(values, weights(model), strict=True)]


def test_the_leader_is_pulled_to_where_the_epoch_began():
    steps, model = Steps(), make_model()
    owners = model.modulation_slot.owners(model.trainable_variables)
    _, history = train(
        InfoReg(2.0), SGD(0.1), model, batch_size=12, callbacks=[steps]
    )
    # The first step is a plain one: nothing has moved yet.
    start, first, second = steps.weights
    moved = [b - a for a, b in zip(start, first, strict=True)]
    assert_equal_weights(moved, step_of(start, slice(0, 12)), atol=1e-6)
    betas = []
    for values, rows in ((start, slice(0, 12)), (first, slice(12, 24))):
        model = make_model()
        for v, value in zip(model.trainable_variables, values, strict=True):
            v.assign(value)
        s = scores(model)[rows].sum(axis=0)
        gap = s - s[::-1]
        betas.append(np.where(gap > 0, 2 * np.exp(np.tanh(gap)), 0))
    for name, mean in zip("ab", np.mean(betas, axis=0), strict=True):
        np.testing.assert_allclose(history[f"{name}_pull"], mean, rtol=1e-4)
    plain = step_of(first, slice(12, 24))
    largest = 0
    for a, b, c, p, owner in zip(
        start, first, second, plain, owners, strict=True
    ):
        beta = 0 if owner is None else betas[1][owner]
        np.testing.assert_allclose(c - b, p - 0.1 * beta * (b - a), atol=1e-6)
        largest = max(largest, np.abs(0.1 * beta * (b - a)).max())
    assert largest > 1e-3


def test_information_is_the_mean_square_of_kernels_gradients():
    steps, model = Steps(), make_model()
    owners = model.modulation_slot.owners(model.trainable_variables)
    _, history = train(
        InfoReg(0.0), SGD(0.1), model, batch_size=12, callbacks=[steps]
    )
    sums = np.zeros(2)
    for a, b in zip(steps.weights, steps.weights[1:], strict=False):
        for before, after, owner in zip(a, b, owners, strict=True):
            if owner is not None and before.ndim > 1:
                gradient = (after.astype("float64") - before) / 0.1
                sums[owner] += (gradient**2).mean()
    for name, value in zip("ab", sums, strict=True):
        np.testing.assert_allclose(
            history[f"{name}_information"], value, rtol=1e-3
        )


def test_the_window_closes_where_information_grows_no_more():
    modulation = InfoReg(window=2, threshold=0.05)
    model, history = train(modulation, SGD(0.1), epochs=5, batch_size=12)
    information = np.array([history[f"{n}_information"] for n in "ab"])
    past = np.concatenate([np.zeros((2, 2)), information], axis=1)
    for epoch in range(1, 5):
        now = past[:, epoch : epoch + 2].mean(axis=1)
        before = past[:, epoch - 1 : epoch + 1].mean(axis=1)
        open_ = (now - before) / np.maximum(now, 1e-30) > 0.05
        for m, name in enumerate("ab"):
            if not open_[m]:
                assert history[f"{name}_pull"][epoch] == 0
    pulls = np.sum([history[f"{n}_pull"] for n in "ab"], axis=0)
    assert pulls[0] > 0 and pulls[-1] == 0
    # The last epoch has not been looked at yet.
    modulation.begin_epoch()
    found = ops.convert_to_numpy(modulation.past)
    np.testing.assert_allclose(found, information[:, -3:], rtol=1e-6)


@pytest.mark.parametrize(
    "scaled", [lambda o: keras.optimizers.LossScaleOptimizer(o)]
)
def test_a_scaled_loss_gives_the_same_pull_and_information(scaled):
    plain, history = train(InfoReg(), SGD(0.1), epochs=2)
    model, logs = train(InfoReg(), scaled(SGD(0.1)), epochs=2)
    assert_equal_weights(weights(model), weights(plain), atol=1e-5)
    for key in ("a_information", "b_information", "a_pull", "b_pull"):
        np.testing.assert_allclose(logs[key], history[key], rtol=1e-3)


def test_each_modality_may_have_its_own_strength():
    one, history = train(InfoReg([0.0, 0.0]), epochs=2)
    plain, _ = train(None, epochs=2)
    assert_equal_weights(weights(one), weights(plain), atol=1e-7)
    assert set(history["a_pull"] + history["b_pull"]) == {0.0}
    strong, _ = train(InfoReg([5.0, 5.0]), epochs=2)
    assert distance(weights(strong), weights(plain)) > 1e-3


def test_outside_its_window_it_is_a_plain_training():
    plain, _ = train(None, epochs=2)
    model, _ = train(InfoReg(warmup=0.99), epochs=2)
    assert_equal_weights(weights(model), weights(plain), atol=1e-7)


def test_a_frozen_encoder_rests():
    model = make_model()
    model.encoders[0].trainable = False
    frozen = [ops.convert_to_numpy(v) for v in model.encoders[0].weights]
    train(InfoReg(), SGD(0.1), model, epochs=2)
    for variable, old in zip(model.encoders[0].weights, frozen, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), old)


def test_bad_input():
    model = make_model()
    with pytest.raises(ValueError, match="one number, or 2, one a modality"):
        model.compile("sgd", modulation=InfoReg([1.0, 1.0, 1.0]))
    layers = {n: keras.layers.Dense(4) for n in "ab"}
    model = keras_mmrel.ConcatFusion(layers, 3)
    with pytest.raises(ValueError, match="that is built.* built=False"):
        model.compile("sgd", modulation=InfoReg())
