"""One protocol for every row of a table: train, corrupt, score, tabulate.

Shared by `rosmap.py` and `digits.py`; not a script of its own. All rows of a
table see the same splits, seeds, optimizer, number of steps and corrupted
test sets. The model of the last epoch is scored, once.
"""

import time
from collections.abc import Callable
from pathlib import Path

import _runs
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
        hit = corruption.corrupted(x, seed=noise_seed).ravel()
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


# -- The page ----------------------------------------------------------------


COLUMNS = (
    "ACC", "F1", "AUC", "ECE", "one", "half", "features", "unaligned",
    "missing", "missing, unannounced", "noisy NLL", "AUROC 0.2", "AUROC 0.5",
    "depth", "depth, hit 0.2", "depth, hit 0.5",
)  # fmt: skip
PAIRED_COLUMNS = ("ACC", "one", "half", "features", "unaligned", "missing")
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


def report(path: Path, title: str, command: str, protocol: str):
    """Write the Markdown page that stands beside the results."""
    records = _runs.read(path)
    parts = [f"# {title}", f"Made by `{command}`.", protocol, LEGEND]
    for split in dict.fromkeys(r["split"] for r in records):
        parts += [
            f"## {split}",
            _runs.table(records, split, ROWS, COLUMNS),
            _runs.differences(
                records, split, ROWS, PAIRED_COLUMNS, reference="QADM-Net"
            ),
        ]
    page = path.with_suffix(".md")
    page.write_text("\n\n".join(parts) + "\n")
    print(f"wrote {page}")
