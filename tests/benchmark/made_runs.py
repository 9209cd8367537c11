"""Folders as `run` leaves them, with scores by chance."""

import json
from html.parser import HTMLParser

import numpy as np

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark import Dataset
from keras_mmrel.benchmark._recorded import Recorded

CONDITIONS = [
    ("clean", 0.0), ("gaussian_one", 0.5), ("gaussian_one", 2.0),
    ("missing", 1.0),
]  # fmt: skip
NAMES = (
    "accuracy", "f1_macro", "auroc", "nll", "ece", "brier", "aurc",
    "corrupted_auroc",
)  # fmt: skip


def make_run(
    method, seed, regime="clean", dataset="d", broken=False, fold=None,
    split="resampled",
):  # fmt: skip
    """A record as `run` writes it, with scores by chance."""
    rng = np.random.default_rng([len(method), seed, len(regime), fold or 0])
    found = {
        "corruption": [c for c, _ in CONDITIONS],
        "severity": [s for _, s in CONDITIONS],
        "seed": [0] * len(CONDITIONS),
        "samples": [30] * len(CONDITIONS),
        "in_range": [c != "gaussian_one" for c, _ in CONDITIONS],
        "invalid": [30.0 if broken else 0.0] * len(CONDITIONS),
        **{
            name: [
                None if broken else float(f"{v:.5g}")
                for v in rng.uniform(0.3, 0.9, len(CONDITIONS))
            ]
            for name in NAMES
        },
        "confidence/a": [0.5] * len(CONDITIONS),
    }
    # Nothing is to be found on clean data, nor where it is announced.
    found["corrupted_auroc"][0] = found["corrupted_auroc"][3] = None
    return {
        "kind": "run", "dataset": dataset, "regime": regime, "method": method,
        "seed": seed, "fold": fold, "parameters": 10 * len(method),
        "probes": {}, "settings": {"learning_rate": 0.01}, "data": "00",
        "split": split, "training_samples": 60, "seconds": 1.25,
        "scores": found, "scored": [*NAMES, "confidence"],
        "environment": "e1",
    }  # fmt: skip


def make_folder(folder, runs, **changes):
    """A folder that `run` would leave with such runs."""
    names = {
        key: list(dict.fromkeys(r[key] for r in runs))
        for key in ("dataset", "regime", "method", "seed")
    }
    settings = {
        "title": "A <comparison> & more",
        "datasets": {
            n: Dataset(
                Recorded("own"),
                folds=sorted({r["fold"] for r in runs} - {None}),
            )
            for n in names["dataset"]
        },
        "evaluation": {"scores": [*NAMES, "confidence"]},
        "methods": {n: Recorded(n) for n in names["method"]},
        "tuning": {"grid": {"learning_rate": [0.001, 0.01, 0.5]}},
        "regimes": names["regime"],
        "seeds": names["seed"],
        **changes,
    }
    config = Comparison(**settings).to_dict()
    environment = {"kind": "environment", "id": "e1", "keras": "3.0"}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "runs.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in [environment, environment, *runs])
    )
    return folder


def runs_of(methods, seeds=(0, 1, 2), **options):
    return [make_run(m, s, **options) for s in seeds for m in methods]


class Page(HTMLParser):
    """Tags, links and visible cells of an HTML page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.cells = [], [], []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data
