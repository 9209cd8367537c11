"""Small MICINets and a way to gradients, shared by the tests of its parts."""

import keras
import numpy as np
from keras import ops

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import to_numpy
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)


def make(shapes=None, classes=3, **kwargs):
    kwargs = {"units": 8, "seed": 0, **kwargs}
    return keras_mmrel.MICINet(shapes or SHAPES, classes, **kwargs)


def compiled(optimizer=None, run_eagerly=EAGER, **kwargs):
    """Eager, as JAX compiles each operation once for all tests of one shape."""
    model = make(**kwargs)
    optimizer = optimizer or keras.optimizers.Adam(1e-2)
    model.compile(optimizer, run_eagerly=run_eagerly)
    return model


def begin(model, phase):
    """Put the model at the beginning of its first or second phase."""
    # By default the warm-up is a part of 1,000 steps.
    model.clock.step.assign(0.0 if phase == 1 else 1000.0)


def normal(*shape, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=shape)).astype("float32")


def randomise(variables, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(scale * rng.normal(size=variable.shape))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gradients_of(function, variables):
    """Gradients of a scalar in weights; zero where it does not reach.

    Whatever `function` assigns, random states included, is forgotten.
    """
    variables = list(variables)

    def value(tensors):
        mapping = list(zip(variables, tensors, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            reached = sum(ops.sum(0.0 * t) for t in tensors)
            return function() + reached

    tensors = [ops.convert_to_tensor(to_numpy(v)) for v in variables]
    _, found = keras_mmrel.backend.value_and_gradients(value, tensors)
    return [to_numpy(gradient) for gradient in found]


def input_gradient(function, x):
    """Gradient of the scalar `function(x)` in the array `x`."""
    _, (found,) = keras_mmrel.backend.value_and_gradients(
        lambda t: function(t[0]) + ops.sum(0.0 * t[0]),
        [ops.convert_to_tensor(x)],
    )
    return to_numpy(found)
