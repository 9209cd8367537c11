"""
Title: Real media, from a folder to a report
Author: The keras_mmrel authors
Date created: 2026/11/27
Last modified: 2026/11/27
Description: Pictures, sounds, texts and sequences through backbones: what is trained of them, how inputs are scaled, what happens without a modality.
Accelerator: None
"""

"""
## Introduction

A guide on [tables of files](media_table.py) shows how a table of paths becomes
data for `fit`. This one goes on from there: encoders round backbones of
keras-hub, how much of a backbone learns, which scale its inputs have, and a
report of what noise and missing modalities do. It needs the extras `media`,
`hub` and `report` (`pip install "keras-mmrel[media,hub,report]"`).
"""

"""
## Setup
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import tempfile
import warnings
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pandas as pd
import soundfile
from PIL import Image
from sklearn.datasets import load_digits

import keras_mmrel
from keras_mmrel import corruptions
from keras_mmrel import encoders
from keras_mmrel import evaluation
from keras_mmrel import media

"""
The guide makes its own folder, of 512 digits. Each has a scan, as a PNG
picture; the two tones that a telephone dials for it, in much noise, as a WAV
file; a note in the table, in which one word in five is a wrong one; and the way
of a pen, as an `.npy` file of 15 to 40 steps. The scans are real, the rest is
made of their labels. Some recordings and notes are not there.
"""

WORDS = "zero one two three four five six seven eight nine".split()
PHRASES = "this is a {}", "{} I think", "looks like {} to me", "a clear {}"
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)

scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
rng = np.random.default_rng(0)
digits = load_digits()
rows = []
for index in range(512):
    digit = digits.target[index]
    pixels = Image.fromarray((digits.images[index] * 15.9).astype("uint8"))
    pixels.resize((24, 24)).convert("RGB").save(folder / f"{index}.png")
    t = np.arange(2000) / 8000
    key = 10 if digit == 0 else digit - 1
    tones = LOW[key // 3], HIGH[key % 3]
    sound = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in tones)
    sound = 0.08 * sound + rng.normal(0, 0.15, len(t))
    soundfile.write(folder / f"{index}.wav", sound, 8000)
    step = np.linspace(0, 6, rng.integers(15, 41))[:, None]
    pen = np.sin(step * [1 + digit % 3, 1 + digit // 3] + rng.uniform(0, 6))
    np.save(folder / f"{index}.npy", pen + rng.normal(0, 0.5, pen.shape))
    word = rng.choice(WORDS) if rng.uniform() < 0.2 else WORDS[digit]
    rows.append(
        {
            "picture": f"{index}.png",
            "recording": f"{index}.wav" if rng.uniform() > 0.1 else None,
            "note": rng.choice(PHRASES).format(word) if index % 9 else None,
            "pen": f"{index}.npy",
            "digit": WORDS[digit],
        }
    )
pd.DataFrame(rows[:384]).to_csv(folder / "train.csv", index=False)
pd.DataFrame(rows[384:]).to_csv(folder / "test.csv", index=False)
print((folder / "train.csv").read_text()[:165])

"""
## Backbones

A backbone is any Keras model or layer. Here they are small and random, so that
the guide runs in a minute, without a network. **With real data a preset's name
goes into their place**, and keras-hub downloads its weights, and tells the
encoder how its pixels are scaled:

```python
encoders.ImageEncoder("mobilenet_v3_small_100_imagenet", (224, 224, 3))
encoders.TextEncoder("distil_bert_base_en_uncased", length=32)
```

What prepares a text or a sound belongs to the backbone, so it is named by the same
preset: `media.Text(..., tokenizer=preset)` adds the tokens that begin and end a text
(a tokenizer alone does not) and its padding, `media.Audio(..., transform=preset)`
makes Whisper's spectrograms.
"""


def mobilenet():
    return keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[16], [32]],
        stackwise_num_blocks=[1, 1],
        stackwise_num_filters=[[16], [32]],
        stackwise_kernel_size=[[3], [3]],
        stackwise_num_strides=[[2], [1]],
        stackwise_se_ratio=[[None], [0.25]],
        stackwise_activation=[["relu6"], ["hard_swish"]],
        stackwise_padding=[[1], [1]],
        image_shape=(24, 24, 3),
        input_num_filters=16,
        output_num_filters=32,
        depthwise_filters=16,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
    )


def distilbert():
    return keras_hub.models.DistilBertBackbone(
        vocabulary_size=500,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=16,
    )


def bands():
    """Convolutions over time: which band a tone is in is not averaged away."""
    return keras.Sequential(
        [
            keras.Input((None, 64)),
            keras.layers.Conv1D(48, 5, activation="relu"),
            keras.layers.Conv1D(48, 5, activation="relu"),
        ],
        name="bands",
    )


"""
## From a folder to a report in fifteen lines

