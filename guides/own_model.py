"""
Title: Use the layers in your own model
Author: The keras_mmrel authors
Date created: 2026/11/26
Last modified: 2026/11/26
Description: Layers that judge, standardise and fuse modalities in any Keras model.
Accelerator: None
"""

"""
## Introduction

The models of this library are made of layers, and most of these know nothing
of the models: they are ordinary Keras layers for a functional or a subclassed
model of your own, trained with plain `fit`. Some keep statistics of the
training data. They do so by Keras' own conventions:

- `FeatureGate` learns them with `adapt`, before training, as
  `keras.layers.Normalization` does;
- `RunningStandardization` and `ModalityEmbedding` move them in calls with
  `training=True`, as `keras.layers.BatchNormalization` does, and stand still
  with `trainable=False`.

Two others need what a call does not get, so nothing but their `update_statistics`
moves them, in `fit` only if your `compute_loss` calls it: `SampleHistory`, the
losses of each sample, and `ModalityContribution`, the labels, of samples that are
best not trained on.

This guide builds two models that bear noise in one of three modalities better
than a plain one. It needs no download and less than a minute on two cores.
"""

"""
## Setup
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops

import keras_mmrel
from keras_mmrel import corruptions
from keras_mmrel import layers

keras.utils.set_random_seed(0)

"""
Three views of scanned digits, a dict of arrays: the pixels, the sums of rows
and columns, and the magnitudes of the Fourier transform, all in [0, 1].
"""

(x_train, y_train), (x_test, y_test) = (
    keras_mmrel.datasets.load_multiview_digits()
)
NAMES = list(x_train)
CLASSES = 10
print({name: values.shape for name, values in x_train.items()})

"""
Every model is judged on the same four test sets: clean; one random modality of
each sample noisy, by two strengths; and without pixels, which the models are
told by a mask with a column a modality. What stands in their place is not a
number.
"""


def full_mask(x):
    return np.ones((len(x[NAMES[0]]), len(NAMES)), "float32")


no_pixels = full_mask(x_test)
no_pixels[:, 0] = 0
lost = {**x_test, "pixels": np.full_like(x_test["pixels"], np.nan)}
test_sets = {
    "clean": x_test,
    "sigma 0.3": corruptions.GaussianNoise(0.3, "one")(x_test, seed=0),
    "sigma 1": corruptions.GaussianNoise(1.0, "one")(x_test, seed=0),
    "no pixels": {**lost, "modality_mask": no_pixels},
}


def report(title, predict):
    row = [f"{title:<22}"]
    for x in test_sets.values():
        x = {"modality_mask": full_mask(x), **x}
        right = predict(x).argmax(axis=-1) == y_test
        row.append(f"{100 * right.mean():.1f} %")
    print("".join(f"{cell:>11}" for cell in row))


print(" " * 22 + "".join(f"{name:>11}" for name in test_sets))

"""
## Plain models

Concatenated features and a small network; what is missing is set to zero. The
second one is trained with noise: `CorruptionAugmentation` corrupts modalities
of random training samples, and does nothing at inference. It takes a dict with
or without `"modality_mask"`, and marks there what it drops.
"""

EPOCHS, BATCH_SIZE = 20, 64


def make_inputs():
    inputs = {n: keras.Input(x_train[n].shape[1:], name=n) for n in NAMES}
    return inputs | {
        "modality_mask": keras.Input((len(NAMES),), name="modality_mask")
    }


def compile_and_fit(model, y, losses):
    model.compile(keras.optimizers.AdamW(3e-3), losses)
    x = {**x_train, "modality_mask": full_mask(x_train)}
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def augmentation():
    return layers.CorruptionAugmentation(
        noise_probability=0.4, drop_probability=0.1, seed=2
    )


def plain_model(augmentation=None):
    inputs = make_inputs()
    used = augmentation(inputs) if augmentation else inputs
    x = ops.concatenate([used[name] for name in NAMES], axis=-1)
    x = keras.layers.Dense(96, "relu")(x)
    x = keras.layers.Dropout(0.5, seed=0)(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(x))


def predict_plain(model, x):
    values = {name: np.nan_to_num(value) for name, value in x.items()}
    return model.predict(values, verbose=0)


for title, augment in (
    ("plain", None),
    ("plain, trained noisy", augmentation()),
):
    plain = plain_model(augment)
    compile_and_fit(plain, y_train, crossentropy())
    report(title, lambda x, model=plain: predict_plain(model, x))

"""
## A functional model that judges its inputs

