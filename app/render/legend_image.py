"""A legend as a picture: one colored box and name per line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from model.legend import Rgb

Entries = tuple[tuple[str, Rgb], ...]
"""(name, color) from top to bottom."""

_LINE, _BOX, _MARGIN, _FONT = 22, 16, 6, 13


def legend_size(entries: Entries) -> tuple[int, int]:
    """Return (width, height) of the picture in pixels."""
    widest = max((_font().getlength(name) for name, _ in entries), default=0)
    return int(3 * _MARGIN + _BOX + widest + 0.999), 2 * _MARGIN + _LINE * len(entries)


@lru_cache(maxsize=32)
def legend_image(entries: Entries) -> bytes:
    """Return the picture as PNG."""
    image = Image.new("RGB", legend_size(entries), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for line, (name, color) in enumerate(entries):
        top = _MARGIN + line * _LINE
        box = (_MARGIN, top + 3, _MARGIN + _BOX, top + 3 + _BOX)
        draw.rectangle(box, fill=color, outline=(96, 96, 96))
        at = (2 * _MARGIN + _BOX, top + _LINE / 2 + 1)
        draw.text(at, name, fill=(0, 0, 0), font=_font(), anchor="lm")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def ramp(colors: Sequence[tuple[int, Rgb]], unit: str, steps: int = 5) -> Entries:
    """Return `steps` of a continuous ramp of (value, color), highest first, named with `unit`."""
    last = len(colors) - 1
    selected = (colors[round(last * step / (steps - 1))] for step in reversed(range(steps)))
    return tuple((f"{value} {unit}", color) for value, color in selected)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT)
