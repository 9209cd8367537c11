"""Render what a folder holds as tables, figures and one HTML page."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from keras_mmrel.benchmark import _ranks
from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import MEANS
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._figures import difference_figure
from keras_mmrel.benchmark._figures import ranks_figure
from keras_mmrel.benchmark._figures import severity_figure
from keras_mmrel.benchmark._names import figure_names
from keras_mmrel.benchmark._names import file_stem
from keras_mmrel.benchmark._overall import ABOUT
from keras_mmrel.benchmark._overall import overall_table
from keras_mmrel.benchmark._page import Page
from keras_mmrel.benchmark._records import Run
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._tables import difference_table
from keras_mmrel.benchmark._tables import means_table
from keras_mmrel.benchmark._tables import missing_runs
from keras_mmrel.benchmark._tables import probes_table
from keras_mmrel.benchmark._tables import ranks_table
from keras_mmrel.benchmark._tables import settings_table
from keras_mmrel.benchmark._tables import shown_scores
from keras_mmrel.benchmark._tables import title
from keras_mmrel.benchmark._whole import write_whole
from keras_mmrel.benchmark._whole import writing
from keras_mmrel.benchmark.comparison import Comparison
from keras_mmrel.contract import Figure
from keras_mmrel.contract import as_path
from keras_mmrel.evaluation import SCORES
from keras_mmrel.evaluation import Score
from keras_mmrel.optional import require

# Scores of which a table shows every corruption, beside the first one and
# those that are somebody's own.
CORRUPTED = ("ece", "corrupted_auroc", "quality_auroc")
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
    samples, a two-way bootstrap of the kept predictions, which stays in the
    folder (`errors.json`) when these are gone. P-values are of
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
    store = Store(as_path("folder", folder))
    runs, comparison = store.runs(), store.comparison()
    if not runs or comparison is None:
        raise ValueError(
            "`folder` must hold finished runs. Received: "
            f"folder={str(folder)!r}, without any"
        )
    for module in ("matplotlib", "pandas", "scipy"):
        require(module, "keras_mmrel.benchmark")
    known = {run.method for run in runs}
    methods = [method for method in comparison.methods if method in known]
    baseline = comparison.baseline if baseline is None else baseline
    if baseline not in methods:
        raise ValueError(
            f"`baseline` must be a method with runs, {methods}. Received: "
            f"baseline={baseline!r}"
        )
    return _Report(store, comparison, runs, methods, baseline).write()


class _Report:
    """One page in the making."""

    def __init__(
        self,
        store: Store,
        comparison: Comparison,
        runs: list[Run],
        methods: list[str],
        baseline: str,
    ) -> None:
        self.store = store
        self.comparison = comparison
        self.runs = runs
        self.methods = methods
        self.baseline = baseline
        self.errors = store.sampling_errors()
        self.scores = shown_scores(comparison)
        self.primary = next(
            (s for s in self.scores if s.higher_is_better is not None),
            self.scores[0],
        )
        self.page = Page(comparison.title)
        # Name of a file -> its content.
        self.figures: dict[str, bytes] = {}

    def write(self) -> list[Path]:
        self.page.text(_summary(self.comparison, self.runs))
        for note in self.comparison.notes:
            self.page.text(note)
        self.page.text(self._legend())
        self._sources()
        self._later()
        missing = missing_runs(self.comparison, self.runs)
        if missing:
            self.page.heading("Missing runs")
            self.page.table(["", "data", "regime", "seeds"], missing)
        blocks = []
        for dataset in self.comparison.datasets:
            for regime in self.comparison.regimes:
                part = [
                    run
                    for run in self.runs
                    if (run.job.dataset, run.job.regime) == (dataset, regime)
                ]
                if part:
                    block = Block(
                        self.store, self.comparison, part, self.errors
                    )
                    blocks.append(block)
                    self._block(block)
        self._end(blocks)
        return self._files()

    def _legend(self) -> str:
        scores = "; ".join(
            f"{s.name.replace('_', ' ')}: {s.description}"
            + (" (in %)" if s.percent else "")
            for s in self.scores
        )
        return (
            "Mean ± standard error over the runs, final epoch, test part "
            "scored once; the best mean of a column is bold. ↑: higher is "
            "better, ↓: lower is. Values of a corruption are means over its "
            "severities, 'mean' those over all corruptions of its table. A "
            "cell is empty where a score is undefined. "
            f"{scores}."
        )

    def _sources(self) -> None:
        """Say which runs are of another state of the source than others."""
        known = self.store.environments()
        of: dict[str, set] = {method: set() for method in self.methods}
        for run in self.runs:
            of[run.method].add(known.get(run.environment, {}).get("source"))
        states = len(set().union(*of.values()))
        if states == 1:
            return
        mixed = [method for method, sources in of.items() if len(sources) > 1]
        self.page.text(
            f"Runs are of {states} states of the source (`source` under "
            "Environment), which may compute other things. Methods with runs "
            f"of several: {', '.join(mixed) or 'none'}."
        )

    def _later(self) -> None:
        """Say which scores were computed later, and which are not there."""
        later = Counter(n for added in self.store.added() for n in added.scored)
        for name, count in later.items():
            self.page.text(
                f"Computed later, from the kept predictions of {count} of "
                f"{len(self.runs)} runs: {name.replace('_', ' ')}."
            )
        for score in self.comparison.evaluation.scores:
            lost = sum(score.name not in run.scored for run in self.runs)
            if lost:
                self.page.text(
                    f"Not known for {lost} of {len(self.runs)} runs, which "
                    "are left out of its means until the comparison runs "
                    f"again: {score.name.replace('_', ' ')}."
                )

    # -- One data set and regime ---------------------------------------------

    def _block(self, block: Block) -> None:
        self.page.heading(f"{block.dataset}, {block.regime} training")
        self.page.text(_about_errors(block))
        shown = [s for s in self.scores if block.has(s.name)]
        places = [(score, CLEAN) for score in shown]
        heads = [title(score) for score in shown]
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
        self._draw(block)

    def _corrupted(self, block: Block, group: list[str]) -> None:
        for score in self.scores:
            own = score.name not in SCORES
            if not (own or score == self.primary or score.name in CORRUPTED):
                continue
            here = [c for c in group if block.has(score.name, c)]
            if not here:
                continue
            # Where a score is undefined under one, so is the mean.
            if 1 < len(here) == len(group):
                here.append(MEANS[block.in_range[here[0]]])
            places = [(score, corruption) for corruption in here]
            self.page.text(f"{title(score)}:")
            self.page.table(*means_table(block, places, here, costs=False))
            if score == self.primary:
                self._differences(block, places)

    def _differences(
        self, block: Block, places: list[tuple[Score, str]]
    ) -> None:
        others = self._others(block)
        if not others:
            return
        heads = [
            title(score) if corruption == CLEAN else corruption
            for score, corruption in places
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

    def _draw(self, block: Block) -> None:
        stem = self._stem(f"{block.dataset}, {block.regime}")
        about = f"{block.dataset}, {block.regime} training"
        short = figure_names([block.dataset, block.regime, self.baseline])
        head = f"{short[block.dataset]}, {short[block.regime]} training"
        if block.in_range:
            self._figure(
                severity_figure(block, self.primary, head),
                f"{stem}_{file_stem(self.primary.name)}.png",
                f"{about}: {self.primary.name} against severity",
            )
        others = self._others(block)
        if others:
            order = sorted(block.in_range, key=lambda c: not block.in_range[c])
            self._figure(
                difference_figure(
                    block,
                    others,
                    self.baseline,
                    self.primary,
                    [CLEAN, *order],
                    f"{head}: difference to {short[self.baseline]}, filled: "
                    "p < 0.05 (Holm)",
                ),
                f"{stem}_differences.png",
                f"{about}: difference to {self.baseline}",
            )

    def _figure(self, figure: Figure, name: str, caption: str) -> None:
        file = io.BytesIO()
        figure.savefig(file, dpi=110, format="png")
        self.figures[name] = file.getvalue()
        self.page.figure(name, self.figures[name], caption)

    def _stem(self, text: str) -> str:
        """Begin of the names of the figures, another one for each block."""
        stem = found = file_stem(text) or "figure"
        taken = {name.rpartition("_")[0] for name in self.figures}
        count = 1
        while found in taken:
            count += 1
            found = f"{stem}_{count}"
        return found

    # -- The end of the page -------------------------------------------------

    def _end(self, blocks: list[Block]) -> None:
        page = self.page
        self._overall(blocks)
        page.heading("Mean ranks")
        page.text(
            "Ranks of the means, 1 is best, averaged over data sets and "
            "regimes; 'inside' and 'outside' are means over the corruptions "
            "inside and outside the range of the data. A data set and regime "
            "with a NaN or without a method's runs is left out."
        )
        shown = [s for s in self.scores if any(b.has(s.name) for b in blocks)]
        page.table(*ranks_table(blocks, self.methods, shown, self.primary))
        page.heading("Settings chosen on training data")
        page.text(
            "†: at an end of the grid, which was not extended; what is beyond "
            "may be better."
        )
        page.table(*settings_table(blocks, self.comparison))
        page.heading("Config")
        page.code(json.dumps(self.comparison.to_dict(), indent=1))
        page.heading("Environment")
        known = self.store.environments()
        for used in dict.fromkeys(run.environment for run in self.runs):
            entries = known.get(used, {}).items()
            page.code(
                ", ".join(
                    f"{k} {v}" for k, v in entries if k not in ("kind", "id")
                )
            )

    def _overall(self, blocks: list[Block]) -> None:
        """One table a regime, where there is more than one data set."""
        if self.primary.higher_is_better is None:
            return
        for regime in self.comparison.regimes:
            part = [block for block in blocks if block.regime == regime]
            table = overall_table(part, self.methods, self.primary)
            if table is not None:
                self.page.heading(f"All data sets, {regime} training")
                self.page.text(ABOUT)
                self.page.text(f"{title(self.primary)}:")
                self.page.table(*table)
            ranks = _ranks.ranks_over(part, self.methods, self.primary)
            if ranks is not None:
                self._ranks(ranks, regime, len(part))

    def _ranks(self, ranks: _ranks.Ranks, regime: str, datasets: int) -> None:
        head = f"Ranks over {datasets} data sets, {regime} training"
        self.page.heading(head)
        self.page.text(_ranks.ABOUT)
        self.page.text(
            f"{title(self.primary)}; the critical difference of "
            f"{len(ranks.methods)} methods is {ranks.critical:.1f} ranks:"
        )
        self.page.table(*ranks.table())
        name = f"{self._stem(f'all {regime}')}_ranks.png"
        self._figure(ranks_figure(ranks, head), name, head)

    def _files(self) -> list[Path]:
        # The pages last: what they show is there.
        files = {
            **self.figures,
            "report.md": self.page.markdown().encode(),
            "report.html": self.page.html().encode(),
        }
        folder = self.store.folder
        with writing(folder):
            for name, content in files.items():
                write_whole(folder / name, content)
            self.errors.write()
        names = ("report.md", "report.html", *self.figures)
        return [folder / name for name in names]


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


def _summary(comparison: Comparison, runs: Sequence[Run]) -> str:
    expected = len(comparison.jobs())
    missing = expected - len(runs)
    return (
        f"{len(runs)} runs"
        + (f", {missing} of {expected} are missing yet" if missing else "")
        + f"; {len(comparison.methods)} methods, "
        f"{len(comparison.datasets)} data sets, {len(comparison.regimes)} "
        f"regimes, {len(comparison.seeds)} seeds."
    )
