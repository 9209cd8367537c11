"""Memory, speed and waiting of a training that streams files from disk.

    python examples/benchmarks/media_stream.py
    python examples/benchmarks/media_stream.py --clips 2000 --workers 0 2

Makes WAV files of one second and PNG pictures in a folder that is removed, and
fits a small model to them by `media.MediaTable`, once for each number of
workers, each in a process of its own. "Waiting" is the share of the time
between two steps in which the model has no batch; TensorFlow draws batches
inside its steps, so there it is not seen. "In memory" is the same training on
one batch that is there already: no data can be faster. A number of workers
with a `p` is one of processes, the others are threads; of processes, memory
that they share is counted in each, so the limit is not for them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

RATE = 16_000
SIDE = 64
CLASSES = 10
LIMIT = 1.5e9  # bytes
FRAME, HOP, BANDS = 512, 256, 64


def write_clip(folder, index):
    """Write a tone and a stripe of the clip's class, with noise on both."""
    import soundfile
    from PIL import Image

    rng = np.random.default_rng(index)
    label = index % CLASSES
    t = np.arange(RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 200 * (label + 1) * t)
    sound += rng.normal(0, 0.1, RATE)
    soundfile.write(folder / f"{index}.wav", sound, RATE)
    pixels = rng.integers(0, 120, (SIDE, SIDE, 3), "uint8")
    pixels[6 * label : 6 * label + 6] += 120
    Image.fromarray(pixels).save(folder / f"{index}.png")


def write_part(folder, start, stop):
    for index in range(start, stop):
        write_clip(Path(folder), index)


def log_spectrum(sound):
    """Frames of 32 ms as 64 bands: `(61, 64)`."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME))[:, 1:]) ** 2
    bands = power.reshape(len(frames), BANDS, -1).mean(axis=2)
    return np.log(bands + 1e-4).astype("float32") / 10


def measure(folder, clips, workers, batch_size):
    """Fit for an epoch and return what it took."""
    import keras
    import pandas as pd

    import keras_mmrel
    from keras_mmrel import media

    class Waiting(keras.callbacks.Callback):
        """Adds up the time in which there is no batch."""

        def __init__(self):
            super().__init__()
            self.waited, self.steps = 0.0, 0

        def on_train_batch_begin(self, batch, logs=None):
            now = time.perf_counter()
            if self.steps == 0:
                # The first step compiles.
                self.start = None
            elif self.steps == 1:
                self.start = now
            else:
                self.waited += now - self.ended
            self.steps += 1

        def on_train_batch_end(self, batch, logs=None):
            self.ended = time.perf_counter()

    table = pd.DataFrame(
        {
            "wav": [f"{index}.wav" for index in range(clips)],
            "png": [f"{index}.png" for index in range(clips)],
            "label": np.arange(clips) % CLASSES,
        }
    )
    data = media.MediaTable(
        table,
        {
            "sound": media.Audio(
                "wav", sample_rate=RATE, seconds=1.0, transform=log_spectrum
            ),
            "image": media.Image("png", size=SIDE),
        },
        label="label",
        root=folder,
        batch_size=batch_size,
        shuffle=True,
        seed=0,
        workers=int(workers.rstrip("p") if workers != "memory" else 0),
        use_multiprocessing=workers.endswith("p"),
    )

    class InMemory(keras.utils.PyDataset):
        """One batch again and again."""

        batch, count = data[0], max(len(data) // 4, 2)

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            return self.batch

    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Reshape((*shape, 1)[:3]),
                keras.layers.Conv2D(8, 5, strides=4, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(32, activation="relu"),
            ]
        )
        for name, shape in data.shapes.items()
    }
    model = keras_mmrel.ConcatFusion(encoders, CLASSES, seed=0)
    model.compile()
    if workers == "memory":
        data = InMemory()
    waiting = Waiting()
    history = model.fit(data, callbacks=[waiting], verbose=0).history
    seconds = waiting.ended - waiting.start
    # Kibibytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if workers.endswith("p"):
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        peak += data.workers * children * unit
    return {
        "rate": (waiting.steps - 1) * batch_size / seconds,
        "waiting": waiting.waited / seconds,
        "peak": peak,
        "accuracy": history["accuracy"][-1],
    }


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument(
        "--workers", nargs="+", default=["0", "1", "2"], metavar="N"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    given = arguments()
    if given.folder:
        (workers,) = given.workers
        print(
            json.dumps(
                measure(given.folder, given.clips, workers, given.batch_size)
            )
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        part = 1 + (given.clips - 1) // 8
        starts = list(range(0, given.clips, part))
        stops = [min(s + part, given.clips) for s in starts]
        with ProcessPoolExecutor() as pool:
            list(pool.map(write_part, [folder] * len(starts), starts, stops))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        print(
            f"{given.clips} WAV and {given.clips} PNG files, "
            f"{size / 1e6:.0f} MB, written in "
            f"{time.perf_counter() - start:.0f} s; "
            f"{os.cpu_count()} cores, batches of {given.batch_size}, "
            f"{os.environ.get('KERAS_BACKEND', 'the default backend')}"
        )
        print(
            "| workers | samples a second | waiting | peak memory | accuracy |"
        )
        print("|---|---|---|---|---|", flush=True)
        largest = 0
        for workers in ["memory", *given.workers]:
            command = [
                *(sys.executable, __file__, "--folder", folder),
                *("--clips", str(given.clips), "--workers", workers),
                *("--batch-size", str(given.batch_size)),
            ]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            if not workers.endswith("p"):
                largest = max(largest, found["peak"])
            name = "in memory" if workers == "memory" else workers
            print(
                f"| {name} | {found['rate']:.0f} | {found['waiting']:.0%} | "
                f"{found['peak'] / 1e6:.0f} MB | {found['accuracy']:.2f} |",
                flush=True,
            )
    if largest > LIMIT:
        sys.exit(f"Memory must stay below {LIMIT / 1e9} GB.")


if __name__ == "__main__":
    main()