The pictures go through a backbone, the waveforms through a spectrogram that
belongs to the model, so that noise on a sound comes before it. `fit` reads
files batch by batch, and `workers=2` of the table ahead of the model; the test
part fits into memory, and is what every evaluation of the library takes.
"""

keras.utils.set_random_seed(0)

columns = {
    "picture": media.Image("picture", size=24),
    "sound": media.Audio("recording", sample_rate=8000, seconds=0.25),
}
train = media.MediaTable(folder / "train.csv", columns, "digit", shuffle=True)
front = encoders.LogMelSpectrogram(8000, mel_bins=64)
sound = encoders.AudioEncoder(bands(), (2000,), front)
inputs = {"picture": encoders.ImageEncoder(mobilenet()), "sound": sound}
model = keras_mmrel.QADMNet(inputs, train.num_classes)
model.compile(keras.optimizers.AdamW(3e-3))
model.fit(train, epochs=10, verbose=0)
x_test, y_test = train.like(folder / "test.csv").arrays()
noise = ["gaussian_one", "missing", "unaligned"]
report = evaluation.evaluate_robustness(model, x_test, y_test, noise, verbose=0)
print(report.to_markdown(["accuracy", "nll", "corrupted_auroc"]))

"""
"inside" stands beside a corruption that leaves all values within the range of
the clean data, where no check of ranges finds it. `missing` takes a modality
away and says so; `unaligned` gives a sample another one's picture or sound and
says nothing. Noise of σ = 5 is far outside of what pixels in [0, 1] can be, and
drowns a waveform in [-1, 1]; the model warns that it has not been made for it.

`report.plot()` draws the same.
"""

figure = report.plot()
figure.savefig(folder / "report.png", dpi=100)
figure

"""
## A modality that is not there

Leave its key out, and it is missing: its mask is 0, its confidence is 0, and the
others decide.
"""

for names in (["picture", "sound"], ["picture"], ["sound"]):
    some = {name: x_test[name] for name in names}
    if len(names) == 2:
        some["modality_mask"] = x_test["modality_mask"]
    out = model.predict(some, verbose=0)
    right = (out["probabilities"].argmax(axis=1) == y_test).mean()
    confidence = ", ".join(
        f"{name} {mean:.2f}"
        for name, mean in zip(
            model.modality_names, out["confidence"].mean(axis=0), strict=True
        )
    )
    print(
        f"{' and '.join(names)}: accuracy {right:.2f}, confidence {confidence}"
    )

"""
These pictures are hard and few, and a random network sees little in them: where
one modality is so much the better one, the other can cost a little, and it is
worth a look (`python -m keras_mmrel.diagnose` looks at all of them).

A tenth of the recordings was never made: their cells in the table are empty,
and `arrays` has their mask at 0. Without the mask, the line of zeros would be
taken for a recording of silence.
"""

"""
## What of a backbone learns

`fine_tune` says it: `"none"` keeps a backbone as it is and trains what comes
after it; a number trains its last so many layers that have weights; `"lora"`
trains small factors beside the kernels of attention, for transformers; `"all"`,
the default, everything. What is frozen runs as at inference.
"""

for fine_tune in ("none", 1, "lora", "all"):
    encoder = encoders.TextEncoder(distilbert(), 8, fine_tune=fine_tune)
    encoder.build(encoder.input_shape)
    learns = sum(int(np.prod(w.shape)) for w in encoder.trainable_weights)
    print(f"fine_tune={fine_tune!r}: {learns:,} of {encoder.count_params():,}")

"""
With pretrained weights, begin with `"none"`: it is fast, and cannot forget. With
few labels `"lora"` or the last layers come next. With random weights, as here,
there is nothing to keep: a frozen backbone is a random one, and `"all"` is the
only sensible choice.

## Which scale inputs have

- **Pixels**: bytes (`media.Image(..., pixels="uint8")`) or floats in [0, 1], the
  default. `ImageEncoder` and `ConvEncoder` take both for the same picture.
  Where the first training has floats up to 255, as Keras' own loaders of images
  give them, the model divides by 255 from then on, and says so. The strength of
  a noise is in parts of white for all three.
