import json
import os
import re
from pathlib import Path
from typing import Any

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._figures import accuracy_figure
from keras_mmrel.benchmark._figures import difference_figure
from keras_mmrel.benchmark._page import Page
from keras_mmrel.benchmark._store import Store
from keras_mmrel.benchmark._store import finished
from keras_mmrel.benchmark._tables import difference_table
from keras_mmrel.benchmark._tables import means_table
from keras_mmrel.benchmark._tables import missing_runs
from keras_mmrel.benchmark._tables import paired_differences
from keras_mmrel.benchmark._tables import ranks_table
from keras_mmrel.benchmark._tables import settings_table
from keras_mmrel.optional import require

# On clean data, then under each corruption.
CLEAN = ("accuracy", "f1_macro", "auroc", "nll", "ece", "brier", "aurc")
LEGEND = (
    "Mean ± standard deviation over the runs, final epoch, test part scored "
    "once. Accuracy, F1 and AUROC are in %; the best mean of a column is "
    "bold. Columns with a corruption's name are means over its severities. "
    "nll: negative log-likelihood; ece: expected calibration error of the "
    "top label; aurc: area under the risk-coverage curve; finding: AUROC of "
    "finding the corrupted modality by the confidence, where a method has "
    "one. A cell is empty where a score is undefined."
)


def report(folder: Any, baseline: str | None = None) -> list[Path]:
    """Render tables, figures and one self-contained HTML page.

    For every data set and regime: means with standard deviations, differences
    to a baseline paired by seed, with standard errors and p-values, and
    figures; over all of them the mean ranks; and the config and the versions
    that made the runs. It may be called while runs are still missing.

    P-values are of t-tests on pairs, corrected for test parts that share
    samples where splits are resampled (Nadeau and Bengio, 2003), and adjusted
    for the number of methods (Holm). On one published split they speak of
    seeds only, not of other samples.

    Args:
        folder: Folder that `run` wrote.
        baseline: Method that the others are compared with; by default the
            config's.

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
    records = store.read()
    runs = finished(records)
    config = store.config()
    if not runs or config is None:
        raise ValueError(
            "`folder` must hold finished runs. Received: "
            f"folder={str(folder)!r}, without any"
        )
    for module in ("matplotlib", "pandas", "scipy"):
        require(module, "keras_mmrel.benchmark")
    methods = [m for m in config["methods"] if m in {r["method"] for r in runs}]
    baseline = config["baseline"] if baseline is None else baseline
    if baseline not in methods:
        raise ValueError(
            f"`baseline` must be a method with runs, {methods}. Received: "
            f"baseline={baseline!r}"
        )
    table = _statistics.condition_scores(runs)
    page = Page(config["title"])
    page.text(_summary(config, runs))
    page.text(LEGEND)
    missing = missing_runs(config, runs)
    if missing:
        page.heading("Missing runs")
        page.table(["", "data", "regime", "seeds"], missing)
    pages: list[Path] = []
    for dataset in config["datasets"]:
        for regime in config["regimes"]:
            part = [
                r
                for r in runs
                if (r["dataset"], r["regime"]) == (dataset, regime)
            ]
            if part:
                pages += _block(
                    page, table, part, methods, baseline, store.folder, pages
                )
    page.heading("Mean ranks")
    page.text(
        "Ranks of the means, 1 is best, averaged over data sets and regimes; "
        "`corrupted` is the mean over all corruptions. A data set and regime "
        "with a NaN or without a method's runs is left out."
    )
    page.table(*ranks_table(table, methods))
    page.heading("Settings chosen on training data")
    page.table(*settings_table(runs, methods))
    page.heading("Config")
    page.code(json.dumps(config, indent=1))
    page.heading("Environment")
    # Parts of the work that start at once may each have written theirs.
    known = {r["id"]: r for r in records if r["kind"] == "environment"}
    for used in dict.fromkeys(r["environment"] for r in runs):
        entries = known.get(used, {}).items()
        page.code(
            ", ".join(f"{k} {v}" for k, v in entries if k not in ("kind", "id"))
        )
    files = {"report.md": page.markdown(), "report.html": page.html()}
    for name, text in files.items():
        part_file = store.folder / f"{name}.part"
        part_file.write_text(text, "utf-8")
        os.replace(part_file, store.folder / name)
    return [*(store.folder / name for name in files), *pages]


def _summary(config: dict, runs: list[dict]) -> str:
    expected = (
        len(config["datasets"])
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


def _block(
    page: Page,
    table: Any,
    runs: list[dict],
    methods: list[str],
    baseline: str,
    folder: Path,
    taken: list[Path],
) -> list[Path]:
    """Tables and figures of one data set and regime."""
    dataset, regime = runs[0]["dataset"], runs[0]["regime"]
    here = table[(table["dataset"] == dataset) & (table["regime"] == regime)]
    values = here.pivot(
        index="seed", columns=["method", "column"], values="value"
    )
    known = list(dict.fromkeys(here["column"]))
    corrupted = [c for c in known if c.startswith("accuracy, ")]
    columns = [
        c
        for c in [
            *CLEAN,
            *corrupted,
            *(c for c in known if c.startswith("ece, ")),
            *(c for c in known if c.startswith("corrupted_auroc, ")),
        ]
        if c in known
        and (
            c.startswith("accuracy")
            or here.loc[here["column"] == c, "value"].notna().any()
        )
    ]
    shown = [m for m in methods if m in set(here["method"])]
    page.heading(f"{dataset}, {regime} training")
    page.table(*means_table(here, shown, columns))
    if baseline in shown and len(shown) > 1:
        others = [m for m in shown if m != baseline]
        compared = ["accuracy", *corrupted, "nll", "ece", "aurc"]
        ratio = _test_to_training(runs)
        seeds = {
            m: {r["seed"] for r in runs if r["method"] == m} for m in shown
        }
        differences = paired_differences(
            values, seeds, others, baseline, compared, ratio
        )
        page.text(
            f"Paired difference to {baseline} ± standard error; an asterisk: "
            "p < 0.05 after Holm's adjustment for the number of methods."
            + (
                " Standard errors are corrected for test parts that share "
                "samples."
                if ratio
                else " All seeds share one split, so this is about seeds, "
                "not about other samples."
            )
        )
        page.table(*difference_table(differences, others, compared))
    stem = _stem(f"{dataset}_{regime}", taken)
    title = f"{dataset}, {regime} training"
    figures = {
        f"{stem}_accuracy.png": accuracy_figure(runs, shown, title),
    }
    if baseline in shown and len(shown) > 1:
        figures[f"{stem}_differences.png"] = difference_figure(
            differences,
            others,
            ["accuracy", *corrupted],
            f"{title}: difference to {baseline}, filled: p < 0.05 (Holm)",
        )
    paths = []
    for name, figure in figures.items():
        path = folder / name
        figure.savefig(path, dpi=110)
        page.figure(path, f"{title}: {name.rsplit('_', 1)[1][:-4]}")
        paths.append(path)
    return paths


def _stem(name: str, taken: list[Path]) -> str:
    """Begin of the names of the figures, another one for each block."""
    stem = found = re.sub(r"\W+", "_", name).strip("_").lower()
    count = 1
    while f"{found}_accuracy.png" in {path.name for path in taken}:
        count += 1
        found = f"{stem}_{count}"
    return found


def _test_to_training(runs: list[dict]) -> float:
    """Ratio of the sizes where the parts differ between seeds, else 0."""
    if runs[0]["split"] == "published":
        return 0.0
    run = runs[0]
    return run["scores"]["samples"][0] / run["training_samples"]
