"""Small models with fixed weights, shared by the tests of modulations."""

import keras
import numpy as np
from keras import ops

import keras_mmrel
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)


@keras.saving.register_keras_serializable(package="tests")
class Constant(keras_mmrel.modulations.GradientModulation):
    """The same coefficients in every step: all that a strategy needs."""

    def __init__(self, factors=(0.1, 1.0), **kwargs):
        super().__init__(**kwargs)
        self.factors = list(factors)

    def compute_coefficients(self, labels, outputs, present):
        return ops.convert_to_tensor(self.factors, "float32")

    def get_config(self):
        return {**super().get_config(), "factors": self.factors}


class TwoWays(keras_mmrel.ConcatFusion):
    """What the first modality says by itself is the opposite."""

    def make_outputs(self, logits, modality_logits, *args, **kwargs):
        signs = ops.convert_to_tensor(np.array([-1.0, 1.0], "float32"))
        return super().make_outputs(
            logits, modality_logits * signs[:, None], *args, **kwargs
        )


def make_model(
    shapes=None,
    dtype=None,
    last=None,
    model_class=keras_mmrel.ConcatFusion,
    **kwargs,
):
    """A `ConcatFusion` whose weights are the same on every backend."""
    encoders = {
        name: keras.Sequential(
            [
                keras.Input(shape),
                keras_mmrel.encoders.MLPEncoder((8,), 0.0, dtype=dtype),
                *(last(name) if last else ()),
            ]
        )
        for name, shape in (shapes or SHAPES).items()
    }
    model = model_class(encoders, 3, dtype=dtype, **kwargs)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    return model


def make_teacher(name="a", sign=-1.0):
    """A model of one modality, and how the signs of its weights differ."""
    model = make_model({name: SHAPES[name]})
    for variable in model.trainable_variables:
        variable.assign(sign * variable)
    return model


def own_fusion(**kwargs):
    """A model whose head is not linear, the same on every backend."""
    features = [keras.Input((8,)) for _ in SHAPES]
    hidden = keras.layers.Concatenate()(features)
    hidden = keras.layers.Dense(4, "tanh")(hidden)
    fusion = keras.Model(features, keras.layers.Dense(3)(hidden))
    return make_model(fusion=fusion, **kwargs)


def train(
    modulation,
    optimizer=None,
    model=None,
    compiled=False,
    compile_kwargs=None,
    **fit_kwargs,
):
    """Fit two batches an epoch in fixed order; return model and history.

    Eagerly, unless `compiled`: compiling a graph takes most of the time.
    """
    model = model or make_model()
    settings = {"run_eagerly": not compiled, **(compile_kwargs or {})}
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, modulation=modulation, **settings)
    settings = {"batch_size": 12, "shuffle": False, "verbose": 0}
    if "x" not in fit_kwargs:
        settings.update(x=X, y=Y)
    return model, model.fit(**{**settings, **fit_kwargs}).history


def weights(model):
    return [ops.convert_to_numpy(v) for v in model.trainable_variables]


def travel(modulation, optimizer=None, model=None, **kwargs):
    """How far one step on all samples moves each group, flattened."""
    model = model or make_model()
    groups = model.gradient_groups()
    before = {
        name: [ops.convert_to_numpy(v) for v in group]
        for name, group in groups.items()
    }
    train(modulation, optimizer, model, **{"batch_size": 24, **kwargs})
    return {
        name: np.concatenate(
            [
                (ops.convert_to_numpy(v) - old).ravel()
                for v, old in zip(group, before[name], strict=True)
            ]
            or [np.zeros(0)]
        )
        for name, group in groups.items()
    }


def assert_equal_weights(actual, expected, rtol=0.0, atol=0.0):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


def distance(actual, expected):
    """Largest difference of two lists of weights."""
    return max(
        np.abs(a - e).max() for a, e in zip(actual, expected, strict=True)
    )
