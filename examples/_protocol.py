"""One protocol for every row of a table: train, corrupt, score, tabulate.

Shared by `rosmap.py` and `digits.py`; not a script of its own. All rows of a
table see the same splits, seeds, optimizer, number of steps and corrupted
test sets. The model of the last epoch is scored, once.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import f1_score
from sklearn.metrics import roc_auc_score

import keras_mmrel
from keras_mmrel.corruptions import GaussianNoise
from keras_mmrel.corruptions import MissingModality
from keras_mmrel.corruptions import UnalignedSamples
from keras_mmrel.layers import CorruptionAugmentation

WEIGHT_DECAY = 4e-3
SIGMAS = (0.2, 0.5, 1.0, 5.0)


# -- Rows --------------------------------------------------------------------


def late_fusion(average) -> Callable:
    def make(shapes, classes, **kwargs):
        return keras_mmrel.LateFusion(
            shapes, classes, average=average, **kwargs
        )

    return make


def concat_fusion(shapes, classes, **kwargs):
    return keras_mmrel.ConcatFusion(shapes, classes, **kwargs)


def qadm_net(**options) -> Callable:
    def make(shapes, classes, **kwargs):
        return keras_mmrel.QADMNet(shapes, classes, **options, **kwargs)

    return make


def random_depth(shapes, classes, **kwargs):
    """QADM-Net whose depths are dealt out at random: a negative control."""
    model = keras_mmrel.QADMNet(shapes, classes, **kwargs)
    allocator = model.fusion.allocator
    allocate = allocator.call

    def call(inputs, modality_mask=None):
        depth = allocate(inputs, modality_mask)
        flat = keras.ops.reshape(depth, (-1,))
        shuffled = keras.random.shuffle(flat, seed=7)
        return keras.ops.reshape(shuffled, keras.ops.shape(depth))

    allocator.call = call
    return model


ROWS = {
    "late fusion": late_fusion("logits"),
    "late fusion, probabilities": late_fusion("probabilities"),
    "late fusion, clipped": late_fusion("logits"),
    "late fusion, probabilities, clipped": late_fusion("probabilities"),
    "concat fusion": concat_fusion,
    "QADM-Net": qadm_net(),
    "QADM-Net, standardised": qadm_net(),
    "- full depth": qadm_net(dynamic_depth=False),
    "- random depth": random_depth,
    "- one block": qadm_net(max_depth=1),
    "- no feature quality": qadm_net(feature_quality=False),
    "- no typicality": qadm_net(typicality=False),
    "- no prototype exit": qadm_net(prototype_share=0.0),
    "+ predicted parameters": qadm_net(predicted_parameters=True),
}


# -- One run -----------------------------------------------------------------


def run(row, train, test, seed, epochs, batch_size, learning_rate, augmented):
    """Train one row on one split and return its scores as a flat dict."""
    (x, y), (x_test, y_test) = train, test
    classes = int(y.max()) + 1
    shapes = {name: values.shape[1:] for name, values in x.items()}
    transform = dict
    if row.endswith(("clipped", "standardised")):
        transform = standardise(x, 3.0 if row.endswith("clipped") else np.inf)
    keras.utils.set_random_seed(seed)
    augmentation = CorruptionAugmentation(seed=seed) if augmented else None
    model = ROWS[row](shapes, classes, augmentation=augmentation)
    steps = epochs * int(np.ceil(len(y) / batch_size))
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate, steps, alpha=0.05
    )
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY))
    start = time.perf_counter()
    model.fit(transform(x), y, batch_size=batch_size, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - start

    def predict(inputs):
        return model.predict(transform(inputs), batch_size=1024, verbose=0)

    return {**score(predict, x_test, y_test), "seconds": seconds}


def standardise(x, limit):
    """Return a function that standardises as `x`, and clips to `limit`.

    With clipping this is a trivial defence that every honest table needs.
    """
    mean = {name: v.mean(axis=0) for name, v in x.items()}
    deviation = {name: v.std(axis=0) + 1e-6 for name, v in x.items()}

    def transform(inputs):
        return {
            name: value
            if name not in mean
            else np.clip((value - mean[name]) / deviation[name], -limit, limit)
            for name, value in inputs.items()
        }

    return transform


def score(predict, x, y, noise_seed=1234):
    """Scores on clean and corrupted test data, the same for every row."""

    def accuracy(outputs):
        return 100 * float((outputs["logits"].argmax(axis=1) == y).mean())

    def mean_accuracy(corruptions):
        return float(
            np.mean(
                [accuracy(predict(c(x, seed=noise_seed))) for c in corruptions]
            )
        )

    clean = predict(x)
    p = clean["probabilities"].astype("float64")
    scores = {
        "ACC": accuracy(clean),
        "F1": 100 * f1_score(y, p.argmax(axis=1), average="macro"),
        "ECE": calibration_error(p, y),
        "one": mean_accuracy([GaussianNoise(s, "one") for s in SIGMAS]),
        "half": mean_accuracy(
            [GaussianNoise(s, "independent") for s in SIGMAS]
        ),
        "features": mean_accuracy(
            [GaussianNoise(s, "all", feature_fraction=0.3) for s in SIGMAS[1:]]
        ),
        "unaligned": mean_accuracy(
            [UnalignedSamples(share, "one") for share in (0.1, 0.3, 0.5)]
        ),
        "missing": accuracy(
            predict(MissingModality(1.0, "one")(x, seed=noise_seed))
        ),
        "missing, unannounced": accuracy(
            predict(
                MissingModality(1.0, "one", announce=False)(x, seed=noise_seed)
            )
        ),
    }
    if p.shape[1] == 2:
        scores["AUC"] = 100 * roc_auc_score(y, p[:, 1])
    for sigma in (0.2, 0.5):
        corruption = GaussianNoise(sigma, "one")
        hit = corruption.hits(x, seed=noise_seed).ravel()
        outputs = predict(corruption(x, seed=noise_seed))
        scores[f"AUROC {sigma}"] = roc_auc_score(
            ~hit, outputs["confidence"].ravel()
        )
        if "depth" in outputs:
            scores[f"depth, hit {sigma}"] = float(
                outputs["depth"].ravel()[hit].mean()
            )
    if "depth" in clean:
        scores["depth"] = float(clean["depth"].mean())
    noisy = predict(GaussianNoise(1.0, "independent")(x, seed=noise_seed))
    log_p = np.log(noisy["probabilities"].astype("float64") + 1e-12)
    scores["noisy NLL"] = float(-log_p[np.arange(len(y)), y].mean())
    return {name: round(float(value), 4) for name, value in scores.items()}


def calibration_error(p, y, bins=10):
    """Expected calibration error of the top label, equal-width bins."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return sum(
        (index == b).mean()
        * abs(confidence[index == b].mean() - right[index == b].mean())
        for b in np.unique(index)
    )


