import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from keras_mmrel.benchmark import _statistics
from keras_mmrel.benchmark._figures import accuracy_figure
from keras_mmrel.benchmark._figures import difference_figure
from keras_mmrel.benchmark._page import Page
from keras_mmrel.benchmark._store import Store
from keras_mmrel.evaluation._imports import needs

# On clean data, then under each corruption.
CLEAN = ("accuracy", "f1_macro", "auroc", "nll", "ece", "brier", "aurc")
PERCENT = ("accuracy", "f1_macro", "f1_weighted", "auroc", "corrupted_auroc")
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
    runs = [r for r in records if r["kind"] == "run"]
    config = store.config()
    if not runs or config is None:
        raise ValueError(
            "`folder` must hold finished runs. Received: "
            f"folder={str(folder)!r}, without any"
        )
    for module in ("matplotlib", "pandas", "scipy"):
        needs(module, "keras_mmrel.benchmark")
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
    pages = []
    for dataset in config["datasets"]:
        for regime in config["regimes"]:
            part = [
                r
                for r in runs
                if (r["dataset"], r["regime"]) == (dataset, regime)
            ]
            if part:
                pages += _block(
                    page, table, part, methods, baseline, store.folder
                )
    page.heading("Mean ranks")
    page.text(
        "Ranks of the means, 1 is best, averaged over data sets and regimes; "
        "`corrupted` is the mean over all corruptions."
    )
    page.table(*_ranks(table, methods))
    page.heading("Settings chosen on training data")
    page.table(*_settings(records, methods))
    page.heading("Config")
    page.code(json.dumps(config, indent=1))
    page.heading("Environment")
    used = {r["environment"] for r in runs}
    for record in records:
        if record["kind"] == "environment" and record["id"] in used:
            page.code(
                ", ".join(
                    f"{k} {v}"
                    for k, v in record.items()
                    if k not in ("kind", "id")
                )
            )
    files = {"report.md": page.markdown(), "report.html": page.html()}
    for name, text in files.items():
        part_file = store.folder / f"{name}.part"
        part_file.write_text(text)
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
        if c in known and not here[here["column"] == c]["value"].isna().all()
    ]
    shown = [m for m in methods if m in set(here["method"])]
    page.heading(f"{dataset}, {regime} training")
    page.table(*_means(here, shown, columns))
    if baseline in shown and len(shown) > 1:
        others = [m for m in shown if m != baseline]
        compared = ["accuracy", *corrupted, "nll", "ece", "aurc"]
        ratio = _test_to_training(runs)
        differences = _differences(values, others, baseline, compared, ratio)
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
        page.table(*_difference_table(differences, others, compared))
    stem = re.sub(r"\W+", "_", f"{dataset}_{regime}").strip("_").lower()
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


def _test_to_training(runs: list[dict]) -> float:
    """Ratio of the sizes where the parts differ between seeds, else 0."""
    if runs[0]["split"] == "published":
        return 0.0
    run = runs[0]
    return run["scores"]["samples"][0] / run["training_samples"]


def _name(column: str) -> str:
    return column.replace("corrupted_auroc", "finding").replace("_", " ")


def _scale(column: str) -> float:
    return 100.0 if column.split(", ")[0] in PERCENT else 1.0


def _digits(column: str) -> int:
    return 1 if _scale(column) == 100 else 3


def _down(column: str) -> bool:
    return column.split(", ")[0] in _statistics.DOWN


def _means(here: Any, methods: list[str], columns: list[str]) -> tuple:
    """Cells `mean ± deviation`; a NaN of one run is named, not left out."""
    groups = here.groupby(["method", "column"])["value"]
    found = {key: group.to_numpy() for key, group in groups}
    best = {}
    for column in columns:
        means = {
            m: found[m, column].mean() for m in methods if (m, column) in found
        }
        known = {m: v for m, v in means.items() if np.isfinite(v)}
        if len(known) > 1:
            pick = min if _down(column) else max
            best[column] = pick(known, key=lambda m, k=known: k[m])
    rows = []
    for method in methods:
        cells = [
            _mean_cell(
                found.get((method, column)), column, best.get(column) == method
            )
            for column in columns
        ]
        count = here[here["method"] == method]["seed"].nunique()
        rows.append([method, str(count), *cells])
    return ["", "runs", *map(_name, columns)], rows


