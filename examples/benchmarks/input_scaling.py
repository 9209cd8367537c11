"""What the scale of raw inputs costs: accuracy by how they are given.

    python examples/benchmarks/input_scaling.py --data DATA --backends torch

Pictures (emoji: `DATA/emoji`, see `datasets.load_emoji`) come as bytes, as
floats in [0, 1], and as floats up to 255 with and without `encoders.Scaling`.
Sounds (FSDD: `DATA/fsdd`, the archive that GitHub serves for Jakobovski/free-
spoken-digit-dataset) come as waveforms behind `encoders.LogMelSpectrogram`,
and as spectrograms in decibels, as they are, scaled by hand, and behind
`encoders.Scaling`. One encoder (`encoders.ConvEncoder`, or convolutions over
time), one learning rate, one seed of the weights: only the scale differs. A
seed draws another fifth of the emoji, or of the clips, for test, so differences
are paired. An aim: all forms end within two points of the first. "New speakers"
are another two of the six for the test: there the level of a clip, which is the
speaker's, tells how much it may play a part, and forms that differ in that
(`LogMelSpectrogram` gives each clip mean 0 and deviation 1) are expected to
differ; no aim is set.
"""

import io
import os
import re
import statistics
import warnings
import zipfile
from pathlib import Path
from typing import Any

from _harness import markdown
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

ARCHIVE = "free-spoken-digit-dataset-master.zip"
RATE, BANDS, FRAME = 8000, 32, 0.025
SIDE, BATCH = 16, 64
# Of a picture, and over the time of a spectrogram.
FILTERS, UNITS = (16, 32), (64, 64)
AIM = 2.0
PICTURES = (
    "floats in [0, 1]",
    "bytes",
    "floats up to 255, Scaling",
    "floats up to 255",
)
SOUNDS = (
    "decibels, scaled by hand",
    "decibels, Scaling",
    "decibels",
    "waveform, LogMelSpectrogram",
)
NEW = "FSDD, new speakers"
DATA = {"emoji": PICTURES, "FSDD": SOUNDS, NEW: SOUNDS}
EPOCHS = {"emoji": 12, "FSDD": 30, NEW: 30}