- **Waveforms**: floats in [-1, 1], as `media.Audio` makes them.
- **Anything else**, such as decibels or measurements: `encoders.Scaling(shape)`,
  which learns mean and deviation of each band, channel or feature from the
  first training data, before the first step, and keeps them in the model's file.
  It keeps how loud a clip is: for speakers that training did not have,
  `encoders.LogMelSpectrogram`, which takes each clip by itself, was 20 points ahead.

What has another range is not refused, but there is a warning. `fit` warns of
large values that nothing scales, `predict` of values of another size than in
training.
"""

x_train, y_train = train.arrays()
pixels = {"picture": x_train["picture"][:64]}
labels = y_train[:64]


def said(function, *arguments):
    """Call it, and print what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments, verbose=0)
    said = [w.message for w in caught if w.category is UserWarning]
    print(*(f"  {message}" for message in said or ["nothing"]), sep="\n")


bright = {"picture": 255 * pixels["picture"]}
small = keras_mmrel.ConcatFusion({"picture": (24, 24, 3)}, 10)
small.compile()
print("fit, floats up to 255:")
said(small.fit, bright, labels)

small = keras_mmrel.ConcatFusion({"picture": (24, 24, 3)}, 10)
small.compile()
small.fit(pixels, labels, verbose=0)
print("fit on [0, 1], predict floats up to 255:")
said(small.predict, bright)
print("fit on [0, 1], predict bytes:")
said(small.predict, {"picture": bright["picture"].astype("uint8")})

scaled = encoders.Scaling((24, 24, 3))
small = keras_mmrel.ConcatFusion({"picture": scaled}, 10)
small.compile()
print("fit by encoders.Scaling, floats up to 255:")
said(small.fit, bright, labels)

"""
## Texts and sequences

A text is a dict of tokens and the mask of their padding, a sequence one of
values and that mask: padding takes no part in a feature. A text needs an
encoder of tokens. A sequence gets `encoders.SequenceEncoder` by its shape alone,
as pictures, vectors and videos get theirs; `encoders.Scaling` takes its shape where
its values have units of their own.
"""

both = media.MediaTable(
    folder / "train.csv",
    {
        "note": media.Text(
            "note", tokenizer=media.HashingTokenizer(500), length=8
        ),
        "pen": media.Series("pen", features=2, length=40),
    },
    label="digit",
    batch_size=32,
    shuffle=True,
    seed=0,
)
print(both.shapes, both.missing)
keras.utils.set_random_seed(0)
words = keras_mmrel.LateFusion(
    {
        "note": encoders.TextEncoder(distilbert(), 8),
        "pen": both.shapes["pen"],
    },
    both.num_classes,
)
words.compile(keras.optimizers.AdamW(3e-3))
words.fit(both, epochs=10, verbose=0)
tested = both.like(folder / "test.csv")
x_words, _ = tested.arrays()
print("both:", words.evaluate(tested, verbose=0, return_dict=True))
for name in ("note", "pen"):
    right = words.predict({name: x_words[name]}, verbose=0)["probabilities"]
    print(
        f"{name} alone: accuracy {(right.argmax(axis=1) == y_test).mean():.2f}"
    )

"""
Corruptions and reports take one array a modality. Of a text that is its tokens,
0 where there is padding: a function puts the mask back.
"""


def predict(x):
    tokens = x["note"].astype("int32")
    note = {"token_ids": tokens, "padding_mask": tokens > 0}
    return words.predict({"note": note}, verbose=0)


tokens = x_words["note"]["token_ids"]
there = tokens.any(axis=1)
(blank,) = media.HashingTokenizer(500)("a")
blanks = corruptions.TokenReplacement(0.3, "note", token=blank)
report = evaluation.evaluate_robustness(
    predict, {"note": tokens[there]}, y_test[there], {"blanks": blanks},
    [0.1, 0.3, 0.6], verbose=0,
)  # fmt: skip
print(report.to_markdown(["accuracy", "nll"]))

"""
## Saved and loaded

One file has the weights, the backbones, the statistics of scales and the names
of the classes. Nothing of this guide has to be imported to load it.
"""

for name, trained, data in (
    ("seen", model, train.like(folder / "test.csv")),
    ("read", words, tested),
):
    trained.save(folder / f"{name}.keras")
    loaded = keras.saving.load_model(folder / f"{name}.keras")
    first = trained.predict(data, verbose=0)["probabilities"]
    again = loaded.predict(data, verbose=0)["probabilities"]
    print("classes:", loaded.class_names[:3], "...")
    print("the same predictions:", np.allclose(first, again, atol=1e-5))
scratch.cleanup()
