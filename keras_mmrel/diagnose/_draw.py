"""Pieces of the page: bars, dots, tables, a curve of calibration."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_mmrel.benchmark._page import escape
from keras_mmrel.diagnose._sentences import percent

Cell = Mapping[str, float | None]
# Of a square, of what stands left of it and above it.
SIZE, EDGE, TOP = 210, 34, 12


def bars(
    items: Sequence[tuple[str, Cell]],
    chance: float | None = None,
    other: Sequence[str] = (),
    sign: bool = False,
) -> str:
    """Draw a bar for each mean, with its error, in percent.

    Args:
        items: Label and cell of each.
        chance: Where a dashed line stands, or `None`.
        other: Labels of bars in the other colour.
        sign: Whether values are differences, which may be negative.
    """
    known = [(n, c) for n, c in items if c["mean"] is not None]
    if not known:
        return ""
    low = min([0.0, *((c["mean"] or 0) - (c["error"] or 0) for _, c in known)])
    high = 1.0
    if sign:
        high = max((c["mean"] or 0) + (c["error"] or 0) for _, c in known)
        high = max(high, -low, 0.01)
    span = high - low

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - low) / span)), 2)

    lines = []
    for name, cell in known:
        mean, error = cell["mean"] or 0.0, cell["error"] or 0.0
        left, right = sorted((at(0.0), at(mean)))
        kind = "fill other" if name in other else "fill"
        inner = _part(kind, left, right)
        if error:
            inner += _part("whisker", at(mean - error), at(mean + error))
        if chance is not None:
            inner += _part("chance", at(chance), at(chance))
        lines.append(_bar(name, inner, percent(cell, sign)))
    return f'<div class="bars">{"".join(lines)}</div>'


def dots(items: Sequence[tuple[str, Sequence[Cell]]]) -> str:
    """Draw up to three dots on a line from 0 to 100 % for each label."""
    kinds = ("dot", "dot other", "dot third")
    lines = []
    for name, cells in items:
        known = [
            (kind, cell["mean"])
            for kind, cell in zip(kinds, cells, strict=False)
            if cell["mean"] is not None
        ]
        if known:
            inner = "".join(
                f'<i class="{kind}" style="left:{100 * mean:.2f}%"></i>'
                for kind, mean in known
            )
            text = " / ".join(f"{100 * mean:.1f}" for _, mean in known)
            lines.append(_bar(name, inner, text))
    return f'<div class="bars">{"".join(lines)}</div>'


def _part(kind: str, left: float, right: float) -> str:
    return (
        f'<i class="{kind}" style="left:{left}%;'
        f'width:{round(right - left, 2)}%"></i>'
    )


def _bar(name: str, inner: str, value: str) -> str:
    return (
        f'<div class="bar"><span>{escape(name)}</span>'
        f'<span class="track">{inner}</span>'
        f'<span class="value">{escape(value)}</span></div>'
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    texts: Sequence[int] = (),
    chosen: Sequence[str] = (),
    heat: Sequence[Sequence[float]] | None = None,
) -> str:
    """Write a table.

    Args:
        head: Names of the columns.
        rows: Cells.
        texts: Columns that hold sentences.
        chosen: First cells of rows that stand out.
        heat: Of each row and each cell but the first, from 0 to 1.
    """

    def cell(text: str, place: int, row: int) -> str:
        kind = ' class="text"' if place in texts else ""
        style = ""
        if heat is not None and place:
            shade = heat[row][place - 1]
            style = f' style="background:rgb(var(--heat) / {shade:.2f})"'
        return f"<td{kind}{style}>{escape(text)}</td>"

    top = "".join(
        f"<th{' class=text' if p in texts else ''}>{escape(h)}</th>"
        for p, h in enumerate(head)
    )
    body = "".join(
        f"<tr{' class=chosen' if row[0] in chosen else ''}>"
        + "".join(cell(text, p, r) for p, text in enumerate(row))
        + "</tr>\n"
        for r, row in enumerate(rows)
    )
    return (
        f'<div class="wide{" texts" if texts else ""}"><table><thead>'
        f"<tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def curve(points: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> str:
    """Draw accuracy against confidence: raw, and after a temperature."""
    parts = [
        f'<rect x="{EDGE}" y="{TOP}" width="{SIZE}" height="{SIZE}" '
        'fill="none" stroke="var(--line)"/>',
        f'<line x1="{EDGE}" y1="{TOP + SIZE}" x2="{EDGE + SIZE}" y2="{TOP}" '
        'stroke="var(--faint)" stroke-dasharray="4 4"/>',
    ]
    for color, line in zip(
        ("var(--bar)", "var(--other)"), points.values(), strict=False
    ):
        places = [
            (
                EDGE + SIZE * float(p["confidence"]),
                TOP + SIZE * (1 - float(p["accuracy"])),
                2 + 6 * float(p["share"]) ** 0.5,
            )
            for p in line
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}"/>'
        )
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{color}"/>'
            for x, y, r in places
        ]
    for mark in (0, 50, 100):
        place = SIZE * mark / 100
        parts.append(
            f'<text x="{EDGE + place:.0f}" y="{SIZE + TOP + 16}" '
            f'text-anchor="middle">{mark}</text>'
            f'<text x="{EDGE - 5}" y="{TOP + 4 + SIZE - place:.0f}" '
            f'text-anchor="end">{mark}</text>'
        )
    wide, high = SIZE + EDGE + 14, SIZE + TOP + 22
    return (
        f'<figure><svg viewBox="0 0 {wide} {high}" width="{wide}" '
        f'height="{high}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(title)}</figcaption>"
        "</figure>"
    )
