"""Figures of a comparison."""

from typing import Any
from typing import TypeAlias

import numpy as np

from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._block import Column
from keras_mmrel.optional import require

Figure: TypeAlias = Any  # a `matplotlib.figure.Figure`
MARKERS = "osD^vPX*<>dp"
# As many markers as colours: the line tells the thirteenth from the first.
LINES = ("-", "--", ":")


def severity_figure(block: Block, column: Column, title: str) -> Figure:
    """A score against severity, a panel a corruption, a line a method."""
    figure_module = require("matplotlib.figure", "keras_mmrel.benchmark")
    colors = _colors()
    means = _severity_means(block.runs, column.name)
    # Those that a check of ranges cannot find come first.
    corruptions = sorted(block.in_range, key=lambda c: not block.in_range[c])
    columns = min(4, max(1, len(corruptions)))
    rows = -(-max(1, len(corruptions)) // columns)
    figure = figure_module.Figure(
        figsize=(3.6 * columns, 2.8 * rows + 1.0), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False)
    for axis in panels.flat[len(corruptions) :]:
        axis.set_axis_off()
    for axis, corruption in zip(panels.flat, corruptions, strict=False):
        severities = sorted({s for s, _ in means[corruption]})
        for index, method in enumerate(block.methods):
            clean = means["clean"].get((0.0, method))
            line = [means[corruption].get((s, method)) for s in severities]
            if clean is None or None in line:
                continue
            axis.plot(
                range(len(severities) + 1),
                [column.scale * v for v in (clean, *line)],
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
        where = "inside" if block.in_range[corruption] else "outside"
        axis.set_title(f"{corruption} ({where})", fontsize=10)
        axis.grid(alpha=0.3)
    for axis in panels[:, 0]:
        axis.set_ylabel(_unit(column))
    for axis in panels[-1]:
        axis.set_xlabel("severity in the corruption's unit", fontsize=9)
    # A method with a NaN is drawn in some of the panels only.
    drawn = {
        label: handle
        for axis in panels.flat
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    labels = [method for method in block.methods if method in drawn]
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
    block: Block,
    others: list[str],
    baseline: str,
    column: Column,
    corruptions: list[str],
    title: str,
) -> Figure:
    """Paired differences to the baseline with standard errors.

    Where there is a sampling error, the bar is the larger of both.
    """
    figure_module = require("matplotlib.figure", "keras_mmrel.benchmark")
    panels_in_a_row = min(6, len(corruptions))
    lines = -(-len(corruptions) // panels_in_a_row)
    figure = figure_module.Figure(
        figsize=(
            2.0 * panels_in_a_row + 2.4,
            lines * (0.27 * len(others) + 0.7) + 0.9,
        ),
        layout="constrained",
    )
    panels = figure.subplots(lines, panels_in_a_row, sharey=True, squeeze=False)
    for axis in panels.flat[len(corruptions) :]:
        axis.set_axis_off()
    places = np.arange(len(others))[::-1]
    for axis, corruption in zip(panels.flat, corruptions, strict=False):
        found = block.differences(others, baseline, column.name, corruption)
        axis.axvline(0, color="black", linewidth=1)
        for place, method in zip(places, others, strict=True):
            difference = found[method]
            sure = difference.p < 0.05
            axis.errorbar(
                column.scale * difference.mean,
                place,
                xerr=column.scale
                * np.fmax(difference.error, difference.sampling),
                fmt="o",
                markersize=5,
                capsize=2,
                color="black" if sure else "grey",
                markerfacecolor="black" if sure else "white",
            )
        axis.set_title(corruption, fontsize=9)
        axis.grid(alpha=0.3)
    for line in panels:
        line[0].set_yticks(places, others)
    figure.supxlabel(_unit(column, "points of "), fontsize=9)
    figure.suptitle(title)
    return figure


def _unit(column: Column, prefix: str = "") -> str:
    name = column.name.replace("_", " ")
    if not column.percent:
        return name
    return f"{prefix}{name}" if prefix else f"{name} in %"


def _colors() -> list[Any]:
    matplotlib = require("matplotlib", "keras_mmrel.benchmark")
    return [*matplotlib.color_sequences["tab10"], "black", "gold"]


def _severity_means(runs: list[dict], score: str) -> dict[str, dict]:
    """Corruption -> (severity, method) -> mean of a score, `None` for NaN."""
    values: dict[str, dict] = {}
    for run in runs:
        scores = run["scores"]
        for corruption, severity, value in zip(
            scores["corruption"],
            scores["severity"],
            scores[score],
            strict=True,
        ):
            values.setdefault(corruption, {}).setdefault(
                (severity, run["method"]), []
            ).append(value)
    return {
        corruption: {
            key: None if None in v else float(np.mean(v))
            for key, v in found.items()
        }
        for corruption, found in values.items()
    }
