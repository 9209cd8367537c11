"""
Title: A decision that can be deployed
Author: The keras_mmrel authors
Date created: 2026/11/27
Last modified: 2026/11/27
Description: One file with a label or an abstention, and what it promises.
Accelerator: None
"""

"""
## Introduction

Where a classifier is used, nobody wants logits. They want a label, or "I
abstain, because the second sensor is not to be believed", with a promise about
how often that is wrong. `keras_mmrel.evaluation.Decision` makes this of any
trained model and a few hundred calibration samples:

- a **label**, and whether to **accept** it, so that few accepted ones are wrong;
- a **set** of classes that holds the true one as often as you ask for;
- which modality is **suspect**, **out of range** or **missing**;
- for a stream of new samples, which modality has **drifted**.

It is a Keras model: one file that loads on JAX, TensorFlow and PyTorch.
The guide needs no download and takes seconds.
"""

"""
## Setup
"""

import json
import os
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.evaluation import Decision

keras.utils.set_random_seed(0)

"""
## Data in three parts

What a decision learns is chosen on samples that the model has neither been
trained nor selected on. So the training part of the digits gives up two fifths
of its samples for calibration.
"""

(x, y), (x_test, y_test) = keras_mmrel.datasets.load_multiview_digits()
rows = np.random.default_rng(0).permutation(len(y))
calibration, training = np.split(rows, [2 * len(rows) // 5])


def take(x, rows):
    return {name: values[rows] for name, values in x.items()}


x_train, y_train = take(x, training), y[training]
x_cal, y_cal = take(x, calibration), y[calibration]
print(len(y_train), len(y_cal), len(y_test))

"""
## A model

Any model of the library will do. This one votes, and `InputQuality` lowers its
confidence in modalities whose features do not fit each other: without a judge
of inputs, a network is often as sure of noise as of anything else. Classes may
have names, which are in the model's file.
"""

names = "zero one two three four five six seven eight nine".split()
model = keras_mmrel.LateFusion(
    {name: values.shape[1:] for name, values in x.items()},
    num_classes=10,
    average="probabilities",
    quality=keras_mmrel.layers.InputQuality(),
    class_names=names,
)
model.compile(keras.optimizers.Adam(3e-3))
model.fit(x_train, y_train, batch_size=64, epochs=12, verbose=0)

"""
## A decision

`risk` is the largest fraction of mistakes among what is accepted, `coverage`
how often a set holds the true class, and `false_alarm` how often a modality of
a clean sample may be called suspect. A fifth of the calibration samples is for
the temperature; the others teach the rule and the sets, and a new sample is
like one of them. `describe` says what was found.
"""

decision = Decision.fit(
    model, x_cal, y_cal, risk=0.03, coverage=0.95, false_alarm=0.05
)
print(json.dumps(decision.describe(), indent=1))

"""
Its outputs are few and have names. `missing` and the two alarms have a column
for each modality.
"""

out = decision.predict(x_test, verbose=0)
for name, values in out.items():
    print(f"{name:15} {values.dtype!s:8} {values.shape}")

"""
`evaluate` says what becomes of the promises on labelled samples. These are
averages: coverage and false alarms hold over calibration samples as well as
new ones, so a single evaluation is off by a point or two.
"""


def show(title, found):
    print(
        f"{title}: accepts {found['accepted']:.3f}, of which "
        f"{found['risk']:.3f} are wrong; sets hold the truth in "
        f"{found['coverage']:.3f}, {found['set_size']:.2f} classes each"
    )
    for kind in ("suspect", "out_of_range"):
        rates = (f"{n} {rate:.3f}" for n, rate in found[kind].items())
        print(f"    {kind}: {', '.join(rates)}")


show("clean test data", decision.evaluate(x_test, y_test))

"""
## In words

`explain` takes one sample and returns a dict that JSON takes. Its `sentence`
says the same. Here is a good sample, the same one with a broken modality, and
without one.
"""

row = int(np.argmax(out["accept"] & ~out["suspect"].any(axis=1)))
sample = take(x_test, row)
shuffled = np.random.default_rng(0).permutation(sample["pixels"])
for told in (
    sample,
    {**sample, "pixels": shuffled},
    {**sample, "fourier": sample["fourier"] + 2.0},
    {name: v for name, v in sample.items() if name != "profile"},
):
    print("-", decision.explain(told)["sentence"])

doubtful = int(np.argmax(~out["accept"]))
print("-", decision.explain(take(x_test, doubtful))["sentence"])
print(json.dumps(decision.explain(sample)["modalities"]["pixels"]))

"""
The shuffled pixels are all in range: that they do not fit each other is what
the model's confidence says. Values that calibration never saw are out of range,
whatever the model makes of them.

## Where promises end

A promise is about samples like those of calibration. Under another noise, with
other sensors, or with more modalities missing, it is void. No number tells
that from one sample, but a stream of them shows it: `drift` compares the
confidences of a stream with those of calibration by an exact test, for all
modalities together at one level.
"""

print(decision.drift(take(x_test, slice(0, 150))))
noise = GaussianNoise(0.5, "all")(x_test, seed=0)
stream = take({**x_test, "fourier": noise["fourier"]}, slice(150, 300))
report = decision.drift(stream)
print(report)

show(
    "noise of 0.5 on fourier",
    decision.evaluate({**x_test, "fourier": noise["fourier"]}, y_test),
)

severities = [0.0, 0.1, 0.2, 0.5, 1.0]
found = []
for severity in severities:
    noisy = GaussianNoise(severity, "all")(x_test, seed=1)
    found.append(decision.evaluate(noisy, y_test))
show("noise of 0.5 on all three", found[3])

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name in ("accepted", "coverage", "accuracy"):
    axes[0].plot(severities, [f[name] for f in found], "o-", label=name)
axes[0].axhline(0.95, color="gray", linestyle=":", label="promised coverage")
axes[0].set_ylabel("fraction of the test samples")
for name in x_test:
    rates = [f["suspect"][name] for f in found]
    axes[1].plot(severities, rates, "o-", label=name)
axes[1].axhline(0.05, color="gray", linestyle=":", label="false alarms, clean")
axes[1].set_ylabel("fraction that is suspect")
for axis in axes:
    axis.set_xlabel("noise on all modalities, σ")
    axis.set_ylim(-0.02, 1.05)
    axis.legend(fontsize=8)
figure.savefig("decision.png", dpi=100)

"""
One bad modality is named, and this model gets by without it: what was promised
is kept, though nothing says that it must be. With noise on all of them it is
not. The alarms are the warning.

## Within each group

A promise on average over two hospitals may be kept in one and broken in the
other. With `groups`, each has limits of its own, and the group of a sample is
an input: `"group"`. Here the second hospital has worse sensors.
"""

clinics = np.array(["north", "south"])


def in_clinics(x, seed):
    where = np.random.default_rng(seed).integers(0, 2, len(x["pixels"]))
    bad = GaussianNoise(1.0, "independent")(x, seed=seed)
    south = where[:, None] == 1
    return {n: np.where(south, bad[n], v) for n, v in x.items()}, clinics[where]


mixed_cal, cal_groups = in_clinics(x_cal, seed=3)
mixed_test, test_groups = in_clinics(x_test, seed=4)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    plain = Decision.fit(model, mixed_cal, y_cal, risk=0.1, coverage=0.9)
    grouped = Decision.fit(
        model, mixed_cal, y_cal, risk=0.1, coverage=0.9, groups=cal_groups
    )
for told in caught:
    if told.category is UserWarning:
        print("Warning:", told.message)
for clinic in clinics:
    of_clinic = np.flatnonzero(test_groups == clinic)
    part, labels = take(mixed_test, of_clinic), y_test[of_clinic]
    show(f"{clinic}, one for both", plain.evaluate(part, labels))
    part["group"] = test_groups[of_clinic]
    show(f"{clinic}, its own", grouped.evaluate(part, labels))

"""
A sample without a group, or of one that calibration had not, gets the limits of
all samples together.

## Few samples

Below the number of samples that a promise takes, nothing is promised: nothing
is accepted, sets hold every class, and no modality is suspect. One warning
says so.
"""

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", UserWarning)
    Decision.fit(model, take(x_cal, slice(0, 15)), y_cal[:15])
for told in caught:
    if told.category is UserWarning:
        print("Warning:", told.message)

"""
## One file

The file has the model, all limits and the confidences of calibration, and
nothing that only a training needs. It loads without `custom_objects`, on every
backend. For a place without Keras, `decision.export("decision.onnx",
format="onnx")` writes the same outputs under the same names for ONNX Runtime;
`examples/results/exports.md` says which formats each backend can write.
"""

decision.save("decision.keras")
restored = keras.saving.load_model("decision.keras")
again = restored.predict(x_test, verbose=0)
same = all(np.array_equal(out[name], again[name]) for name in out)
print("the same predictions:", same)
for name in ("decision.keras", "decision.png"):
    os.remove(name)

"""
## Limits

- All promises are about samples that are exchangeable with those of
  calibration. Calibrate on what will be met, missing modalities included, and
  watch `drift`.
- Alarms are for each modality by itself: of three modalities up to three times
  the rate has one. They say what is unusual, not what is wrong.
- `accept` looks at the probability alone. That a broken modality lowers it is
  the model's task; `examples/comparison.yaml` shows which models do that.
- `drift` sees confidences. A change that leaves these as they are is not found,
  and neighbouring frames of a video are no independent samples.
- The risk holds with a probability of `1 - delta` over calibration samples;
  the rule is careful where there are few of them.
"""
