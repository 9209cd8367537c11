"""
Title: Know when to trust a multimodal classifier
Author: The keras_mmrel authors
Date created: 2026/11/21
Last modified: 2026/11/26
Description: From a trained model to a decision when to abstain.
Accelerator: None
"""

"""
## Introduction

An accuracy on clean test data says little about the day on which a microphone
breaks. This guide takes two trained classifiers and asks what an engineer has
to know before either of them decides anything:

1. how accurate and how well calibrated is it when modalities are bad?
2. what does each modality contribute?
3. below which probability should it hand over to a person, so that at most
   5 % of what it decides is wrong?

Everything here works with any Keras model that takes a dict of arrays. The
guide needs no download and about a minute on two cores.
"""

"""
## Setup
"""

import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_mmrel
from keras_mmrel import evaluation
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.evaluation import NOISE_PROTOCOLS

keras.utils.set_random_seed(0)

"""
## Data in three parts

A threshold or a temperature is a parameter like any other: it is chosen on
data that the model was not trained on, and judged on data that chose nothing.
So the training part gives up a third for calibration.
"""

(x, y), (x_test, y_test) = keras_mmrel.datasets.load_multiview_digits("all")
rows = np.random.default_rng(0).permutation(len(y))
train, calibration = np.split(rows, [2 * len(rows) // 3])


def part(of, rows):
    return {name: values[rows] for name, values in of.items()}


x_train, y_train = part(x, train), y[train]
x_cal, y_cal = part(x, calibration), y[calibration]
print(len(y_train), len(y_cal), len(y_test))

"""
## Two models

Both are trained on clean data with the same settings.
"""

shapes = {name: values.shape[1:] for name, values in x.items()}
models = {
    "QADMNet": keras_mmrel.QADMNet(shapes, num_classes=10, name="QADMNet"),
    "ConcatFusion": keras_mmrel.ConcatFusion(
        shapes, num_classes=10, name="ConcatFusion"
    ),
}
EPOCHS, BATCH_SIZE = 40, 93
steps = EPOCHS * len(y_train) // BATCH_SIZE
for model in models.values():
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.05)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=4e-3))
    model.fit(x_train, y_train, batch_size=BATCH_SIZE, epochs=EPOCHS, verbose=0)

"""
## A report

`evaluate_robustness` scores a model on clean and on corrupted test data.
Corruptions are named protocols, so that a table can say which one it used, or
objects of your own. Every seed draws them anew.
"""

for name in ("gaussian_half", "unaligned", "qmf_image_published"):
    print(f"{name}: {NOISE_PROTOCOLS[name].description}")

PROTOCOLS = ["gaussian_one", "gaussian_half", "feature_noise", "unaligned",
             "missing"]  # fmt: skip
reports = {
    name: evaluation.evaluate_robustness(
        model, x_test, y_test, PROTOCOLS, seeds=3, verbose=0
    )
    for name, model in models.items()
}
columns = ["accuracy", "f1_macro", "nll", "ece", "brier", "aurc"]
for name, report in reports.items():
    print(f"\n{name}\n{report.to_markdown(columns)}")

"""
`scores` is a tidy pandas table with a row for each corruption, severity and
seed; `summary()` has means and deviations. `save` and `RobustnessReport.load`
keep it, and refuse a file that was cut off.

`ece` says how far probabilities are from how often they come true.
`aurc`, the area under the risk-coverage curve, says how well they order right
before wrong: small is good for a model that may abstain. A modality that is
known to be missing costs little. Noise costs `ConcatFusion` far more than
`QADMNet`, and it does not notice: its probabilities stay high.
"""

figure = reports["ConcatFusion"].plot()
figure.savefig("concat_fusion.png", dpi=100)
figure = reports["QADMNet"].plot()
figure.savefig("qadm_net.png", dpi=100)
figure

"""
## What does each modality contribute?

Exact Shapley values of the accuracy on held-out data, what is lost without a
modality, and what it reaches alone. The five views of a digit are redundant:
each is good alone and hardly missed.
"""

for name, model in models.items():
    table = evaluation.modality_contributions(model, x_cal, y_cal)
    print(f"\n{name}\n{table.round(3).to_string(index=False)}")

