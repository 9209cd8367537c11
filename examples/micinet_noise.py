"""Compare MICINet, its ablations and the baselines under coexisting noise.

    python examples/micinet_noise.py                  # downloads ROSMAP once
    python examples/micinet_noise.py --data FOLDER    # or reads its CSV files

Noise inside modalities, samples whose modalities do not belong together, both
at once, and missing modalities, on ROSMAP (10 resplits) and on five-view
digits (5 resplits), after clean and after noise-augmented training. Each
finished run is kept in `--out`; a killed command goes on where it stopped.
`--report` only renders what is there.
"""

import argparse
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or next(
    (b for b in ("jax", "tensorflow", "torch") if find_spec(b)), "jax"
)

import _protocol as protocol
import _runs
import keras
import numpy as np
from rosmap import splitter
from sklearn.metrics import f1_score
from sklearn.metrics import roc_auc_score

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import UnalignedSamples
from keras_mmrel.datasets import load_multiview_digits
from keras_mmrel.datasets import load_rosmap
from keras_mmrel.layers import CorruptionAugmentation

HERE = Path(__file__).parent
NOISE_SEED = 1234
SIGMAS = (0.2, 0.5, 1.0, 5.0)
DATA = ("rosmap", "digits")
REGIMES = ("clean", "augmented")
SEEDS = {"rosmap": 10, "digits": 5}
LONGER = {"clean": 1, "augmented": 2}
BATCH = 128


# -- Rows --------------------------------------------------------------------


def micinet(**options) -> Callable:
    def make(shapes, classes, **kwargs):
        return keras_mmrel.MICINet(shapes, classes, **options, **kwargs)

    return make


BASELINES = (
    "concat fusion",
    "late fusion",
    "late fusion, probabilities",
    "late fusion, clipped",
    "QADM-Net",
)
ROWS = {
    **{name: protocol.ROWS[name] for name in BASELINES},
    "MICINet": micinet(),
    "- global prior": micinet(global_prior=False),
    "- removal": micinet(removal=False),
    "- compensation": micinet(compensation=False),
    "- weights of experts": micinet(weighting=False),
    "- injection": micinet(injection=0.0),
}


# -- One run -----------------------------------------------------------------


