"""Render what a folder holds as tables, figures and one HTML page."""

import json
import os
import re
from pathlib import Path

from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import MEANS
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._block import Column
from keras_mmrel.benchmark._figures import difference_figure
from keras_mmrel.benchmark._figures import severity_figure
from keras_mmrel.benchmark._page import Page
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._store import finished
from keras_mmrel.benchmark._tables import columns_of
from keras_mmrel.benchmark._tables import difference_table
from keras_mmrel.benchmark._tables import means_table
from keras_mmrel.benchmark._tables import missing_runs
from keras_mmrel.benchmark._tables import probes_table
from keras_mmrel.benchmark._tables import ranks_table
from keras_mmrel.benchmark._tables import settings_table
from keras_mmrel.evaluation import SCORES
from keras_mmrel.optional import require

# Scores of which a table shows every corruption, beside the first one and
# those that are somebody's own.
CORRUPTED = ("ece", "corrupted_auroc")
GROUPS = {
    True: (
        "inside the range of the data",
        "No feature leaves the range that it has on clean data: a check of "
        "ranges finds nothing here.",
    ),
    False: (
        "outside the range of the data",
        "Features leave the range that they have on clean data: the range "
        "control, where it stands among the rows, is the bar to pass.",
    ),
}


def report(folder: Path | str, baseline: str | None = None) -> list[Path]:
    """Render tables, figures and one self-contained HTML page.

    For every data set and regime: means with standard errors on clean data
    and under corruptions, inside and outside the range of the data;
    differences to a baseline, paired by run, with p-values; what probes
    found; and figures; over all of them the mean ranks; and the config and
    the versions that made the runs. It may be called while runs are missing.

    Standard errors over resampled splits are corrected for test parts that
    share samples (Nadeau and Bengio, 2003). Where data have folds, the folds
    are the units, not the runs. On one published split the error is over
    seeds only; in brackets beside it stands the error over seeds and test
    samples, a two-way bootstrap of the kept predictions. P-values are of
    t-tests on pairs, with the largest of these errors, adjusted for the
    number of methods (Holm). Bold marks the best value of a column.

    Args:
        folder: Folder that `run` wrote.
        baseline: Method that the others are compared with; by default the
            comparison's.

    Returns:
        Paths of the files: `report.md`, `report.html` and the figures.

    Raises:
        ValueError: If there are no runs, or no such method.
        ImportError: If matplotlib, pandas or SciPy is not there.

    Example:

    >>> try:
    ...     keras_mmrel.benchmark.report("nowhere")
    ... except ValueError as error:
    ...     print(error)
    `folder` must hold finished runs. Received: folder='nowhere', without any
    """
    store = Store(folder)
    runs = finished(store.read())
    config = store.config()
    if not runs or config is None:
        raise ValueError(
            "`folder` must hold finished runs. Received: "
            f"folder={str(folder)!r}, without any"
        )
    for module in ("matplotlib", "pandas", "scipy"):
        require(module, "keras_mmrel.benchmark")
    known = {run["method"] for run in runs}
    methods = [method for method in config["methods"] if method in known]
    baseline = config["baseline"] if baseline is None else baseline
    if baseline not in methods:
        raise ValueError(
            f"`baseline` must be a method with runs, {methods}. Received: "
            f"baseline={baseline!r}"
        )
    return _Report(store, config, runs, methods, baseline).write()


