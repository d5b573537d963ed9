"""The learning curves of a run as an SVG picture: the loss, and what validation said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 52, 160, 16, 44
COLORS = ("#c0392b", "#2e6da4", "#1e7b34", "#8e5ea2", "#b8860b")
APART = {"step", "score", "loss"}
"""Not curves of their own on the axis of shares."""


def curves(history: Sequence[Mapping[str, float]]) -> str:
    """`history`: by validation, `step`, mean training `loss` since the last one, and shares 0..1 by
    name. The loss has the left axis, the shares the right one.
    """
    steps = [entry["step"] for entry in history]
    span = max(steps, default=1.0) or 1.0
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    top = max((value for _, value in losses), default=1.0) or 1.0
    names = sorted({name for entry in history for name in entry} - APART)
    series = [("training loss", [(s, v / top) for s, v in losses])]
    series += [(n.replace("_", " "), [(e["step"], e[n]) for e in history if n in e]) for n in names]
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(step: float, share: float) -> str:
        return f"{LEFT + step / span * wide:.1f},{TOP + (1 - share) * high:.1f}"

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y, x = TOP + (1 - tick) * high, LEFT + tick * wide
        parts += [
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + wide}" y2="{y:.1f}" stroke="#e6ebf0"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * tick:.2f}</text>',
            f'<text x="{LEFT + wide + 6}" y="{y + 4:.1f}">{100 * tick:.0f} %</text>',
            f'<text x="{x:.1f}" y="{TOP + high + 18}" text-anchor="middle">'
            f"{span * tick:,.0f}</text>",
        ]
    for number, (name, points) in enumerate(series):
        color = COLORS[number % len(COLORS)]
        line = " ".join(at(step, share) for step, share in points)
        y = TOP + 14 + 18 * number
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>',
            *(
                f'<circle cx="{x}" cy="{y_}" r="2.5" fill="{color}"/>'
                for x, y_ in (at(*point).split(",") for point in points)
            ),
            f'<text x="{LEFT + wide + 44}" y="{y}" fill="{color}">{name}</text>',
        ]
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">steps</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" fill="#5b6775">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )
