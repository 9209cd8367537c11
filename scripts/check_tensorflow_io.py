"""What tensorflow-io reads is what soundfile reads, and a model trains on it.

`scripts/check_tensorflow_io.sh` makes the environment that this needs.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import soundfile
import tensorflow as tf

import keras_mmrel
from keras_mmrel import media

# Of full scale.
LIMIT = 1e-6


def sound(rate, channels):
    """One second of two tones, the same at every rate."""
    t = np.arange(rate) / rate
    both = [0.4 * np.sin(2 * np.pi * f * t) for f in (440, 700)]
    return np.stack(both[:channels], axis=1)


def read(path, decoder, sample_rate, **options):
    medium = media.Audio(
        "path", sample_rate=sample_rate, seconds=0.5, decoder=decoder, **options
    )
    return medium.decode(path, {}, np.random.default_rng(0))


def compare(folder):
    """Print, file by file, how far the two readers differ at most."""
    worst = 0.0
    for name, subtype in (
        ("a.wav", "PCM_16"),
        ("b.wav", "FLOAT"),
        ("c.wav", "PCM_24"),
        ("d.flac", "PCM_16"),
    ):
        for rate, channels in ((8000, 1), (44100, 2)):
            path = folder / name
            soundfile.write(path, sound(rate, channels), rate, subtype)
            for to in (rate, 16000):
                values = [
                    read(path, decoder, to, start=0.25, mono=channels == 1)
                    for decoder in ("tensorflow_io", "soundfile")
                ]
                gap = np.abs(values[0] - values[1]).max()
                worst = max(worst, gap)
                print(
                    f"{name} {subtype:>6} {rate:>5} Hz x {channels} "
                    f"-> {to:>5} Hz: {gap:.1e}"
                )
    return worst


def train(folder):
    """Fit a small model on files that tensorflow-io reads."""
    rows = []
    for index in range(16):
        high = index % 2
        tone = 0.4 * np.sin(np.arange(800) * (0.8 if high else 0.1) + index)
        soundfile.write(folder / f"{index}.wav", tone, 8000)
        rows.append((f"{index}.wav", float(index), ("low", "high")[high]))
    data = media.MediaTable(
        pd.DataFrame(rows, columns=["wav", "number", "label"]),
        {
            "sound": media.Audio(
                "wav", sample_rate=8000, seconds=0.1, decoder="tensorflow_io"
            ),
            "number": media.Tabular(["number"]),
        },
        label="label",
        root=folder,
        batch_size=4,
        workers=2,
    )
    keras.utils.set_random_seed(0)
    model = keras_mmrel.ConcatFusion(data.shapes, data.num_classes, seed=0)
    model.compile()
    history = model.fit(data, epochs=8, verbose=0).history
    return history["loss"][0], history["loss"][-1]


with tempfile.TemporaryDirectory() as name:
    worst = compare(Path(name))
    first, last = train(Path(name))
print(
    f"TensorFlow {tf.__version__}: loss {first:.2f} -> {last:.2f} in 8 epochs"
)
if worst > LIMIT or not last < first:
    sys.exit("tensorflow-io must read what soundfile does.")
