"""Small AIM models with fixed weights, shared by its tests."""

import keras
import numpy as np
from keras import layers

import keras_mmrel
from tests.helpers import EAGER
from tests.helpers import to_numpy
from tests.helpers import vectors

SHAPES = {"a": (6,), "b": (4,)}
X, Y = vectors(samples=24, shapes=SHAPES)
OPTIONS = {
    "rely_weight": 1.0,
    "target_weight": 0.0,
    "auxiliary": "under_optimised",
    "strength": 1.0,
    "mask_fraction": 0.5,
    "warmup": 0.0,
    "modality_loss_weight": 0.0,
    "seed": 0,
}


def blocks(shape, norm=False, depth=3, dtype=None):
    return [
        keras.Sequential(
            [
                *([keras.Input(shape)] if index == 0 else []),
                layers.Dense(8, "relu", dtype=dtype),
                *(
                    [layers.BatchNormalization(momentum=0.5, dtype=dtype)]
                    if norm
                    else []
                ),
            ]
        )
        for index in range(depth)
    ]


def make(
    shapes=None,
    model_class=keras_mmrel.AIM,
    norm=False,
    depths=None,
    dtype=None,
    **kwargs,
):
    """A model whose weights are the same whatever its options."""
    encoders = {
        name: blocks(shape, norm, (depths or {}).get(name, 3), dtype)
        for name, shape in (shapes or SHAPES).items()
    }
    if issubclass(model_class, keras_mmrel.AIM):
        kwargs = {**OPTIONS, **kwargs}
    model = model_class(encoders, 3, dtype=dtype, **kwargs)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    return model


def compiled(optimizer=None, on=False, run_eagerly=EAGER, **kwargs):
    """`on`: every gate closes, and masks keep the odd channels."""
    model = make(**kwargs)
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, run_eagerly=run_eagerly)
    if on:
        for encoder in model.encoders:
            encoder.strength.assign(np.ones(len(encoder.blocks)))
            for mask in encoder.masks:
                mask.assign(np.arange(8) % 2)
    return model


def fit(model, x=X, y=Y, **kwargs):
    settings = {"batch_size": 12, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, **settings).history


def assert_same_weights(a, b, atol=1e-6):
    for v, w in zip(a.trainable_variables, b.trainable_variables, strict=True):
        np.testing.assert_allclose(to_numpy(v), to_numpy(w), rtol=0, atol=atol)


def distance(a, b):
    return max(
        np.abs(to_numpy(v) - to_numpy(w)).max()
        for v, w in zip(
            a.trainable_variables, b.trainable_variables, strict=True
        )
    )


class WithPaths(keras_mmrel.models.MultimodalModel):
    """A model of a user's own that has the part, with both losses."""

    def __init__(self, modalities, num_classes, **kwargs):
        paths = keras_mmrel.models.AuxiliaryPaths
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=paths.loss_names(1.0, 1.0),
            **kwargs,
        )
        self.head = layers.Dense(num_classes)
        self.paths = paths(self, target_weight=1.0, warmup=0.0)
        self.build_from_modalities()

    def fuse(self, features):
        return self.head(keras.ops.concatenate(features, axis=1))

    def call(self, inputs, training=None):
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features, record = self.paths.encode(inputs, training)
        logits = self.fuse(features)
        each = keras.ops.stack([logits] * len(features), axis=1)
        return self.make_outputs(logits, each, inputs, training_record=record)

    def auxiliary_losses(self, y, outputs, sample_weight=None):
        return self.paths.losses(y, outputs, sample_weight)

    def update_statistics(self, y, outputs):
        self.paths.update_statistics(y, outputs)

    def training_callbacks(self):
        return self.paths.callbacks()
