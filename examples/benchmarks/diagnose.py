"""Whether a diagnosis recommends what the full comparison finds best.

    python examples/benchmarks/diagnose.py --data DATA --out results/diagnose

Each data set of `docs/results/field`, and the features of
`docs/results/emoji_pretrained`, are diagnosed by themselves. What is
recommended there, by folds of a fifth of the budget and less, is looked up in
these reports, which trained up to 32 methods on resplits: how far is it behind
the best one, in corrected errors of their paired difference? Finished
diagnoses are kept in the folder; a second start goes on.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from _harness import RESULTS
from _harness import markdown
from _harness import write

from keras_mmrel import diagnose
from keras_mmrel.benchmark import Dataset
from keras_mmrel.benchmark._block import MEANS
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._store import Store

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from emoji import load_features  # noqa: E402

FIELD = ROOT / "docs/results/field"
EMOJI = ROOT / "docs/results/emoji_pretrained"
# Name in the report -> name of the loader, and the report.
SOURCES = {
    "breast TCGA": ("breast_tcga", FIELD),
    "ROSMAP": ("rosmap", FIELD),
    "CUB": ("cub", FIELD),
    "digits": ("multiview_digits", FIELD),
    "Wiki": ("wiki", FIELD),
    "PIE": ("pie", FIELD),
    "Scene15": ("scene15", FIELD),
    "emoji": ("emoji", EMOJI),
}
# What the comparison calls the means of a question.
QUESTIONS = {"clean": "clean", "corrupted": MEANS[True]}
HEAD = [
    "data", "inputs", "recommended", "best of the comparison", "behind it",
    "error", "within one", "other rows within",
]  # fmt: skip


def load(name: str, data: Path | None) -> tuple[Any, Any]:
    """Return all samples of a data set, as its report has them."""
    if name != "emoji":
        dataset = Dataset(SOURCES[name][0], split="resampled")
        samples = dataset.load(name, data=data)
        return samples.x, samples.y
    if data is None:
        raise SystemExit("--data must name the folder of `emoji`")
    parts = load_features(data / "emoji")
    x = {
        modality: np.concatenate([x[modality] for x, _ in parts])
        for modality in ("image", "text")
    }
    return x, np.concatenate([y for _, y in parts])


def block_of(name: str) -> Block:
    """Return the comparison's statistics of clean training on a data set."""
    folder = SOURCES[name][1]
    store = Store(folder)
    comparison = store.comparison()
    if comparison is None:
        raise SystemExit(f"{folder} holds no comparison")
    runs = [
        run
        for run in store.runs()
        if (run.job.dataset, run.job.regime) == (name, "clean")
    ]
    return Block(store, comparison, runs, store.sampling_errors())


def judged(name: str, found: diagnose.Diagnosis) -> list[list[str]]:
    """Return rows of the table: how good the recommendations are."""
    block, rows = block_of(name), []
    for question, condition in QUESTIONS.items():
        method = found.record["recommendation"][question]["method"]
        means = {
            m: block.cell(m, "accuracy", condition).mean for m in block.methods
        }
        best = max(means, key=lambda m: means[m])
        if method not in means:
            rows.append([name, question, method, best, *["not in it"] * 4])
            continue

        def behind(other: str, best: str = best, at: str = condition) -> tuple:
            if other == best:
                return 0.0, 0.0
            difference = block.difference(best, other, "accuracy", at)
            return difference.mean, difference.error

        mean, error = behind(method)
        others = [behind(m) for m in means]
        within = sum(d <= e for d, e in others)
        rows.append(
            [
                name,
                question,
                method,
                best,
                f"{100 * mean:.1f}",
                f"{100 * error:.1f}",
                "yes" if mean <= error else "no",
                f"{within} of {len(means)}",
            ]
        )
        if not math.isfinite(mean):
            raise SystemExit(f"{name}: no runs of {method} in the comparison")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with data sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--datasets", nargs="+", choices=SOURCES, default=list(SOURCES)
    )
    parser.add_argument(
        "--table", type=Path, default=RESULTS / "benchmark_diagnose.md"
    )
    parser.add_argument("--remark", action="append", default=[])
    args = parser.parse_args()
    rows, costs = [], []
    for name in args.datasets:
        x, y = load(name, args.data)
        start = time.perf_counter()
        folder = args.out / SOURCES[name][0]
        found = diagnose.run((x, y), folder)
        wall = time.perf_counter() - start
        rows += judged(name, found)
        plan = found.record["plan"]
        kinds = sorted({f.kind for f in found.findings})
        costs.append(
            [
                name,
                f"{len(y):,}",
                plan["text"],
                f"{wall:,.0f}",
                f"{found.record['seconds']:,.0f}",
                ", ".join(kinds) or "none",
            ]
        )
        print(markdown(HEAD, rows))
    method = (
        "Recommended: by the folds of the diagnosis alone. Behind it: points "
        "of accuracy in the comparison (clean training, three resplits or "
        "five) with the corrected error of the paired difference; corrupted: "
        "the mean over corruptions inside the range of the data. Other rows "
        "within: how many rows of the comparison are within one error of its "
        "best."
    )
    titles = ["data", "samples", "plan", "wall, s", "training, s", "findings"]
    body = markdown(HEAD, rows) + "\n\n" + markdown(titles, costs)
    args.backends = [keras.config.backend()]
    title = "What a diagnosis recommends, and what is best"
    write(args.table, title, method, body, args)


if __name__ == "__main__":
    main()