`FeatureGate` compares every feature, and every modality, with what is usual
for the nearest class. Its statistics are those of the clean training data, so
that they are known before training begins. `adapt` also takes a data set that
yields `(inputs, y)` or `(inputs, y, modality_mask)`.
"""


def as_list(x):
    return [x[name] for name in NAMES]


gate = layers.FeatureGate(CLASSES)
gate.adapt(as_list(x_train), y_train)

"""
`PrototypeConfidence` says how far each modality can be trusted, and
`DynamicDepthFusion` turns that into a depth for each of them, how many blocks
run, relative to the best one of the sample.
"""

inputs = make_inputs()
mask = inputs["modality_mask"]
gated = gate(as_list(inputs), mask)
prototypes = layers.PrototypeConfidence(CLASSES, seed=0)(
    gated["gated"], gated["typicality"], mask
)
fused = layers.DynamicDepthFusion(CLASSES, seed=1)(
    gated["cleaned"],
    prototypes["confidence"],
    prototypes["probabilities"],
    mask,
)
functional = keras.Model(
    inputs,
    {
        "logits": fused["logits"],
        "modality_logits": fused["modality_logits"],
        "prototype_logits": prototypes["logits"],
        "depth": fused["depth"],
    },
)

"""
Confidence and depth pass no gradient on: what should learn gets a loss. So the
prototypes have one of their own, and every modality's classifier another. Both
have logits of shape `(batch, modalities, classes)`, and labels with a column a
modality. `depth` has none, it is there to be looked at.
"""

each = np.repeat(y_train[:, None], len(NAMES), axis=1)
compile_and_fit(
    functional,
    {"logits": y_train, "modality_logits": each, "prototype_logits": each},
    {
        "logits": crossentropy(),
        "modality_logits": crossentropy(),
        "prototype_logits": crossentropy(),
        "depth": None,
    },
)
report("functional", lambda x: functional.predict(x, verbose=0)["logits"])

"""
The depth is small where a modality is much less to be trusted than another one
of the same sample. The best one runs all of its four blocks.
"""

for title in ("clean", "sigma 1"):
    x = {**test_sets[title], "modality_mask": full_mask(x_test)}
    depth = functional.predict(x, verbose=0)["depth"]
    print(f"mean depth, {title}: {depth.mean():.2f} of 4")

"""
The layers' statistics are weights, so they are saved with the model.
"""

functional.save("own_model.keras")
restored = keras.saving.load_model("own_model.keras")
x = {**x_test, "modality_mask": full_mask(x_test)}
same = np.array_equal(
    restored.predict(x, verbose=0)["logits"],
    functional.predict(x, verbose=0)["logits"],
)
print("the same predictions:", same)
os.remove("own_model.keras")

"""
## A subclassed model that trains with noise

The second model shows the other layers, and is to be compared with the second
plain one. `ModalityEmbedding` brings features of any width into one
standardised space, and `RunningStandardization` does the same with what one
more layer makes of them. Every modality has a classifier; the probability of
its most probable class says how confident it is, and `DepthAllocator` turns
this into votes relative to the most confident modality of the sample.

Two details are typical:

- Statistics of the inputs should be those of clean samples. So the embedding is
  called with `training=False`, and clean samples go to its
  `update_statistics`, which a training call does by itself otherwise. The other
  two layers may see the noise, and are called in the ordinary way.
- The classifiers have losses of their own, and `GradientScale` lets these teach
  the layers below at a tenth of the fused loss' strength. Scaling one of
  several gradients works under Adam, too, which would cancel a scale of all of
  them.
"""


class Votes(keras.Model):
    def __init__(self, names, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.names = names
        self.augment = augmentation()
        self.embed = layers.ModalityEmbedding(64)
        self.encode = keras.layers.Dense(64, "relu")
        self.standardize = layers.RunningStandardization()
        self.drop = keras.layers.Dropout(0.3, seed=3)
        self.slow = layers.GradientScale(0.1)
        self.classify = keras.layers.EinsumDense(
            "bmd,mdk->bmk", (len(names), num_classes), bias_axes="mk"
        )
        self.allocate = layers.DepthAllocator(4)

    def call(self, inputs, training=None):
        used = self.augment(inputs, training=training)
        mask = used["modality_mask"]
        if training and self.embed.trainable:
            self.embed.update_statistics(
                [inputs[name] for name in self.names], inputs["modality_mask"]
            )
        z = self.embed(
            [used[name] for name in self.names], mask, training=False
        )
        z = self.standardize(self.encode(z), mask, training=training)
        z = self.drop(z, training=training)
        log_p = ops.log_softmax(self.classify(z))
        confidence = ops.exp(ops.max(log_p, axis=-1))
        votes = self.allocate(confidence, mask)["weight"]
        number = ops.sum(votes, axis=1, keepdims=True)
        weights = votes / ops.maximum(number, 1e-6)
        return {
            "logits": ops.sum(weights[:, :, None] * log_p, axis=1),
            "modality_logits": self.classify(self.slow(z)),
        }


subclassed = Votes(NAMES, CLASSES)
compile_and_fit(
    subclassed,
    {"logits": y_train, "modality_logits": each},
    {"logits": crossentropy(), "modality_logits": crossentropy()},
)
report("subclassed", lambda x: subclassed.predict(x, verbose=0)["logits"])
allocated = subclassed.allocate(np.array([[0.9, 0.85, 0.3]]))
print("votes of .9, .85 and .3:", ops.convert_to_numpy(allocated["weight"]))

"""
All of this is one seed on one split; the tables of the library's own models have
more. What to take away:

- `adapt` what learns from clean data, and everything else here moves in `fit`.
- Give a loss to whatever should learn: confidence and depth pass none on.
- Pass `modality_mask` to every layer that takes it. What is in a missing
  modality is read by none of them.
- With `trainable = False` a layer keeps its statistics, for fine-tuning on a few
  samples.
"""