def run(row, train, test, seed, regime, steps):
    """Train one row on one split and return its scores as a flat dict."""
    (x, y), (x_test, y_test) = train, test
    classes = int(y.max()) + 1
    shapes = {name: values.shape[1:] for name, values in x.items()}
    transform = dict
    if row.endswith("clipped"):
        transform = protocol.standardise(x, 3.0)
    keras.utils.set_random_seed(seed)
    noisy = regime == "augmented"
    augmentation = CorruptionAugmentation(seed=seed) if noisy else None
    model = ROWS[row](shapes, classes, augmentation=augmentation)
    rounds = int(np.ceil(len(y) / BATCH))
    epochs = round(LONGER[regime] * steps / rounds)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [round(0.6 * epochs * rounds)], [3e-3, 6e-4]
    )
    model.compile(keras.optimizers.AdamW(rate, weight_decay=4e-3))
    start = time.perf_counter()
    model.fit(transform(x), y, batch_size=BATCH, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start

    def predict(inputs):
        return model.predict(transform(inputs), batch_size=1024, verbose=0)

    return {**score(predict, x_test, y_test), "seconds": round(seconds, 1)}


def score(predict, x, y):
    """Scores on clean and corrupted test data, the same for every row."""

    def corrupted(*corruptions):
        inputs = x
        for corruption in corruptions:
            inputs = corruption(inputs, seed=NOISE_SEED)
        return predict(inputs)

    def accuracy(outputs):
        return 100 * float((outputs["logits"].argmax(axis=1) == y).mean())

    def mean_accuracy(target, *others):
        return np.mean(
            [
                accuracy(corrupted(GaussianNoise(s, target), *others))
                for s in SIGMAS
            ]
        )

    clean = predict(x)
    p = clean["probabilities"].astype("float64")
    unaligned = UnalignedSamples(1.0, "independent", 0.3)
    one = GaussianNoise(1.0, "one")
    both = corrupted(one, unaligned)
    gone = {"severity": 1.0, "target": "one"}
    scores = {
        "ACC": accuracy(clean),
        "F1": 100 * f1_score(y, p.argmax(axis=1), average="macro"),
        "ECE": protocol.calibration_error(p, y),
        "NLL": log_loss(y, clean),
        "one": mean_accuracy("one"),
        "half": mean_accuracy("independent"),
        "unaligned": accuracy(corrupted(unaligned)),
        "one + unaligned": mean_accuracy("one", unaligned),
        "half + unaligned": mean_accuracy("independent", unaligned),
        "both, F1": 100
        * f1_score(y, both["logits"].argmax(axis=1), average="macro"),
        "both, ECE": protocol.calibration_error(
            both["probabilities"].astype("float64"), y
        ),
        "unaligned, NLL": log_loss(y, corrupted(unaligned)),
        "both, NLL": log_loss(y, both),
        "missing": accuracy(corrupted(MissingModality(**gone))),
        "missing, unannounced": accuracy(
            corrupted(MissingModality(**gone, announce=False))
        ),
    }
    if p.shape[1] == 2:
        scores["AUC"] = 100 * roc_auc_score(y, p[:, 1])
    for name, corruption in (("noise", one), ("unaligned", unaligned)):
        hit = corruption.corrupted(x, seed=NOISE_SEED)
        outputs = corrupted(corruption)
        scores[f"AUROC {name}"] = roc_auc_score(
            ~hit.ravel(), outputs["confidence"].ravel()
        )
        if "ici_share" not in outputs:
            continue
        right = {
            stage: 100 * (outputs[key].argmax(axis=2) == y[:, None])[hit].mean()
            for stage, key in (
                ("kept", "kept_logits"),
                ("compensated", "modality_logits"),
            )
        }
        scores.update({f"{name}, {stage}": v for stage, v in right.items()})
        scores[f"{name}, share"] = outputs["ici_share"][hit].mean()
    if "ici_share" in clean:
        scores["share"] = clean["ici_share"].mean()
    return {name: round(float(value), 4) for name, value in scores.items()}


def log_loss(y, outputs):
    p = outputs["probabilities"].astype("float64")
    return float(-np.log(p[np.arange(len(y)), y] + 1e-12).mean())


# -- The page ----------------------------------------------------------------


COLUMNS = (
    "ACC", "F1", "AUC", "ECE", "NLL", "one", "half", "unaligned",
    "one + unaligned", "half + unaligned", "both, F1", "both, ECE", "both, NLL",
    "missing",
    "missing, unannounced", "AUROC noise", "AUROC unaligned",
)  # fmt: skip
INNER = (
    "share", "noise, share", "unaligned, share", "noise, kept",
    "noise, compensated", "unaligned, kept", "unaligned, compensated",
)  # fmt: skip
PAIRED = (
    "ACC", "one", "half", "unaligned", "one + unaligned", "half + unaligned",
    "missing", "missing, unannounced", "NLL", "unaligned, NLL", "both, NLL",
)  # fmt: skip
LEGEND = """\
Every row: AdamW (learning rate 3e-3, 6e-4 after 60 % of the steps, weight
decay 4e-3), batch 128, 250 steps after clean and 500 after noise-augmented
training; features are scaled to [0, 1] by the training part. `augmented`
training hits each modality of each sample with probability 1/2 with Gaussian
noise of σ = 0.1, 0.2, 0.5, 1 or 2; MICINet's own injection is off there, and
on after clean training, when no other row sees corruption. Settings of MICINet
were chosen by cross-validation inside training parts (about 40 of them); the
resplits share samples with these, for every row alike. QADM-Net was tuned for
other step counts and learning rates, the other rows hardly at all.

Mean ± standard deviation over the resplits, a seed each, final epoch, test
part scored once. Accuracies in %: `one` is Gaussian noise on one random
modality of each sample and `half` on each with probability 1/2 (mean over σ =
0.2, 0.5, 1, 5); `unaligned`: every modality of every sample is, with
probability 0.3, that of another sample; `+` is both at once, and `both, …` the
same with σ = 1 on one modality. `missing`: one random modality gone, with and
without its mask. `AUROC`: finding the modalities hit by noise (σ = 1, on one)
or unaligned from the confidence. Paired differences have standard errors. The
second table of each part looks inside: the share of a modality that was
removed, intact and hit, and how often the modality that was hit is right by
itself, before (`kept`) and after the compensation."""


def report(path, command):
    records = [{**r, "split": r["split"]} for r in _runs.read(path)]
    parts = [
        "# MICINet under coexisting noise",
        f"Made by `{command}`.",
        LEGEND,
    ]
    for split in dict.fromkeys(r["split"] for r in records):
        parts += [
            f"## {split}",
            _runs.table(records, split, ROWS, COLUMNS),
            _runs.table(
                [r for r in records if "share" in r], split, ROWS, INNER
            ),
            _runs.differences(records, split, ROWS, PAIRED, "MICINet"),
        ]
    page = path.with_suffix(".md")
    page.write_text("\n\n".join(parts) + "\n")
    print(f"wrote {page}")
    draw(records, path.with_suffix(".png"))


def draw(records, path):
    """Accuracy of every row, one panel a corruption, one line a split."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("The figure needs matplotlib: `pip install keras-mmrel[report]`")
        return
    splits = list(dict.fromkeys(r["split"] for r in records))
    rows = [name for name in ROWS if any(r["row"] == name for r in records)]
    columns = ("ACC", "one", "unaligned", "half + unaligned", "missing")
    figure = Figure(
        figsize=(2 + 2.4 * len(columns), 1 + 2.2 * len(splits)),
        layout="constrained",
    )
    axes = figure.subplots(
        len(splits), len(columns), sharey=True, squeeze=False, sharex="row"
    )
    for line, split in zip(axes, splits, strict=True):
        line[0].set_ylabel(split, fontsize=9)
        line[0].tick_params(axis="y", labelsize=8)
        for axis, column in zip(line, columns, strict=True):
            for height, row in enumerate(rows):
                values = [
                    r[column]
                    for r in records
                    if r["split"] == split and r["row"] == row
                ]
                shade = "C1" if row == "MICINet" else "C0"
                if not row.startswith("-") and row != "MICINet":
                    shade = "C7"
                axis.plot(values, [height] * len(values), ".", ms=4, c=shade)
                if values:
                    axis.plot([np.mean(values)], [height], "k|", ms=11, mew=2)
            axis.set_title(column, fontsize=9)
            axis.grid(axis="x", alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with ROSMAP's CSV files")
    parser.add_argument("--sets", nargs="*", default=DATA, choices=DATA)
    parser.add_argument(
        "--regimes", nargs="*", default=REGIMES, choices=REGIMES
    )
    parser.add_argument("--seeds", type=int, help="instead of 10 and 5")
    parser.add_argument(
        "--steps", type=int, default=250, help="twice as many with augmentation"
    )
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="results folder"
    )
    args = parser.parse_args()
    path = args.out / "micinet_noise.jsonl"
    for data in () if args.report else args.sets:
        if data == "rosmap":
            split = splitter(*load_rosmap(path=args.data))
        else:
            split = splitter(*load_multiview_digits("all"))
        for regime in args.regimes:
            _runs.run_all(
                path,
                {f"{data}, {regime} training": split},
                range(args.seeds or SEEDS[data]),
                [
                    r
                    for r in args.rows
                    if not (r == "- injection" and regime == "augmented")
                ],
                lambda *a, regime=regime, **k: run(*a, regime=regime, **k),
                ("ACC", "one", "half + unaligned"),
                steps=args.steps,
            )
    report(path, "python examples/micinet_noise.py")


if __name__ == "__main__":
    main()
