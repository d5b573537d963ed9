"""The reliability curve as an SVG picture."""

from __future__ import annotations

from training.confidence import Reliability

PAPER = 320
"""Side of the reliability diagram in px."""


def diagram(curve: Reliability) -> str:
    """Accuracy over confidence; a disc's area is its share of the pixels."""
    edge, side = 44, PAPER - 60
    total = sum(b.pixels for b in curve.bins) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + x * side, 14 + (1 - y) * side

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x0, y), (x1, _) = at(0, tick), at(1, tick)
        (x, y0), (_, y1) = at(tick, 0), at(tick, 1)
        parts += [
            f'<line x1="{x0}" y1="{y:.1f}" x2="{x1}" y2="{y:.1f}" stroke="#e6ebf0"/>',
            f'<line x1="{x:.1f}" y1="{y0}" x2="{x:.1f}" y2="{y1}" stroke="#e6ebf0"/>',
            f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.0f}</text>',
            f'<text x="{x:.1f}" y="{y0 + 16}" text-anchor="middle">{100 * tick:.0f}</text>',
        ]
    (ax, ay), (bx, by) = at(0, 0), at(1, 1)
    parts.append(
        f'<line x1="{ax}" y1="{ay}" x2="{bx}" y2="{by}" stroke="#9aa7b4" stroke-dasharray="4 4"/>'
    )
    points = [(*at(b.confidence, b.accuracy), b.pixels) for b in curve.bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#2e6da4" stroke-width="2"/>')
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.5 + 14 * (n / total) ** 0.5:.1f}" '
        'fill="#2e6da4" fill-opacity="0.45" stroke="#2e6da4"/>'
        for x, y, n in points
    ]
    middle = edge + side / 2
    parts += [
        f'<text x="{middle}" y="{PAPER - 4}" text-anchor="middle">confidence, %</text>',
        f'<text x="12" y="{14 + side / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {14 + side / 2})">accuracy, %</text>',
    ]
    return (
        f'<svg width="{PAPER}" height="{PAPER}" viewBox="0 0 {PAPER} {PAPER}" role="img" '
        'aria-label="Accuracy by confidence" font-size="11" fill="#5b6775">'
        f"{''.join(parts)}</svg>"
    )
