"""tensorflow-io reads what soundfile and PyAV do, and a model trains on it.

`scripts/check_tensorflow_io.sh` makes the environment that this needs.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import keras
import numpy as np
import pandas as pd
import soundfile
import tensorflow as tf

import keras_mmrel
from keras_mmrel import media

# Of full scale.
LIMIT = 1e-6
# Passes of some threads over the files.
PASSES = 30
# Of 255, on average over a picture: versions of FFmpeg round differently.
PICTURE_LIMIT = 1.0
EPOCHS = 40


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


def count_mixed_up(folder):
    """Return how often threads that read at once got another file's sound.

    tensorflow-io's own reader mixes them up.
    """
    files = []
    for number in range(8):
        path = folder / f"{number}.flac"
        soundfile.write(path, sound(8000, 1) * (number + 1) / 8, 8000)
        files.append(path)
    alone = [read(path, "tensorflow_io", 8000) for path in files]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(
            lambda path: read(path, "tensorflow_io", 8000), files * PASSES
        )
        return sum(
            not np.array_equal(value, alone[index % len(files)])
            for index, value in enumerate(together)
        )


def write_video(path, codec, pictures=20, rate=10):
    """Each picture is brighter than the one before."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, width=64, height=48)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(pictures):
            picture = np.full((48, 64, 3), 12 * number, "uint8")
            picture[:, :32, 0] = 255 - 12 * number
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def compare_videos(folder):
    """Print how far the pictures of the two readers differ on average."""
    worst = 0.0
    options = {"size": (48, 64), "pixels": "uint8"}
    for name, codec in (("a.mp4", "mpeg4"), ("b.avi", "mjpeg")):
        write_video(folder / name, codec)
        for segment in (
            {"frames": 20},
            {"frames": 4, "start": 0.5, "seconds": 1.0},
            {"frames": 3, "sampling": "random", "end": 1.7},
        ):
            media_of = {
                decoder: media.Video(
                    "path", decoder=decoder, **segment, **options
                )
                for decoder in ("tensorflow_io", "pyav")
            }
            values = [
                m.decode(folder / name, {}, np.random.default_rng(0))
                for m in media_of.values()
            ]
            gap = np.abs(np.subtract(*values, dtype="float32"))
            worst = max(worst, gap.mean(axis=(1, 2, 3)).max())
        print(f"{name} {codec:>6}: {worst:.2f} of 255")
    try:
        (folder / "c.mp4").write_bytes(b"no video")
        media.Video(
            "path", frames=1, decoder="tensorflow_io", **options
        ).decode(folder / "c.mp4", {}, np.random.default_rng(0))
    except ValueError as error:
        print(f"no video: {error}")
    else:
        sys.exit("tensorflow-io must refuse what is no video.")
    return worst


def train(folder):
    """Fit a small model on files that tensorflow-io reads."""
    keras.utils.set_random_seed(0)
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
        # Sixteen rows learn at another pace in every order.
        seed=0,
    )
    model = keras_mmrel.ConcatFusion(data.shapes, data.num_classes, seed=0)
    model.compile()
    before = model.evaluate(data, verbose=0, return_dict=True)["loss"]
    model.fit(data, epochs=EPOCHS, verbose=0)
    return before, model.evaluate(data, verbose=0, return_dict=True)["loss"]


with tempfile.TemporaryDirectory() as name:
    worst = compare(Path(name))
    mixed_up = count_mixed_up(Path(name))
    try:
        worst_picture = compare_videos(Path(name))
        video = f"video {worst_picture:.2f} of 255 apart"
    except ImportError as error:
        worst_picture = 0.0
        video = f"video was not checked ({error})"
    first, last = train(Path(name))
print(
    f"TensorFlow {tf.__version__}: loss {first:.2f} -> {last:.2f} in "
    f"{EPOCHS} epochs, sound {worst:.0e} of full scale apart, {video}"
)
if worst_picture > PICTURE_LIMIT:
    sys.exit("tensorflow-io must read the pictures that PyAV does.")
if worst > LIMIT:
    sys.exit("tensorflow-io must read what soundfile does.")
if mixed_up:
    sys.exit(f"Threads must not share a file: {mixed_up} reads were another's.")
if not last < first / 2:
    sys.exit("A model must learn from the files that tensorflow-io reads.")