"""
## Calibrate

Temperature scaling divides the logits by one number, fitted on the
calibration part. It cannot change an accuracy. It repairs what is off by the
same factor everywhere; a model that is right about clean data and wrong about
noise needs calibration data as they will be. So the conditions of use are
made here: noise on each modality with probability one half.
"""

use = GaussianNoise(1.0, "independent")
noisy_cal, noisy_test = use(x_cal, seed=1), use(x_test, seed=2)
scaled = {}
for name, model in models.items():
    scaling = evaluation.TemperatureScaling()
    scaling.fit(model.predict(noisy_cal, verbose=0), y_cal)
    outputs = model.predict(noisy_test, verbose=0)
    scaled[name] = scaling.apply(outputs)
    metric = keras_mmrel.metrics.ExpectedCalibrationError()
    errors = []
    for logits in (outputs["logits"], scaled[name]["logits"]):
        metric.reset_state()
        metric.update_state(y_test, logits)
        errors.append(float(metric.result()))
    print(
        f"{name}: temperature {scaling.temperature:.2f}, calibration error "
        f"{errors[0]:.3f} -> {errors[1]:.3f}"
    )

"""
## Decide when to abstain

`selective_prediction` finds the lowest threshold for which at most 5 % of the
accepted predictions are wrong, with a probability of 95 % over the
calibration samples. The bound is exact for a finite number of them and
supposes nothing about the model.
"""


def judge(rule, outputs):
    accepted = rule.accept(outputs)
    wrong = outputs["probabilities"].argmax(axis=1) != y_test
    text = f"answers {100 * accepted.mean():.0f} % of the test data"
    if not accepted.any():
        return text
    return f"{text}, of which {100 * wrong[accepted].mean():.1f} % are wrong"


rules = {}
for name, model in models.items():
    rules[name] = evaluation.selective_prediction(
        model.predict(noisy_cal, verbose=0), y_cal, risk=0.05, delta=0.05
    )
    answer = judge(rules[name], model.predict(noisy_test, verbose=0))
    print(f"{name}: threshold {rules[name].threshold:.2f}, {answer}")

"""
Better confidence pays in answers. `QADMNet` decides about most samples by
itself, and makes fewer mistakes than promised, since the bound has to hold for
unlucky calibration samples as well. The most certain answers of `ConcatFusion`
are wrong too often for any threshold: its rule accepts nothing, with a warning,
and that is the right decision.

The promise is about the conditions of the calibration samples. Calibrated on
clean data and used under noise, it is void:
"""

for name, model in models.items():
    rule = evaluation.selective_prediction(
        model.predict(x_cal, verbose=0), y_cal, risk=0.05, delta=0.05
    )
    answer = judge(rule, model.predict(noisy_test, verbose=0))
    print(f"{name}, calibrated on clean data: {answer}")

"""
## Or name the classes that are possible

A conformal set holds the true class with a probability that you choose, over
calibration and test samples: with a few hundred of each the fraction that is
measured is off by a point or two. The size of a set says how sure the model
is: one class is an answer, five are a question.
"""

sizes = {}
for name, model in models.items():
    conformal = evaluation.ConformalSets(coverage=0.95, method="threshold")
    conformal.fit(model.predict(noisy_cal, verbose=0), y_cal)
    outputs = model.predict(noisy_test, verbose=0)
    sets = conformal.predict(outputs)
    sizes[name] = sets.sum(axis=1)
    covered = sets[np.arange(len(y_test)), y_test].mean()
    print(
        f"{name}: {100 * covered:.1f} % of the sets hold the true class; "
        f"mean size {sizes[name].mean():.2f}"
    )

figure, axes = plt.subplots(
    1, 2, figsize=(9, 3.4), sharey=True, layout="constrained"
)
for axis, (name, size) in zip(axes, sizes.items(), strict=True):
    axis.hist(size, bins=np.arange(0.5, 11))
    axis.set_title(name)
    axis.set_xlabel("classes in the set")
axes[0].set_ylabel("test samples")
figure.savefig("set_sizes.png", dpi=100)

