"""Encoders that go back towards where they began."""

import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.callbacks import Relearning
from keras_mmrel.callbacks import TrainingState
from tests.helpers import to_numpy

pytest.importorskip("sklearn.cluster")


def data(samples=30, seed=0):
    """One modality with three far clusters, and one of noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 3
    a = 20.0 * np.eye(3)[y] + rng.normal(size=(samples, 3))
    b = rng.normal(size=(samples, 4))
    return {"a": a.astype("float32"), "b": b.astype("float32")}, y


TRAIN, HELD_OUT = data(), data(21, 1)


def make():
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential([keras.Input((size,)), keras.layers.Dense(5)])
        for name, size in (("a", 3), ("b", 4))
    }
    return keras_mmrel.ConcatFusion(encoders, 3)


def fit(model, callbacks, epochs=4, rate=0.0, **kwargs):
    model.compile(keras.optimizers.SGD(rate))
    return model.fit(
        *TRAIN,
        epochs=epochs,
        batch_size=10,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        **kwargs,
    ).history


def test_purity_is_the_share_of_the_commonest_class_of_each_cluster():
    relearning = Relearning(TRAIN, HELD_OUT)
    relearning.set_model(make())
    features = np.repeat([[0.0], [5.0], [9.0]], [4, 3, 3], axis=0)
    y = np.array([0, 0, 0, 1, 2, 2, 1, 1, 0, 2])
    assert relearning._purity(features, y) == pytest.approx(6 / 10)
    # Three clusters that k-means finds, whatever their scale.
    x, y = TRAIN
    assert relearning._purity(x["a"], y) == 1.0
    assert relearning._purity(x["b"], y) < 0.7


def test_weights_go_back_by_the_gap_of_the_purities():
    model = make()
    initial = [to_numpy(w) for w in model.encoders[0].weights]
    fusion = [to_numpy(w) for w in model.trainable_weights[4:]]
    relearning = Relearning(TRAIN, HELD_OUT, strength=2.0, every=1, times=1)

    class Trained(keras.callbacks.Callback):
        """What a training would do, in a round number."""

        def on_epoch_begin(self, epoch, logs=None):
            for weight, first in zip(
                model.encoders[0].weights, initial, strict=True
            ):
                if epoch == 0:
                    weight.assign(first + 8.0)

    history = fit(model, [relearning, Trained()], epochs=3)
    assert relearning.diagnoses == 1
    (gap,), (reset,) = (
        relearning.history[f"b_{key}"] for key in ("purity_gap", "reset")
    )
    assert gap > 0 and reset == pytest.approx(np.tanh(2.0 * gap))
    fraction = relearning.history["a_reset"][0]
    for weight, first in zip(model.encoders[0].weights, initial, strict=True):
        # A training with a rate of 0 went on from there.
        expected = first + (1.0 - fraction) * 8.0
        np.testing.assert_allclose(to_numpy(weight), expected, atol=1e-5)
    for weight, first in zip(model.trainable_weights[4:], fusion, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), first)
    assert history["b_reset"] == [reset]


def test_it_looks_as_often_as_asked_and_not_after_the_last_epoch():
    for every, times, epochs, expected in (
        (2, 3, 8, 3),
        (1, 2, 8, 2),
        (4, 3, 8, 1),
        (5, 3, 5, 0),
    ):
        relearning = Relearning(TRAIN, HELD_OUT, every=every, times=times)
        fit(make(), [relearning], epochs=epochs)
        assert relearning.diagnoses == expected


def test_a_strength_of_zero_changes_no_bit():
    plain, model = make(), make()
    fit(plain, [], rate=0.1)
    fit(model, [Relearning(TRAIN, HELD_OUT, strength=0.0, every=1)], rate=0.1)
    for a, b in zip(plain.weights, model.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


@pytest.mark.slow_on("jax", "tensorflow")
def test_a_resumed_training_knows_where_it_began(tmp_path):
    def relearning():
        return Relearning(TRAIN, HELD_OUT, every=2)

    whole = make()
    fit(whole, [relearning()], epochs=6, rate=0.1)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            make(),
            [relearning(), TrainingState(tmp_path), Stop()],
            epochs=6,
            rate=0.1,
        )
    resumed, own = make(), relearning()
    fit(resumed, [own, TrainingState(tmp_path)], epochs=6, rate=0.1)
    assert own.diagnoses == 2 and len(own.history["a_reset"]) == 2
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), atol=1e-6)


def test_what_does_not_fit_is_named():
    x, y = TRAIN
    with pytest.raises(ValueError, match="`validation_data` must be a tuple"):
        Relearning(TRAIN, x)
    with pytest.raises(ValueError, match="`training_data` must hold as many"):
        Relearning((x, y[:5]), HELD_OUT)
    with pytest.raises(ValueError, match="`strength` must be"):
        Relearning(TRAIN, HELD_OUT, strength=-1.0)
    only = ({"a": x["a"]}, y)
    with pytest.raises(ValueError, match="`training_data` must hold the moda"):
        fit(make(), [Relearning(only, HELD_OUT)])
    plain = keras.Sequential([keras.layers.Dense(1)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be given to `fit` of a model"):
        plain.fit(x["a"], y, verbose=0, callbacks=[Relearning(TRAIN, HELD_OUT)])
