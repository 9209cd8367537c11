"""
Title: From a table of files to a model
Author: The keras_mmrel authors
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Sounds, pictures and columns of a CSV file, some of them missing, as data for `fit`.
Accelerator: None
"""

"""
## Introduction

Raw data mostly lie in a folder, beside a table that says which files belong
together. `keras_mmrel.media.MediaTable` makes batches of such a table: it reads
the files while the model trains, marks what is missing, and says which files
cannot be read. It needs the extra `media` (`pip install "keras-mmrel[media]"`).
"""

"""
## Setup
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import json
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import soundfile
from PIL import Image
from sklearn.datasets import load_digits

import keras_mmrel
from keras_mmrel import media

"""
This guide makes its own files: 600 scanned digits as PNG pictures, and the
two tones that a telephone dials for each, in noise, as WAV files. The table
has a column for each, the pressure of the pen and the hand that held it, and
the name of the digit. A tenth of the sounds was never recorded: their cells are
empty. One picture is broken.
"""

WORDS = "zero one two three four five six seven eight nine".split()
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)

scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
rng = np.random.default_rng(0)
digits = load_digits()
rows = []
for index in range(600):
    digit, pixels = digits.target[index], digits.images[index]
    Image.fromarray((pixels * 15.9).astype("uint8")).save(
        folder / f"{index}.png"
    )
    t = np.arange(2000) / 8000
    key = 10 if digit == 0 else digit - 1
    tones = LOW[key // 3], HIGH[key % 3]
    sound = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in tones)
    sound = 0.1 * sound + rng.normal(0, 0.15, len(t))
    soundfile.write(folder / f"{index}.wav", sound, 8000)
    rows.append(
        {
            "picture": f"{index}.png",
            "recording": f"{index}.wav" if rng.uniform() > 0.1 else None,
            "pressure": pixels.mean() + rng.normal(),
            "hand": rng.choice(["left", "right"]),
            "digit": WORDS[digit],
        }
    )
(folder / "7.png").write_bytes(b"This is no picture.")
pd.DataFrame(rows[:480]).to_csv(folder / "train.csv", index=False)
pd.DataFrame(rows[480:]).to_csv(folder / "test.csv", index=False)
print((folder / "train.csv").read_text()[:150])

"""
A function of the samples makes a spectrogram: frames of 32 ms, 64 bands.
"""


@keras.saving.register_keras_serializable(package="guide")
def spectrogram(sound):
    frames = sound[: len(sound) // 250 * 250].reshape(-1, 250)
    power = np.abs(np.fft.rfft(frames * np.hanning(250), 256)[:, :128])
    return np.log(power.reshape(len(frames), 64, 2).mean(axis=2) + 0.01)


"""
## Fifteen lines

Each medium says which column it reads and what array it makes. The model takes
the shapes of the training table, and its classes, whose names are kept in the
file of the model. The test table is read *like* the training table: with its
means, its categories and its classes.
"""

train = media.MediaTable(
    folder / "train.csv",
    modalities={
        "picture": media.Image("picture", size=16, channels=1),
        "sound": media.Audio("recording", sample_rate=8000, seconds=0.25, transform=spectrogram),
        "pen": media.Tabular(["pressure", "hand"]),
    },
    label="digit",
    on_error="missing",
    batch_size=64, shuffle=True, seed=0, workers=2,
)  # fmt: skip
keras.utils.set_random_seed(0)
model = keras_mmrel.LateFusion(train.shapes, train.num_classes)
model.compile()
model.fit(train, epochs=15, verbose=0)
test = train.like(folder / "test.csv")
print(model.evaluate(test, verbose=0, return_dict=True))

"""
## What was missing

`missing` counts empty cells and files that are not there (a warning names one
of those). What is there and cannot be read is in `unreadable`; without
`on_error="missing"` it would have ended the training, with the same words.
"""

print("shapes:", train.shapes)
print("rows:", len(train.table), " missing:", train.missing)
for row, column, file, reason in train.unreadable:
    print(f"row {row}, column {column}, {Path(file).name}: {reason}")

"""
## New files

A table without labels gives inputs alone. A sample without a sound is answered
from its picture, and says so: the confidence of what is missing is 0.
"""

new = train.like(
    pd.DataFrame(rows[480:484]).assign(recording=[None, *["482.wav"] * 3]),
    label=None,
    root=folder,
)
out = model.predict(new, verbose=0)
for probabilities, confidence in zip(
    out["probabilities"], out["confidence"], strict=True
):
    name = model.class_names[probabilities.argmax()]
    print(
        f"{name:>6}, confidence of",
        ", ".join(
            f"{modality} {value:.2f}"
            for modality, value in zip(
                model.modality_names, confidence, strict=True
            )
        ),
    )

"""
## In memory, from a cache, and saved

What fits into memory can be read at once: `arrays` gives what every method,
corruption and evaluation of the library takes. Decoding that takes long, of
videos say, is done once with `cache`, a folder that may be shared. And the
model's file knows its classes.
"""

x_test, y_test = train.like(
    folder / "test.csv", cache=folder / "cache"
).arrays()
noisy = keras_mmrel.corruptions.GaussianNoise(0.5, "one")(x_test, seed=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scores = model.evaluate(noisy, y_test, verbose=0, return_dict=True)
print("with noise on one modality:", scores)

model.save(folder / "model.keras")
loaded = keras.saving.load_model(folder / "model.keras")
first = model.predict(test, verbose=0)["probabilities"]
again = loaded.predict(test, verbose=0)["probabilities"]
print("classes:", loaded.class_names[:3], "...")
print("the same predictions:", np.allclose(first, again, atol=1e-6))

"""
How files are read is not in the model's file. A table that is made anew learns its
columns, their ranges and categories, from the rows that it gets: another process
takes what this one has learnt. It knows a function of your own, as `spectrogram`
is, by the name that it is registered under.
"""

settings = {
    name: keras.saving.serialize_keras_object(medium)
    for name, medium in train.modalities.items()
}
(folder / "media.json").write_text(json.dumps(settings))

read_as = {
    name: keras.saving.deserialize_keras_object(medium)
    for name, medium in json.loads((folder / "media.json").read_text()).items()
}
later = media.MediaTable(folder / "test.csv", read_as)
again = loaded.predict(later, verbose=0)["probabilities"]
print("the same predictions:", np.allclose(first, again, atol=1e-6))
scratch.cleanup()

"""
## Where to go on

- `media.Video` and `media.Text` read moving pictures and texts;
  `media.FileMedium` is the base of a format of your own.
- [Corruptions of raw media](../docs/corruptions.md), with pictures: noise in decibels,
  blur, blank frames, typing errors and more, before any front end.
- A text is a dict of `token_ids` and `padding_mask`, as backbones of keras-hub
  take it: give such a backbone, in `encoders.PooledEncoder`, in the place of its
  shape.
- `start="random"`, `sampling="random"` and `shuffle=True` draw anew in every
  epoch, from `seed`.
"""