"""
## Save what decides

Model, temperature and rule are saved together: a threshold without its model
means nothing.
"""

model, rule = models["QADMNet"], rules["QADMNet"]
model.save("qadm_net.keras")
rule.save("rule.json")
restored = keras.saving.load_model("qadm_net.keras")
restored_rule = evaluation.SelectiveRule.load("rule.json")
before = rule.accept(model.predict(noisy_test, verbose=0))
after = restored_rule.accept(restored.predict(noisy_test, verbose=0))
print("the same predictions:", np.array_equal(before, after))
for name in ("qadm_net.keras", "rule.json", "concat_fusion.png",
             "qadm_net.png", "set_sizes.png"):  # fmt: skip
    os.remove(name)

"""
## A training that may be killed

A training of hours has to outlive the machine that it runs on. With
`callbacks.TrainingState` the same script, started again, goes on from the last
whole epoch and ends with the same weights, bit for bit: the optimizer, the
state of every dropout, the order of the samples, what `EarlyStopping`
remembers and `History` are in its file as well. Here a step fails in the
second epoch.
"""


class PowerCut(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            raise RuntimeError("the lights went out")


def train_on(folder, *others):
    keras.utils.set_random_seed(1)
    network = keras_mmrel.LateFusion(
        {k: v.shape[1:] for k, v in x_train.items()}, 10
    )
    network.compile()
    state = keras_mmrel.callbacks.TrainingState(folder)
    return network.fit(
        x_train,
        y_train,
        batch_size=128,
        epochs=3,
        verbose=0,
        callbacks=[state, *others],
    ).history["loss"]


with tempfile.TemporaryDirectory() as folder:
    whole = train_on(os.path.join(folder, "whole"))
    try:
        train_on(os.path.join(folder, "cut"), PowerCut())
    except RuntimeError as error:
        print("Stopped:", error)
    resumed = train_on(os.path.join(folder, "cut"))
    print("The same losses:", resumed == whole)

"""
The file is written under another name, handed to the disk and then renamed,
and the one before is kept: a kill at any moment leaves a whole one.
`keras.callbacks.BackupAndRestore` keeps weights and the epoch in two files; a
kill while it writes the second leaves it empty, and from then on no `fit` with
it starts. A file of another model, of other arguments or of another version is
refused in one sentence. With TensorFlow set a seed first, as above: what it
shuffles without one cannot be repeated. A generator of your own begins anew;
make its order a function of the epoch.
"""

"""
## Compare on your own data

One command compares methods on data sets in all regimes and with all seeds,
chooses settings inside the training part, goes on after a kill, and writes
tables, figures and one HTML page:

```
python -m keras_mmrel.benchmark run comparison.yaml --out results
python -m keras_mmrel.benchmark report results
```

```yaml
title: Omics of our clinic
datasets:
  clinic: {source: csv, modalities: {rna: rna.csv, protein: protein.csv}, labels: labels.csv}
methods: [LateFusion, TMC, QADMNet, MICINet]
regimes: {clean: {}, augmented: {noise_probability: 0.5}}
seeds: 10
training: {epochs: 200, batch_size: 64}
tuning: {grid: {learning_rate: [0.001, 0.003]}}
evaluation: {corruptions: [gaussian_one, feature_noise, missing]}
baseline: LateFusion
```

Columns of numbers that only count are no features: name such a column by
`index:`, and the rows of all files and of the labels are matched by it.
Otherwise they are joined in order. `header: false` is for files without a
first row of names.

The same in Python, with models, data and scores of your own as rows, is
`keras_mmrel.benchmark.Comparison(...).run("results")`.
`examples/comparison.yaml` is the comparison of all models of the library, and
`docs/results` says how to read a report.

## Limits

- A guarantee holds for samples like the calibration samples. No number
  protects from conditions that nobody has measured: evaluate under the
  corruptions that you expect, and monitor the fraction of samples that is
  accepted.
- Few calibration samples make a careful rule: at a risk of 5 % fewer than 59
  are refused, up to 71 the rule accepts all or nothing, and it takes some
  hundreds to come near to the risk that was asked for.
- The calibration error depends on its bins; Brier score and likelihood do not.
"""
