import keras
import numpy as np

from keras_mmrel.layers import InformationBottleneck
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def test_standard_checks():
    run_layer_checks(
        InformationBottleneck(0.1, seed=0), X, output_shapes=(64, 4)
    )
    outputs, divergence = InformationBottleneck()(
        keras.KerasTensor((None, 4)), return_divergence=True
    )
    assert outputs.shape == (None, 4)
    assert divergence.shape == (None,)


def built(bias=None, kernel=None, **kwargs):
    layer = InformationBottleneck(seed=0, **kwargs)
    layer.build((None, 4))
    if bias is not None:
        layer.bias.assign(bias)
    if kernel is not None:
        layer.kernel.assign(kernel)
    return layer


def test_inference_returns_the_input():
    layer = built(strength=0.5)
    np.testing.assert_array_equal(to_numpy(layer(X, training=False)), X)
    np.testing.assert_array_equal(to_numpy(layer(X)), X)


def test_without_noise_training_returns_the_input_too():
    layer = built()
    layer.noise_scale.assign(0.0)
    np.testing.assert_array_equal(to_numpy(layer(X, training=True)), X)


def test_noise_in_training_has_the_deviation_of_the_log_variance():
    bias = np.array([-6.0, -2.0, 0.0, 2.0], "float32")
    layer = built(bias)
    zeros = np.zeros((20000, 4), "float32")
    noise = to_numpy(layer(zeros, training=True))
    np.testing.assert_allclose(noise.std(axis=0), np.exp(bias / 2), rtol=0.03)
    assert np.abs(noise.mean(axis=0) / noise.std(axis=0)).max() < 0.03
    again = to_numpy(layer(zeros, training=True))
    assert np.abs(noise - again).max() > 1


def test_divergence_is_that_of_gaussians():
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(4, 4)).astype("float32")
    bias = np.array([-1.0, 0.5, -20.0, 9.0], "float32")
    layer = built(bias, kernel)
    _, divergence = layer(X, return_divergence=True)
    log_variance = np.clip(X @ kernel + bias, -8.0, 4.0)
    assert (log_variance == -8).any() and (log_variance == 4).any()
    expected = 0.5 * (X**2 + np.exp(log_variance) - log_variance - 1).sum(1)
    np.testing.assert_allclose(to_numpy(divergence), expected, rtol=1e-5)
    assert expected.min() > 0


def test_a_plain_model_pays_strength_times_divergence():
    layer = built(strength=0.25)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    expected = to_numpy(layer(X, return_divergence=True)[1]).mean()
    logs = model.evaluate(X, X, batch_size=64, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], 0.25 * expected, rtol=1e-5)
    assert not built(strength=0.25).losses


class Counted(InformationBottleneck):
    calls = 0

    def call(self, inputs, training=None, return_divergence=False):
        self.calls += 1
        return super().call(inputs, training, return_divergence)


class Assign(keras.callbacks.Callback):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.calls = []

    def on_epoch_begin(self, epoch, logs=None):
        self.layer.strength.assign(float(epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(self.layer.calls)


def test_strength_may_change_while_a_compiled_fit_runs():
    layer = Counted(seed=0)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(inputs))
    divergence = to_numpy(layer(X, return_divergence=True)[1]).mean()
    layer.noise_scale.assign(0.0)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = Assign(layer)
    history = model.fit(
        X, X, batch_size=64, epochs=3, verbose=0, callbacks=callback
    ).history
    np.testing.assert_allclose(
        history["loss"], np.arange(3) * divergence, rtol=1e-5
    )
    if keras.config.backend() != "torch":
        # Traced in the first epoch, and never again.
        assert len(set(callback.calls)) == 1


def test_a_strong_bottleneck_removes_what_the_task_does_not_need():
    """Two features, of which the target is the first."""
    x = np.random.default_rng(2).normal(size=(4096, 2)).astype("float32")
    inputs = keras.Input((2,))
    scale = keras.layers.Dense(2, use_bias=False, kernel_initializer="identity")
    layer = InformationBottleneck(0.1, seed=0)
    outputs = keras.layers.Dense(1, use_bias=False)(layer(scale(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, x[:, :1], batch_size=256, epochs=8, verbose=0)
    kernel = np.abs(to_numpy(scale.kernel))
    assert kernel[1].max() < 0.1 < 0.5 < kernel[0].max()
