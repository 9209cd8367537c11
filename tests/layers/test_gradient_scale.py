import keras
import numpy as np
import pytest

from keras_mmrel.layers import GradientScale
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(12, 1)).astype("float32")


class Scaled(keras.Model):
    """A regression whose first layer lies before a `GradientScale`."""

    def __init__(self, layer, scale=None):
        super().__init__()
        self.first = keras.layers.Dense(3)
        self.middle = layer
        self.last = keras.layers.Dense(1)
        self.scale = scale

    def call(self, x):
        return self.last(self.middle(self.first(x), self.scale))


def travel(layer, scale=None):
    """How far one step of plain gradient descent moves every weight."""
    keras.utils.set_random_seed(0)
    model = Scaled(layer, scale)
    model(X)
    before = [to_numpy(w) for w in model.weights]
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(X, Y)
    return [
        to_numpy(w) - old for w, old in zip(model.weights, before, strict=True)
    ]


def test_standard_checks():
    run_layer_checks(GradientScale(0.5), X, output_shapes=(12, 4))


def test_outputs_are_the_inputs_exactly():
    np.testing.assert_array_equal(to_numpy(GradientScale(0.3)(X)), X)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_only_what_lies_before_is_scaled(scale):
    plain, scaled = travel(GradientScale()), travel(GradientScale(scale))
    for index, (a, b) in enumerate(zip(plain, scaled, strict=True)):
        factor = scale if index < 2 else 1.0
        np.testing.assert_allclose(b, factor * a, atol=1e-6)


def test_a_call_may_scale_every_sample_by_itself():
    scale = np.zeros((12, 1), "float32")
    scale[:4] = 2.0
    moved = travel(GradientScale(), scale)
    keras.utils.set_random_seed(0)
    model = Scaled(GradientScale())
    model(X)
    kernel = to_numpy(model.first.kernel)
    weights = to_numpy(model.last.kernel)
    error = to_numpy(model(X)) - Y
    gradient = X.T @ (scale * (2.0 / 12.0) * error @ weights.T)
    assert kernel.shape == gradient.shape
    np.testing.assert_allclose(moved[0], -0.1 * gradient, atol=1e-6)