# -- Many runs ---------------------------------------------------------------


def run_all(path: Path, splits, seeds, rows, **settings):
    """Run what `path` (JSON lines) does not hold yet; each run is kept.

    Args:
        path: Results so far; a line a finished run, so that a killed command
            goes on where it stopped.
        splits: Dict of split name -> function of the seed that returns
            `(train, test)`.
        seeds: Iterable of integers.
        rows: Names of `ROWS`.
        **settings: Arguments of `run`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    records = read(path)
    for record in records:
        if record["settings"] != settings:
            raise SystemExit(
                f"{path} holds runs with other settings; choose another "
                f"--out. Expected: {settings}. "
                f"Received: {record['settings']}"
            )
    with path.open("a") as file:
        # A line cut off by a kill must not spoil the next one.
        if path.read_text()[-1:] not in ("", "\n"):
            file.write("\n")
    jobs = [(s, seed, row) for s in splits for seed in seeds for row in rows]
    done = {job_of(record) for record in records}
    todo = [job for job in jobs if job not in done]
    print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are in {path}")
    start = time.perf_counter()
    for number, (split, seed, row) in enumerate(todo, 1):
        scores = run(row, *splits[split](seed), seed, **settings)
        job = {"split": split, "seed": seed, "row": row}
        with path.open("a") as file:
            file.write(
                json.dumps({**job, **scores, "settings": settings}) + "\n"
            )
        keras.utils.clear_session()
        left = (time.perf_counter() - start) / number * (len(todo) - number)
        print(
            f"[{number}/{len(todo)}] {split}, seed {seed}, {row}: "
            f"ACC {scores['ACC']:.1f}, one noisy {scores['one']:.1f}   "
            f"({left / 60:.0f} min left)",
            flush=True,
        )


def job_of(record):
    return record["split"], record["seed"], record["row"]


def read(path: Path):
    """Finished runs; a line cut off by a kill is left out."""
    records = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{path}: an incomplete line is left out")
    return records


COLUMNS = (
    "ACC", "F1", "AUC", "ECE", "one", "half", "features", "unaligned",
    "missing", "missing, unannounced", "noisy NLL", "AUROC 0.2", "AUROC 0.5",
    "depth", "depth, hit 0.2", "depth, hit 0.5",
)  # fmt: skip
LEGEND = """\
Mean ± standard deviation over the runs, final epoch, test part scored once.
Accuracies in %: `one` is Gaussian noise on one random modality of each sample
and `half` on each modality with probability 1/2 (mean over σ = 0.2, 0.5, 1,
5), `features` on 30 % of all features (σ = 0.5, 1, 5), `unaligned` one
modality of another sample in 10, 30 and 50 % of the samples, `missing` one
random modality gone, with and without its mask. `noisy NLL` is under `half` at
σ = 1. `AUROC σ`: finding the modality hit by noise σ from the confidence.
`depth`: mean number of blocks run, on clean data and on the modality hit.
σ is in units of features scaled to [0, 1] by the training part, which every
row sees; `standardised` and `clipped` (to ±3) rows rescale them further."""


def table(records, split):
    """Markdown table of one split."""
    records = [r for r in records if r["split"] == split]
    columns = [c for c in COLUMNS if any(c in r for r in records)]
    lines = [
        "| " + " | ".join(["", "n", *columns]) + " |",
        "|" + "---|" * (len(columns) + 2),
    ]
    for row in ROWS:
        runs = [r for r in records if r["row"] == row]
        if not runs:
            continue
        cells = []
        for column in columns:
            values = np.array([r[column] for r in runs if column in r])
            digits = 1 if values.size and abs(values.mean()) > 6 else 3
            cells.append(
                f"{values.mean():.{digits}f} ± "
                f"{values.std(ddof=1) if values.size > 1 else 0:.{digits}f}"
                if values.size
                else "–"
            )
        lines.append("| " + " | ".join([row, str(len(runs)), *cells]) + " |")
    return "\n".join(lines)


def differences(records, split, reference="QADM-Net"):
    """Paired differences of every row to `reference`, with standard errors."""
    records = {job_of(r): r for r in records if r["split"] == split}
    seeds = sorted({seed for _, seed, _ in records})
    columns = ("ACC", "one", "half", "features", "unaligned", "missing")
    lines = [
        f"| paired difference to {reference} | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for row in ROWS:
        pairs = [
            (records[split, s, row], records[split, s, reference])
            for s in seeds
            if (split, s, row) in records and (split, s, reference) in records
        ]
        if row == reference or len(pairs) < 2:
            continue
        cells = []
        for column in columns:
            values = np.array([a[column] - b[column] for a, b in pairs])
            error = values.std(ddof=1) / np.sqrt(len(values))
            cells.append(f"{values.mean():+.1f} ± {error:.1f}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(path: Path, title: str, command: str, protocol: str):
    """Write the Markdown page that stands beside the results."""
    records = read(path)
    parts = [f"# {title}", f"Made by `{command}`.", protocol, LEGEND]
    for split in dict.fromkeys(r["split"] for r in records):
        parts += [
            f"## {split}",
            table(records, split),
            differences(records, split),
        ]
    page = path.with_suffix(".md")
    page.write_text("\n\n".join(parts) + "\n")
    print(f"wrote {page}")
