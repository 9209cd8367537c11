"""The four panels of a robustness report."""

from typing import TYPE_CHECKING
from typing import Any

from keras_mmrel.contract import Axes
from keras_mmrel.contract import Figure
from keras_mmrel.contract import Frame
from keras_mmrel.evaluation._columns import column_scores
from keras_mmrel.evaluation.score import Score
from keras_mmrel.optional import require

if TYPE_CHECKING:
    from keras_mmrel.evaluation.robustness_report import RobustnessReport

MARKERS = "osD^vPX*<>"


def draw(report: "RobustnessReport") -> Figure:
    figure_module = require("matplotlib.figure", "RobustnessReport.plot")
    colors = require("matplotlib", "RobustnessReport.plot").color_sequences[
        "tab10"
    ]
    table = report.summary()
    inside = dict(zip(table["corruption"], table["in_range"], strict=True))
    names = list(inside)
    corrupted = [n for n in names if n != "clean"]
    style = {
        name: {
            "color": "black" if name == "clean" else colors[i % 10],
            "marker": MARKERS[i % 10],
            "markersize": 4,
            "linestyle": "--" if inside[name] and name != "clean" else "-",
        }
        for i, name in enumerate(["clean", *corrupted], -1)
    }
    figure = figure_module.Figure(figsize=(10.5, 8), layout="constrained")
    panels = figure.subplots(2, 2)
    for axis, (column, score) in zip(panels[0], _drawn(report), strict=False):
        _against_severity(axis, table, corrupted, column, style)
        axis.set_ylabel(f"{column} {score.arrow}".rstrip())
    _risk_coverage(panels[1, 0], report, names, style)
    _reliability(panels[1, 1], report, names, style)
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="dashed: inside the range of the clean data"
        if any(inside[name] for name in corrupted)
        else None,
        loc="outside lower center",
        ncols=min(4, max(len(labels), 1)),
        frameon=False,
    )
    figure.suptitle(report.info["model"])
    return figure


def _drawn(report: "RobustnessReport") -> list[tuple[str, Score]]:
    """Two columns: accuracy and calibration error, or else the first."""
    known = column_scores(report)
    first = [
        *(name for name in ("accuracy", "ece") if name in known),
        *(name for name, score in known.items() if score.shown),
    ]
    return [(name, known[name]) for name in dict.fromkeys(first)][:2]


def _against_severity(
    axis: Axes,
    table: Frame,
    names: list[str],
    column: str,
    style: dict[str, dict[str, Any]],
) -> None:
    """Lines over the position of a severity: units differ by corruption."""
    clean = table[table["corruption"] == "clean"].iloc[0]
    axis.axhline(clean[column], color="black", linestyle=":", linewidth=1)
    ticks: dict[int, set] = {0: {"clean"}}
    for name in names:
        rows = table[table["corruption"] == name].sort_values("severity")
        places = range(1, len(rows) + 1)
        for place, severity in zip(places, rows["severity"], strict=True):
            ticks.setdefault(place, set()).add(f"{severity:g}")
        axis.errorbar(
            [0, *places],
            [clean[column], *rows[column]],
            [0, *rows[f"{column} std"].fillna(0)],
            capsize=2,
            linewidth=1.3,
            **style[name],
        )
    axis.set_xticks(
        list(ticks), ["\n".join(sorted(t, key=_number)) for t in ticks.values()]
    )
    axis.set_xlabel("severity (each corruption's own unit)")
    axis.grid(alpha=0.3)


def _number(text: str) -> float:
    return -1.0 if text == "clean" else float(text)


def _worst(report: "RobustnessReport", name: str, curve: str) -> Frame:
    """Points of the largest severity of a corruption, first seed."""
    points = report.curves
    points = points[(points["corruption"] == name) & (points["curve"] == curve)]
    if not len(points):
        return points
    points = points[points["severity"] == points["severity"].max()]
    return points[points["seed"] == points["seed"].min()]


def _label(points: Frame, name: str) -> str:
    if name == "clean" or not len(points):
        return name
    return f"{name}, {points['severity'].iloc[0]:g}"


def _risk_coverage(
    axis: Axes,
    report: "RobustnessReport",
    names: list[str],
    style: dict[str, dict[str, Any]],
) -> None:
    for name in names:
        points = _worst(report, name, "risk_coverage")
        axis.plot(
            points["x"],
            points["y"],
            label=_label(points, name),
            markevery=8,
            linewidth=1.3,
            **style[name],
        )
    axis.set_xlabel("coverage: fraction of the samples that are answered")
    axis.set_ylabel("risk: fraction of errors among them")
    axis.set_xlim(0, 1)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)


def _reliability(
    axis: Axes,
    report: "RobustnessReport",
    names: list[str],
    style: dict[str, dict[str, Any]],
) -> None:
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for name in names:
        points = _worst(report, name, "reliability")
        axis.plot(points["x"], points["y"], linewidth=1.3, **style[name])
    axis.set_xlabel("probability of the predicted class")
    axis.set_ylabel("fraction of it that is right")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