def emoji(folder: Path, seed: int) -> tuple:
    """Small pictures as bytes, classes, and who is tested."""
    import numpy as np

    from keras_mmrel import datasets
    from keras_mmrel import media

    tables = datasets.load_emoji(
        folder / "emoji",
        {"image": media.Image("image", size=SIDE, pixels="uint8")},
        shuffle=False,
    )
    parts = [table.arrays() for table in tables]
    x = np.concatenate([part["image"] for part, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    rng = np.random.default_rng(seed)
    tested = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        tested[rows[: round(0.2 * len(rows))]] = True
    return x, y, tested


def spoken(folder: Path, seed: int, clips: int, new: bool) -> tuple:
    """Waveforms of a second, digits, and what is tested.

    Args:
        folder: Folder with `fsdd`.
        seed: Which clips, or which two speakers, are for the test.
        clips: Clips of each digit of each speaker.
        new: Whether they are speakers.
    """
    import numpy as np
    import soundfile

    found = []
    with zipfile.ZipFile(folder / "fsdd" / ARCHIVE) as archive:
        for name in sorted(archive.namelist()):
            parts = re.search(r"recordings/(\d)_([a-z]+)_(\d+)\.wav$", name)
            if parts and int(parts[3]) < clips:
                sound, _ = soundfile.read(io.BytesIO(archive.read(name)))
                sound = np.pad(sound[:RATE], (0, max(0, RATE - len(sound))))
                found.append((sound, int(parts[1]), parts[2]))
    sounds, digits, speakers = zip(*found, strict=True)
    names = sorted(set(speakers))
    tested = np.isin(speakers, np.roll(names, -2 * seed)[:2])
    if not new:
        rng = np.random.default_rng(seed)
        tested = rng.permutation(len(digits)) < max(len(digits) // 5, 1)
    return np.stack(sounds).astype("float32"), np.array(digits), tested


def decibels(sounds: Any) -> Any:
    """Log-mel power of waveforms from -100 to about 0 dB."""
    import numpy as np
    from keras import ops

    from keras_mmrel import encoders

    layer = encoders.LogMelSpectrogram(
        RATE, BANDS, FRAME, FRAME, standardize=False
    )
    parts = [
        ops.convert_to_numpy(layer(sounds[start : start + 256]))
        for start in range(0, len(sounds), 256)
    ]
    return np.concatenate(parts) * (10 / np.log(10)) - 100


def over_time(shape: tuple, seed: int) -> Any:
    """Convolutions over time; which band is high is not averaged away."""
    import keras

    initial = [
        keras.initializers.GlorotUniform(seed + i) for i in range(len(UNITS))
    ]
    return keras.Sequential(
        [
            keras.Input(shape),
            *(
                keras.layers.Conv1D(
                    units, 3, activation="relu", kernel_initializer=start
                )
                for units, start in zip(UNITS, initial, strict=True)
            ),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


def given(name: str, x: Any, tested: Any, seed: int) -> tuple:
    """Return the inputs in one form, and the encoder that takes them."""
    import keras

    from keras_mmrel import encoders

    if name.startswith("waveform"):
        front = encoders.LogMelSpectrogram(RATE, BANDS, FRAME, FRAME)
        return x, encoders.AudioEncoder(
            over_time((None, BANDS), seed), x.shape[1:], front
        )
    if name.startswith("decibels"):
        x = decibels(x)
    if name.endswith("by hand"):
        train = x[~tested]
        x = (x - train.mean(axis=(0, 1))) / train.std(axis=(0, 1))
    if name.startswith("floats"):
        x = x.astype("float32")
    if name == "floats in [0, 1]":
        x /= 255
    encoder: keras.layers.Layer = encoders.ConvEncoder(FILTERS, seed=seed)
    if x.ndim == 3:
        encoder = over_time(x.shape[1:], seed)
    if name.endswith("Scaling"):
        encoder = encoders.Scaling(x.shape[1:], encoder)
    return x, encoder


def accuracy(name: str, data: tuple, seed: int, epochs: int) -> tuple:
    """Train in one form; return percent right, and how many warnings."""
    import keras

    import keras_mmrel

    x, y, tested = data
    keras.utils.set_random_seed(seed)
    x, encoder = given(name, x, tested, seed)
    model = keras_mmrel.ConcatFusion({"raw": encoder}, int(y.max()) + 1, seed=0)
    steps = epochs * -(-int((~tested).sum()) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps, alpha=0.05)
    model.compile(keras.optimizers.AdamW(rate))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model.fit(
            {"raw": x[~tested]},
            y[~tested],
            batch_size=BATCH,
            epochs=epochs,
            verbose=0,
        )
    told = [w for w in caught if "up to" in str(w.message)]
    found = model.evaluate(
        {"raw": x[tested]}, y[tested], verbose=0, return_dict=True
    )
    return 100 * found["accuracy"], len(told)


def measure(folder: Path, seeds: int, epochs: int | None, clips: int) -> dict:
    """Data set -> row -> accuracies by seed, and whether it was warned."""
    import sys

    results: dict[str, dict] = {}
    for dataset, forms in DATA.items():
        rows: dict[str, list] = {name: [] for name in forms}
        count = epochs or EPOCHS[dataset]
        for seed in range(seeds):
            data = (
                emoji(folder, seed)
                if dataset == "emoji"
                else spoken(folder, seed, clips, new=dataset == NEW)
            )
            for name in forms:
                rows[name].append(accuracy(name, data, seed, count))
                print(dataset, seed, name, rows[name][-1], file=sys.stderr)
        results[dataset] = rows
    return results


def table(results: dict) -> str:
    """One row a form; its difference is the mean over seeds, with an error."""
    rows = []
    for backend, by_dataset in results.items():
        for dataset, forms in by_dataset.items():
            base = [a for a, _ in next(iter(forms.values()))]
            for index, (name, runs) in enumerate(forms.items()):
                found = [a for a, _ in runs]
                pairs = zip(found, base, strict=True)
                steps = [a - b for a, b in pairs]
                mean = statistics.mean(steps)
                error = statistics.pstdev(steps)
                if len(steps) > 1:
                    error = statistics.stdev(steps) / len(steps) ** 0.5
                verdict = "-"
                if index and dataset != NEW:
                    verdict = "met" if abs(mean) <= AIM else "MISSED"
                rows.append(
                    [
                        backend,
                        dataset,
                        name,
                        f"{statistics.mean(found):.1f}",
                        f"{mean:+.1f} ± {error:.1f}" if index else "-",
                        "yes" if any(told for _, told in runs) else "no",
                        verdict,
                    ]
                )
    header = ["backend", "data", "given as", "accuracy, %",
              "minus the first", "warned", "aim"]  # fmt: skip
    return markdown(header, rows)


def main() -> None:
    arguments = parser(__doc__, "input_scaling.md")
    arguments.add_argument(
        "--data", type=Path, default=os.environ.get("KERAS_MMREL_DATA", "data")
    )
    arguments.add_argument("--seeds", type=int, default=3, choices=(1, 2, 3))
    arguments.add_argument(
        "--epochs", type=int, help="the same for all, 12 and 30 by default"
    )
    arguments.add_argument(
        "--clips", type=int, default=25, help="of each digit of each speaker"
    )
    args = arguments.parse_args()
    if args.worker:
        report(measure(args.data, args.seeds, args.epochs, args.clips))
        return
    names = ("seeds", "clips", *["epochs"] * (args.epochs is not None))
    options = [f"--{name}={getattr(args, name)}" for name in names]
    results = {
        backend: run_worker(
            __file__, backend, "--worker=run", f"--data={args.data}", *options
        )
        for backend in args.backends
    }
    method = __doc__.split("\n\n", 2)[2].strip()
    method += (
        f" {args.seeds} seeds, epochs {args.epochs or EPOCHS}, AdamW from "
        f"3e-3 with cosine decay, batches of {BATCH}; errors are those of a "
        f"mean of seeds. Emoji of {SIDE} x {SIDE} pixels; {args.clips} clips "
        f"of each digit of a speaker, {BANDS} bands each {1e3 * FRAME:g} ms; "
        f"filters {FILTERS} and, over time, {UNITS}."
    )
    write(args.out, "The scale of raw inputs", method, table(results), args)


if __name__ == "__main__":
    main()
