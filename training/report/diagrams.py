"""Diagrams as SVG: reliability of one result, F1 by class of several, learning curves of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from model.legend import LEGEND
from training.evaluate.confidence import Interval, Reliability

COLORS = ("#c0392b", "#2e6da4", "#1e7b34", "#8e5ea2", "#b8860b")
NOT_PLOTTED = {"step", "score", "loss"}
"""Keys of a history entry that have no curve of their own on the axis of shares."""


def reliability_diagram(curve: Reliability, side: int = 320) -> str:
    """Return accuracy over confidence; a disc's area is its share of the pixels."""
    edge, plot = 44, side - 60
    total = sum(b.pixels for b in curve.bins) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + x * plot, 14 + (1 - y) * plot

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, y0), (x0, y) = at(tick, 0), at(0, tick)
        parts += [_line((x0, y), at(1, tick)), _line((x, y0), at(tick, 1))]
        parts += [_text(x0 - 6, y + 4, f"{100 * tick:.0f}", "end")]
        parts += [_text(x, y0 + 16, f"{100 * tick:.0f}")]
    parts.append(_line(at(0, 0), at(1, 1), "#9aa7b4", dashes="4 4"))
    points = [(at(b.confidence, b.accuracy), b.pixels) for b in curve.bins]
    parts.append(_path([point for point, _ in points], COLORS[1]))
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.5 + 14 * (n / total) ** 0.5:.1f}" '
        f'fill="{COLORS[1]}" fill-opacity="0.45" stroke="{COLORS[1]}"/>'
        for (x, y), n in points
    ]
    middle = 14 + plot / 2
    parts.append(_text(edge + plot / 2, side - 4, "confidence, %"))
    parts.append(_text(12, middle, "accuracy, %", turned=True))
    return _svg(side, side, "Accuracy by confidence", parts)


def class_diagram(
    title: str, series: Sequence[tuple[str, Sequence[float], Sequence[Interval]]]
) -> str:
    """Return F1 by class of several results: name, F1 of the classes in the legend's order (nan:
    no pixels) and their intervals.
    """
    left, top, row, wide = 70, 18 * len(series) + 34, 16, 480
    band = row * len(series) + 14
    high = band * len(LEGEND.classes)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + tick * wide
        parts += [_line((x, top), (x, top + high)), _text(x, top + high + 16, f"{tick:.2f}")]
    for number, (name, _, _) in enumerate(series):
        y = 18 * number + 22
        parts += [_disc(left + 5, y - 4, number), _text(left + 16, y, name, "start")]
    for i, c in enumerate(LEGEND.classes):
        parts.append(_text(left - 8, top + band * i + band / 2 + 4, c.name, "end"))
        for number, (_, f1, spread) in enumerate(series):
            level = top + band * i + 7 + row * (number + 0.5)
            if not np.isnan(spread[i].low):
                ends = [(left + wide * end, level) for end in (spread[i].low, spread[i].high)]
                parts.append(_line(ends[0], ends[1], COLORS[number % len(COLORS)], width=2))
            if not np.isnan(f1[i]):
                parts.append(_disc(left + wide * f1[i], level, number))
    parts.append(_text(left + wide / 2, top + high + 34, "F1"))
    return _svg(left + wide + 24, top + high + 42, title, parts)


def learning_curves(history: Sequence[Mapping[str, float]]) -> str:
    """Return the loss (left axis) and every share (right axis) of a run's history, which has for
    each validation `step`, mean training `loss` since the last one, and shares 0..1 by name.
    """
    width, height, left, right, top, bottom = 720, 360, 52, 160, 16, 44
    span = max((entry["step"] for entry in history), default=1.0) or 1.0
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    most = max((value for _, value in losses), default=1.0) or 1.0
    names = sorted({name for entry in history for name in entry} - NOT_PLOTTED)
    series = [("training loss", [(step, value / most) for step, value in losses])]
    series += [(n.replace("_", " "), [(e["step"], e[n]) for e in history if n in e]) for n in names]
    wide, high = width - left - right, height - top - bottom
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = top + (1 - tick) * high, left + tick * wide
        parts += [
            _line((left, y), (left + wide, y)),
            _text(left - 6, y + 4, f"{most * tick:.2f}", "end"),
            _text(left + wide + 6, y + 4, f"{100 * tick:.0f} %", "start"),
            _text(x, top + high + 18, f"{span * tick:,.0f}"),
        ]
    for number, (name, points) in enumerate(series):
        at = [(left + step / span * wide, top + (1 - value) * high) for step, value in points]
        color = COLORS[number % len(COLORS)]
        parts += [_path(at, color), *(_disc(x, y, number, 2.5) for x, y in at)]
        parts.append(_text(left + wide + 44, top + 14 + 18 * number, name, "start", color))
    parts.append(_text(left + wide / 2, height - 8, "steps"))
    return _svg(width, height, "Learning curves", parts) + "\n"


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        'font-family="sans-serif" font-size="11" fill="#5b6775">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>'
    )


def _line(
    a: tuple[float, float],
    b: tuple[float, float],
    color: str = "#e6ebf0",
    width: int = 1,
    dashes: str = "",
) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
        f'stroke="{color}" stroke-width="{width}"{dashed}/>'
    )


def _path(points: Sequence[tuple[float, float]], color: str) -> str:
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{at}" fill="none" stroke="{color}" stroke-width="2"/>'


def _disc(x: float, y: float, number: int, radius: float = 4) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{COLORS[number % len(COLORS)]}"/>'


def _text(
    x: float, y: float, text: str, anchor: str = "middle", color: str = "", turned: bool = False
) -> str:
    fill = f' fill="{color}"' if color else ""
    turn = f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}{turn}>{escape(text)}</text>'
