"""Compare ways to train modalities in balance, on AV-digits and a noise view.

    python examples/av_digits.py --data FOLDER

`--data` is the FSDD archive or a folder that holds it; without it the archive
is downloaded. Two experiments, each with three data sets and five seeds:
spoken and written digits, three speaker folds; and three views of written
digits, one of which is replaced by pure noise. Each finished run is kept in
`--out`; a killed command goes on where it stopped. `--report` only renders
what is there.
"""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or next(
    (b for b in ("torch", "jax", "tensorflow") if find_spec(b)), "jax"
)

import _balance as balance
import _runs
import numpy as np

from keras_mmrel.datasets import load_av_digits
from keras_mmrel.datasets import load_multiview_digits

HERE = Path(__file__).parent
AV, NOISE = "av_digits", "noise_view"
ROWS = {AV: balance.AV_ROWS, NOISE: balance.NOISE_ROWS}
TITLES = {
    AV: "AV-digits: spoken and written digits",
    NOISE: "Three views of digits, one of them pure noise",
}
COLUMNS = {
    AV: (
        "ACC", "probe audio", "probe image", "head audio", "head image",
        "noise", "noise audio", "noise image", "audio_coefficient",
        "image_coefficient",
    ),
    NOISE: ("ACC", "noise", "contribution", "bottleneck"),
}  # fmt: skip
PAIRED = {
    AV: ("ACC", "probe audio", "probe image", "noise"),
    NOISE: ("ACC", "noise"),
}
EPOCHS = {AV: 20, NOISE: 30}
PROTOCOL = {
    AV: """\
Three speaker folds, five seeds: speakers of the test are heard neither in
training nor in validation. Every row: the same encoders (three convolutions
with batch normalisation), 300 steps of SGD (learning rate 0.1, 0.01 from epoch
14 of 20, momentum 0.9, weight decay), batch 100. `joint` is one linear head on
both features; unimodal losses have weight 3 unless the row says another.
`probe` is a logistic regression on one encoder's features, `head` the shared
head with one modality, `noise` Gaussian noise of σ = 1 on all inputs or on one.
Settings were chosen on validation speakers (CAL, AIM, in a prototype with
other seeds; the validation speaker of one fold is a test speaker of another,
for every row alike); test figures of fold 0 were on screen while the prototype
was explored.""",
    NOISE: """\
Three views (pixels, profile, Fourier) of 1,257 training digits, standardised,
with normal noise of σ = 0.8, 0.4 and 0.8 so that each is hard; then one view is
replaced by normal noise, in training and test: three data sets, five seeds.
Every row: the same encoders (three dense blocks of 32 with batch
normalisation), 360 steps of SGD (learning rate 0.1, 0.01 from epoch 21 of 30,
momentum 0.9, weight decay), batch 100. `noise` is Gaussian noise of σ = 1 on
all inputs; `contribution` and `bottleneck` are those of the noise view at the
end. Settings were chosen on an inner validation part of the training samples,
in a prototype with other seeds. The uniform and the inverted bottleneck have
the total strength of one view at full strength; `slow` rows have no unimodal
losses and a fifth of the learning rate.""",
}


def av_splits(data, folds):
    def loader(fold):
        parts = []

        def make(seed):
            if not parts:
                train, _, test = load_av_digits(data, fold=fold)
                parts.extend([train, test])
            return tuple(parts)

        return make

    return {f"fold {fold}": loader(fold) for fold in folds}


def noise_splits():
    views = {"pixels": 0.8, "profile": 0.4, "fourier": 0.8}
    parts = load_multiview_digits(tuple(views))

    def loader(replaced):
        return lambda seed: balance.noise_view(views, replaced, *parts)

    return {f"noise for {name}": loader(name) for name in views}


# -- Report ------------------------------------------------------------------


def pooled(records):
    """All data sets as one, paired by data set and seed."""
    return [
        {**r, "split": "all", "seed": f"{r['split']}/{r['seed']}"}
        for r in records
    ]


