"""Small CAL models with fixed weights, shared by its tests."""

import keras
import numpy as np

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import to_numpy
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)
# Every mechanism off: the plain concatenation.
OFF = {
    "modality_loss_weight": 0.0,
    "acceleration": 0.0,
    "bottleneck": 0.0,
    "bottleneck_scheme": "contribution",
    "contribution_threshold": 0.1,
    "sample_bottleneck": None,
    "measure": "combined",
    "temperature": 0.25,
    "warmup": 0.0,
    "bottleneck_start": 0.0,
    "holdout": 0.0,
    "release": 1.0,
    "seed": 0,
}
MECHANISMS = {
    "modality_loss_weight": 1.0,
    "acceleration": 0.5,
    "bottleneck": 0.1,
    "bottleneck_scheme": "uniform",
}


def make(shapes=None, model_class=keras_mmrel.CAL, **kwargs):
    """A model whose weights are the same whatever its options."""
    encoders = {
        name: keras.Sequential(
            [keras.Input(shape), keras.layers.Dense(8, "relu")]
        )
        for name, shape in (shapes or SHAPES).items()
    }
    if issubclass(model_class, keras_mmrel.CAL):
        kwargs = {**OFF, **kwargs}
    model = model_class(encoders, 3, **kwargs)
    for index, encoder in enumerate(model.encoders):
        rng = np.random.default_rng(list(list(encoders)[index].encode()))
        for variable in (*encoder.weights, *model.head[index].weights):
            variable.assign(0.5 * rng.normal(size=variable.shape))
    return model


def compiled(optimizer=None, modulation="auto", **kwargs):
    model = make(**kwargs)
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, modulation=modulation, run_eagerly=EAGER)
    return model


def weights(model):
    return [to_numpy(v) for v in model.trainable_variables]


def step(model, x=X, y=Y, **kwargs):
    """How far one step moves every weight, by group, flattened."""
    before = {
        name: [to_numpy(v) for v in group]
        for name, group in model.gradient_groups().items()
    }
    logs = model.train_on_batch(x, y, return_dict=True, **kwargs)
    assert all(np.isfinite(v) for v in logs.values())
    return {
        name: np.concatenate(
            [
                (to_numpy(v) - old).ravel()
                for v, old in zip(group, before[name], strict=True)
            ]
        )
        for name, group in model.gradient_groups().items()
    }


def fit(model, x=X, y=Y, **kwargs):
    settings = {"batch_size": 12, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, **settings).history


def held(rows):
    return {**X, "held_out": np.isin(np.arange(24), rows).astype("float32")}


def crossentropy(model, x=X, y=Y):
    p = model.predict(x, verbose=0)["probabilities"]
    return -np.log(p[np.arange(len(y)), y])