def _mean_cell(values: Any, column: str, best: bool) -> str:
    if values is None or np.isnan(values).all():
        return "–"
    broken = int(np.isnan(values).sum())
    if broken:
        return f"NaN in {broken} of {len(values)}"
    scale, digits = _scale(column), _digits(column)
    cell = f"{scale * values.mean():.{digits}f}"
    if len(values) > 1:
        cell += f" ± {scale * values.std(ddof=1):.{digits}f}"
    return f"**{cell}**" if best else cell


def _differences(
    values: Any,
    others: list[str],
    baseline: str,
    columns: list[str],
    ratio: float,
) -> dict[tuple[str, str], tuple[float, float, float]]:
    # Seeds that have not run yet; a NaN of a run stays in.
    finished = {m: values[m].notna().any(axis=1) for m in [baseline, *others]}
    found = {}
    for column in columns:
        tests = []
        for method in others:
            both = [(method, column), (baseline, column)]
            pairs = values[both].loc[finished[method] & finished[baseline]]
            a, b = pairs.to_numpy().T
            tests.append(
                _statistics.paired_difference(a, b, ratio)
                if len(pairs)
                else (np.nan,) * 3
            )
        adjusted = _statistics.holm([p for _, _, p in tests])
        for method, (mean, error, _), p in zip(
            others, tests, adjusted, strict=True
        ):
            found[method, column] = (mean, error, p)
    return found


def _difference_table(
    differences: dict, others: list[str], columns: list[str]
) -> tuple:
    rows = []
    for method in others:
        cells = []
        for column in columns:
            mean, error, p = differences[method, column]
            scale, digits = _scale(column), _digits(column)
            cell = "–"
            if np.isfinite(mean):
                cell = f"{scale * mean:+.{digits}f}"
            if np.isfinite(error):
                cell += f" ± {scale * error:.{digits}f}"
            cells.append(cell + ("*" if p < 0.05 else ""))
        rows.append([method, *cells])
    return ["", *map(_name, columns)], rows


def _ranks(table: Any, methods: list[str]) -> tuple:
    """Mean ranks of the clean scores and of the corrupted accuracy."""
    corrupted = table[table["column"].str.startswith("accuracy, ")]
    parts = {
        column: table[table["column"] == column]
        for column in ("accuracy", "nll", "ece", "aurc")
    }
    parts = {
        "accuracy": parts["accuracy"],
        "accuracy, corrupted": corrupted,
        **{c: parts[c] for c in ("nll", "ece", "aurc")},
    }
    ranks = {}
    for name, part in parts.items():
        means = part.pivot_table(
            index=["dataset", "regime"], columns="method", values="value"
        )
        ranks[name] = _statistics.mean_ranks(means, _down(name))
    rows = [
        [
            method,
            *(
                f"{ranks[name][method]:.1f}" if method in ranks[name] else "–"
                for name in parts
            ),
        ]
        for method in methods
    ]
    return ["", *parts], rows


def _settings(records: list[dict], methods: list[str]) -> tuple:
    """How often each candidate was chosen, and the time of a training."""
    rows = []
    runs = [r for r in records if r["kind"] == "run"]
    blocks = dict.fromkeys((r["dataset"], r["regime"]) for r in runs)
    for method in methods:
        for dataset, regime in blocks:
            here = [
                r
                for r in runs
                if (r["method"], r["dataset"], r["regime"])
                == (method, dataset, regime)
            ]
            if not here:
                continue
            counts: dict[str, int] = {}
            for run in here:
                text = json.dumps(run["settings"]) if run["settings"] else "–"
                counts[text] = counts.get(text, 0) + 1
            chosen = "; ".join(f"{t} ({n})" for t, n in counts.items())
            seconds = np.mean([r["seconds"] for r in here])
            rows.append([method, dataset, regime, chosen, f"{seconds:.0f} s"])
    return ["", "data", "regime", "chosen (runs)", "training"], rows
