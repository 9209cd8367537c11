"""Figures of a comparison."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mmrel.benchmark._block import CLEAN
from keras_mmrel.benchmark._block import Block
from keras_mmrel.benchmark._names import figure_names
from keras_mmrel.benchmark._names import figure_text
from keras_mmrel.benchmark._ranks import Ranks
from keras_mmrel.benchmark._records import Run
from keras_mmrel.contract import Figure
from keras_mmrel.evaluation import Score
from keras_mmrel.optional import require

MARKERS = "osD^vPX*<>dp"
# As many markers as colours: the line tells the thirteenth from the first.
LINES = ("-", "--", ":")


def severity_figure(block: Block, score: Score, title: str) -> Figure:
    """A score against severity, a panel a corruption, a line a method."""
    figure_module = require("matplotlib.figure", "keras_mmrel.benchmark")
    colors = _colors()
    names = figure_names(block.methods)
    drawn: dict[str, Any] = {}
    means = _severity_means(block.runs, score.name)
    # Those that a check of ranges cannot find come first.
    corruptions = sorted(block.in_range, key=lambda c: not block.in_range[c])
    places = figure_names(corruptions)
    columns = min(4, max(1, len(corruptions)))
    rows = -(-max(1, len(corruptions)) // columns)
    # As many columns of the legend as fit beside each other.
    longest = max(map(len, names.values()))
    ncols = max(1, min(4, len(names), 45 * columns // (longest + 6)))
    lines = -(-len(names) // ncols)
    figure = figure_module.Figure(
        figsize=(3.6 * columns, 2.8 * rows + 0.8 + 0.22 * lines),
        layout="constrained",
    )
    panels = figure.subplots(rows, columns, squeeze=False)
    for axis in panels.flat[len(corruptions) :]:
        axis.set_axis_off()
    for axis, corruption in zip(panels.flat, corruptions, strict=False):
        severities = sorted({s for s, _ in means.get(corruption, ())})
        for index, method in enumerate(block.methods):
            clean = means[CLEAN].get((0.0, method))
            line = [means[corruption].get((s, method)) for s in severities]
            if clean is None or None in line:
                continue
            # A method with a NaN is drawn in some of the panels only.
            (drawn[method],) = axis.plot(
                range(len(severities) + 1),
                [score.scale * v for v in (clean, *line)],
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
        axis.set_title(f"{places[corruption]} ({where})", fontsize=10)
        axis.grid(alpha=0.3)
    for axis in panels[:, 0]:
        axis.set_ylabel(_unit(score))
    for axis in panels[-1]:
        axis.set_xlabel("severity in the corruption's unit", fontsize=9)
    labels = [method for method in block.methods if method in drawn]
    figure.legend(
        [drawn[method] for method in labels],
        [names[method] for method in labels],
        loc="outside lower center",
        ncols=ncols,
        frameon=False,
        fontsize=9,
    )
    figure.suptitle(figure_text(title))
    return figure


def difference_figure(
    block: Block,
    others: list[str],
    baseline: str,
    score: Score,
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
    names, titles = figure_names(others), figure_names(corruptions)
    for axis, corruption in zip(panels.flat, corruptions, strict=False):
        found = block.differences(others, baseline, score.name, corruption)
        axis.axvline(0, color="black", linewidth=1)
        for place, method in zip(places, others, strict=True):
            difference = found[method]
            sure = difference.p < 0.05
            axis.errorbar(
                score.scale * difference.mean,
                place,
                xerr=score.scale
                * np.fmax(difference.error, difference.sampling),
                fmt="o",
                markersize=5,
                capsize=2,
                color="black" if sure else "grey",
                markerfacecolor="black" if sure else "white",
            )
        axis.set_title(titles[corruption], fontsize=9)
        axis.grid(alpha=0.3)
    for line in panels:
        line[0].set_yticks(places, [names[m] for m in others])
    figure.supxlabel(_unit(score, "points of "), fontsize=9)
    figure.suptitle(figure_text(title))
    return figure


def ranks_figure(ranks: Ranks, title: str) -> Figure:
    """Mean ranks with half the critical difference to each side.

    Two methods whose bars do not overlap are told apart; the band is that of
    the best one. A panel a group of columns, the methods in one order.
    """
    figure_module = require("matplotlib.figure", "keras_mmrel.benchmark")
    names = figure_names(ranks.methods)
    order = ranks.order
    places = np.arange(len(order))[::-1]
    figure = figure_module.Figure(
        figsize=(2.6 * len(ranks.columns) + 2.6, 0.24 * len(order) + 1.4),
        layout="constrained",
    )
    panels = figure.subplots(1, len(ranks.columns), sharey=True, squeeze=False)
    half = ranks.critical / 2
    columns = ranks.columns.items()
    for axis, (group, found) in zip(panels[0], columns, strict=True):
        best = found.min()
        axis.axvspan(best - half, best + half, color="0.92", linewidth=0)
        apart = found[order] - best > ranks.critical
        for alike, color in ((~apart, "black"), (apart, "tab:red")):
            axis.errorbar(
                found[order][alike],
                places[alike],
                xerr=half,
                fmt="o",
                markersize=4,
                linewidth=1,
                color=color,
            )
        axis.set_title(f"{group} (p = {ranks.p[group]:.1g})", fontsize=9)
        axis.set_xlim(1 - half - 0.5, len(order) + half + 0.5)
        axis.grid(alpha=0.3)
    panels[0, 0].set_yticks(places, [names[ranks.methods[i]] for i in order])
    figure.supxlabel(
        "mean rank ± half the critical difference; red: behind the best",
        fontsize=9,
    )
    figure.suptitle(figure_text(title))
    return figure


def _unit(score: Score, prefix: str = "") -> str:
    name = figure_text(score.name.replace("_", " "))
    if not score.percent:
        return name
    return f"{prefix}{name}" if prefix else f"{name} in %"


def _colors() -> list[Any]:
    matplotlib = require("matplotlib", "keras_mmrel.benchmark")
    return [*matplotlib.color_sequences["tab10"], "black", "gold"]


def _severity_means(runs: Sequence[Run], score: str) -> dict[str, dict]:
    """Corruption -> (severity, method) -> mean of a score, `None` for NaN."""
    values: dict[str, dict] = {}
    for run in runs:
        if score not in run.scores:
            continue
        columns = (run.scores[c] for c in ("corruption", "severity", score))
        for corruption, severity, value in zip(*columns, strict=True):
            values.setdefault(corruption, {}).setdefault(
                (severity, run.method), []
            ).append(value)
    return {
        corruption: {
            key: None if None in v else float(np.mean(v))
            for key, v in found.items()
        }
        for corruption, found in values.items()
    }
