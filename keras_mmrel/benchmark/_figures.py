"""Figures of a comparison."""

from typing import Any

import numpy as np

from keras_mmrel.optional import require

MARKERS = "osD^vPX*<>dp"
# As many markers as colours: the line tells the thirteenth from the first.
LINES = ("-", "--", ":")


def accuracy_figure(runs: list[dict], methods: list[str], title: str) -> Any:
    """Accuracy against severity, a panel a corruption, a line a method."""
    figure_module = require("matplotlib.figure", "keras_mmrel.benchmark")
    colors = _colors()
    means = _severity_means(runs)
    corruptions = [c for c in means if c != "clean"]
    columns = min(3, max(1, len(corruptions)))
    rows = -(-max(1, len(corruptions)) // columns)
    figure = figure_module.Figure(
        figsize=(3.6 * columns, 2.8 * rows + 1.0), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False)
    for axis in panels.flat[len(corruptions) :]:
        axis.set_axis_off()
    for axis, corruption in zip(panels.flat, corruptions, strict=False):
        severities = sorted({s for s, _ in means[corruption]})
        for index, method in enumerate(methods):
            clean = means["clean"].get((0.0, method))
            line = [means[corruption].get((s, method)) for s in severities]
            if clean is None or None in line:
                continue
            axis.plot(
                range(len(severities) + 1),
                [100 * v for v in (clean, *line)],
                label=method,
                color=colors[index % len(colors)],
                marker=MARKERS[index % len(MARKERS)],
                linestyle=LINES[index // len(MARKERS) % len(LINES)],
                markersize=4,
                linewidth=1.3,
            )
        axis.set_xticks(
            range(len(severities) + 1), ["0", *(f"{s:g}" for s in severities)]
        )
        axis.set_title(corruption, fontsize=10)
        axis.grid(alpha=0.3)
    for axis in panels[:, 0]:
        axis.set_ylabel("accuracy in %")
    for axis in panels[-1]:
        axis.set_xlabel("severity in the corruption's unit", fontsize=9)
    # A method with a NaN is drawn in some of the panels only.
    drawn = {
        label: handle
        for axis in panels.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    labels = [method for method in methods if method in drawn]
    figure.legend(
        [drawn[method] for method in labels],
        labels,
        loc="outside lower center",
        ncols=min(4, max(1, len(labels))),
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(title)
    return figure


def difference_figure(
    differences: Any, methods: list[str], columns: list[str], title: str
) -> Any:
    """Paired differences to the baseline with standard errors."""
    figure_module = require("matplotlib.figure", "keras_mmrel.benchmark")
    figure = figure_module.Figure(
        figsize=(2.2 * len(columns) + 2.0, 0.32 * len(methods) + 1.5),
        layout="constrained",
    )
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    places = np.arange(len(methods))[::-1]
    for axis, column in zip(panels, columns, strict=True):
        axis.axvline(0, color="black", linewidth=1)
        for place, method in zip(places, methods, strict=True):
            mean, error, p = differences.get((method, column), (np.nan,) * 3)
            axis.errorbar(
                100 * mean,
                place,
                xerr=100 * error,
                fmt="o",
                markersize=5,
                capsize=2,
                color="black" if p < 0.05 else "grey",
                markerfacecolor="black" if p < 0.05 else "white",
            )
        corruption = column.partition(", ")[2] or "clean"
        axis.set_title(corruption, fontsize=9)
        axis.grid(alpha=0.3)
    panels[0].set_yticks(places, methods)
    figure.supxlabel("points of accuracy", fontsize=9)
    figure.suptitle(title)
    return figure


def _colors() -> list:
    matplotlib = require("matplotlib", "keras_mmrel.benchmark")
    return [*matplotlib.color_sequences["tab10"], "black", "gold"]


def _severity_means(runs: list[dict]) -> dict[str, dict]:
    """Corruption -> (severity, method) -> mean accuracy, `None` for NaN."""
    values: dict[str, dict] = {}
    for run in runs:
        scores = run["scores"]
        for corruption, severity, accuracy in zip(
            scores["corruption"],
            scores["severity"],
            scores["accuracy"],
            strict=True,
        ):
            values.setdefault(corruption, {}).setdefault(
                (severity, run["method"]), []
            ).append(accuracy)
    return {
        corruption: {
            key: None if None in v else float(np.mean(v))
            for key, v in found.items()
        }
        for corruption, found in values.items()
    }