class _Report:
    """One page in the making."""

    def __init__(
        self,
        store: Store,
        config: dict,
        runs: list[dict],
        methods: list[str],
        baseline: str,
    ) -> None:
        self.store = store
        self.config = config
        self.runs = runs
        self.methods = methods
        self.baseline = baseline
        self.columns = columns_of(config)
        self.primary = next(
            (c for c in self.columns if c.higher_is_better is not None),
            self.columns[0],
        )
        self.page = Page(config["title"])
        self.figures: list[Path] = []

    def write(self) -> list[Path]:
        self.page.text(_summary(self.config, self.runs))
        self.page.text(self._legend())
        missing = missing_runs(self.config, self.runs)
        if missing:
            self.page.heading("Missing runs")
            self.page.table(["", "data", "regime", "seeds"], missing)
        blocks = []
        for dataset in self.config["datasets"]:
            for regime in self.config["regimes"]:
                part = [
                    run
                    for run in self.runs
                    if (run["dataset"], run["regime"]) == (dataset, regime)
                ]
                if part:
                    blocks.append(Block(self.store, part, self.methods))
                    self._block(blocks[-1], f"{dataset}, {regime} training")
        self._end(blocks)
        return [*self._files(), *self.figures]

    def _legend(self) -> str:
        scores = "; ".join(
            f"{c.name.replace('_', ' ')}: {c.description}"
            + (" (in %)" if c.percent else "")
            for c in self.columns
        )
        return (
            "Mean ± standard error over the runs, final epoch, test part "
            "scored once; the best mean of a column is bold. ↑: higher is "
            "better, ↓: lower is. Values of a corruption are means over its "
            "severities, `mean` those over all corruptions of its table. A "
            "cell is empty where a score is undefined. "
            f"{scores}."
        )

    # -- One data set and regime ---------------------------------------------

    def _block(self, block: Block, title: str) -> None:
        self.page.heading(title)
        self.page.text(_about_errors(block))
        shown = [c for c in self.columns if block.has(c.name)]
        places = [(column, CLEAN) for column in shown]
        heads = [column.title for column in shown]
        self.page.subheading("Clean data")
        self.page.table(*means_table(block, places, heads, costs=True))
        self._differences(
            block, [p for p in places if p[0].higher_is_better is not None]
        )
        for inside, (name, remark) in GROUPS.items():
            group = [c for c, i in block.in_range.items() if i == inside]
            if group:
                self.page.subheading(f"Corruptions {name}")
                self.page.text(remark)
                self._corrupted(block, group)
        probed = probes_table(block)
        if probed:
            self.page.subheading("Probes")
            self.page.table(*probed)
        self._draw(block, title)

    def _corrupted(self, block: Block, group: list[str]) -> None:
        for column in self.columns:
            own = column.name not in SCORES
            if not (own or column == self.primary or column.name in CORRUPTED):
                continue
            here = [c for c in group if block.has(column.name, c)]
            if not here:
                continue
            # Where a score is undefined under one, so is the mean.
            if 1 < len(here) == len(group):
                here.append(MEANS[block.in_range[here[0]]])
            places = [(column, corruption) for corruption in here]
            self.page.text(f"{column.title}:")
            self.page.table(*means_table(block, places, here, costs=False))
            if column == self.primary:
                self._differences(block, places)

    def _differences(
        self, block: Block, places: list[tuple[Column, str]]
    ) -> None:
        others = self._others(block)
        if not others:
            return
        heads = [
            column.title if corruption == CLEAN else corruption
            for column, corruption in places
        ]
        self.page.text(
            f"Paired difference to {self.baseline}, with the same errors; an "
            "asterisk: p < 0.05 after Holm's adjustment for the number of "
            "methods, by the larger error; none where the error over test "
            "samples is not known."
        )
        self.page.table(
            *difference_table(block, others, self.baseline, places, heads)
        )

    def _others(self, block: Block) -> list[str]:
        if self.baseline not in block.methods:
            return []
        return [m for m in block.methods if m != self.baseline]

    def _draw(self, block: Block, title: str) -> None:
        stem = self._stem(title.removesuffix(" training"))
        name = self.primary.name
        if block.in_range:
            self._figure(
                severity_figure(block, self.primary, title),
                f"{stem}_{name}.png",
                f"{title}: {name} against severity",
            )
        others = self._others(block)
        if others:
            order = sorted(block.in_range, key=lambda c: not block.in_range[c])
            about = f"{title}: difference to {self.baseline}"
            self._figure(
                difference_figure(
                    block,
                    others,
                    self.baseline,
                    self.primary,
                    [CLEAN, *order],
                    f"{about}, filled: p < 0.05 (Holm)",
                ),
                f"{stem}_differences.png",
                about,
            )

    def _figure(self, figure: object, name: str, caption: str) -> None:
        path = self.store.folder / name
        figure.savefig(path, dpi=110)  # type: ignore[attr-defined]
        self.page.figure(path, caption)
        self.figures.append(path)

    def _stem(self, title: str) -> str:
        """Begin of the names of the figures, another one for each block."""
        stem = found = re.sub(r"\W+", "_", title).strip("_").lower()
        taken = {path.name.rpartition("_")[0] for path in self.figures}
        count = 1
        while found in taken:
            count += 1
            found = f"{stem}_{count}"
        return found

    # -- The end of the page -------------------------------------------------

    def _end(self, blocks: list[Block]) -> None:
        page = self.page
        page.heading("Mean ranks")
        page.text(
            "Ranks of the means, 1 is best, averaged over data sets and "
            "regimes; `inside` and `outside` are means over the corruptions "
            "inside and outside the range of the data. A data set and regime "
            "with a NaN or without a method's runs is left out."
        )
        shown = [c for c in self.columns if any(b.has(c.name) for b in blocks)]
        page.table(*ranks_table(blocks, self.methods, shown, self.primary))
        page.heading("Settings chosen on training data")
        page.text(
            "†: at an end of the grid, which was not extended; what is beyond "
            "may be better."
        )
        page.table(*settings_table(self.runs, self.methods, self.config))
        page.heading("Config")
        page.code(json.dumps(self.config, indent=1))
        page.heading("Environment")
        # Parts of the work that start at once may each have written theirs.
        known = {
            r["id"]: r for r in self.store.read() if r["kind"] == "environment"
        }
        for used in dict.fromkeys(r["environment"] for r in self.runs):
            entries = known.get(used, {}).items()
            page.code(
                ", ".join(
                    f"{k} {v}" for k, v in entries if k not in ("kind", "id")
                )
            )

    def _files(self) -> list[Path]:
        files = {
            "report.md": self.page.markdown(),
            "report.html": self.page.html(),
        }
        for name, text in files.items():
            part = self.store.folder / f"{name}.{os.getpid()}.part"
            part.write_text(text, "utf-8")
            os.replace(part, self.store.folder / name)
        return [self.store.folder / name for name in files]


def _about_errors(block: Block) -> str:
    if block.has_folds:
        return (
            "Errors are over folds, of which each is the mean over its seeds; "
            "they are corrected for training parts that share samples (Nadeau "
            "and Bengio)."
        )
    if block.one_split:
        return (
            "All seeds share one split: the first error is over seeds only. "
            "In brackets the error over seeds and test samples, a two-way "
            "bootstrap of the kept predictions."
        )
    return (
        "Splits are drawn anew with every seed: errors are corrected for test "
        "parts that share samples (Nadeau and Bengio)."
    )


def _summary(config: dict, runs: list[dict]) -> str:
    folds = sum(
        len(entry.get("folds") or (None,))
        for entry in config["datasets"].values()
    )
    expected = (
        folds
        * len(config["methods"])
        * len(config["regimes"])
        * len(config["seeds"])
    )
    missing = expected - len(runs)
    return (
        f"{len(runs)} runs"
        + (f", {missing} of {expected} are missing yet" if missing else "")
        + f"; {len(config['methods'])} methods, "
        f"{len(config['datasets'])} data sets, {len(config['regimes'])} "
        f"regimes, {len(config['seeds'])} seeds."
    )