def of_noise_view(record):
    """Add what became of the view that is noise."""
    name = record["split"].removeprefix("noise for ")
    found = {
        kind: record[f"{name}_{kind}"]
        for kind in ("contribution", "bottleneck")
        if f"{name}_{kind}" in record
    }
    return {**record, **found}


def report(path, experiment, command):
    records = _runs.read(path)
    if experiment == NOISE:
        records = [of_noise_view(r) for r in records]
    rows, columns = ROWS[experiment], COLUMNS[experiment]
    references = ["joint", "joint + unimodal losses", "CAL"]
    references.append("AIM" if experiment == AV else "slow, acceleration")
    everything = pooled(records)
    parts = [
        f"# {TITLES[experiment]}",
        f"Made by `{command}`.",
        PROTOCOL[experiment],
        "Mean ± standard deviation over the runs, final epoch, test part "
        "scored once; accuracies in %. Paired differences have standard "
        "errors; `n` counts the runs, and rows with fewer have the first seeds "
        "of every data set. For the time of a step see "
        "`benchmark_balance_step.md`.",
        "## All data sets",
        _runs.table(everything, "all", rows, columns),
        *(
            _runs.differences(everything, "all", rows, PAIRED[experiment], r)
            for r in references
        ),
    ]
    for split in dict.fromkeys(r["split"] for r in records):
        parts += [
            f"## {split[0].upper()}{split[1:]}",
            _runs.table(records, split, rows, columns),
            *(
                _runs.differences(
                    records, split, rows, PAIRED[experiment], reference
                )
                for reference in references
            ),
        ]
    page = path.with_suffix(".md")
    page.write_text("\n\n".join(parts) + "\n")
    print(f"wrote {page}")
    draw(records, experiment, path.with_suffix(".png"))


def draw(records, experiment, path):
    """One dot a run, one line a row, one panel a quantity."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("The figure needs matplotlib: `pip install keras-mmrel[report]`")
        return
    rows = [n for n in ROWS[experiment] if any(r["row"] == n for r in records)]
    columns = PAIRED[experiment]
    splits = list(dict.fromkeys(r["split"] for r in records))
    figure = Figure(
        figsize=(2 + 2.6 * len(columns), 1.2 + 0.24 * len(rows)),
        layout="constrained",
    )
    axes = figure.subplots(1, len(columns), sharey=True)
    for axis, column in zip(axes, columns, strict=True):
        for shade, split in enumerate(splits):
            points = [
                (r[column], rows.index(r["row"]) + 0.22 * (shade - 1))
                for r in records
                if r["split"] == split and column in r
            ]
            axis.plot(*zip(*points, strict=True), ".", ms=4, label=split)
        for height, row in enumerate(rows):
            values = [
                r[column] for r in records if r["row"] == row and column in r
            ]
            if values:
                axis.plot([np.mean(values)], [height], "k|", ms=13, mew=2)
        axis.set_title(column, fontsize=10)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(splits),
        frameon=False,
    )
    figure.savefig(path, dpi=130)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="FSDD archive, or a folder with it")
    parser.add_argument(
        "--experiments", nargs="*", default=[AV, NOISE], choices=[AV, NOISE]
    )
    parser.add_argument("--folds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of 20 and 30")
    parser.add_argument("--rows", nargs="*", help="names of rows; all")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="results folder"
    )
    args = parser.parse_args()
    for experiment in args.experiments:
        path = args.out / f"{experiment}.jsonl"
        if not args.report:
            _runs.run_all(
                path,
                av_splits(args.data, args.folds)
                if experiment == AV
                else noise_splits(),
                range(args.seeds),
                args.rows or list(ROWS[experiment]),
                lambda *a, rows=ROWS[experiment], **k: balance.run(
                    *a, rows=rows, **k
                ),
                ("ACC", "noise"),
                epochs=args.epochs or EPOCHS[experiment],
                batch_size=100,
            )
        report(path, experiment, "python examples/av_digits.py --data FOLDER")


if __name__ == "__main__":
    main()
