"""Change between two years: both classes of a pixel as one value, from · 10 + to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from app.errors import InvalidRequest
from app.render.attribute_table import Table, TableEntry
from model.legend import NODATA, Legend, Rgb

BASE = 10
TRANSITION = "land cover change: from · 10 + to"
MISREGISTRATION = (
    "Images of two years may lie some meters apart and are lit differently: edges of roofs, roads "
    "and crowns show as change that did not happen. Trust areas of change that are wide compared "
    "with 5 m, and look at the imagery of both years."
)

Classes = npt.NDArray[np.uint8]


def codes(before: Classes, after: Classes) -> Classes:
    """Return from · 10 + to, uint8 of the arrays' shape; 255 where either year has no data.

    `before`, `after`: uint8 of one shape, classes below 10, 255 = nodata.
    """
    known = (before != NODATA) & (after != NODATA)
    # 255 is taken out first: it would wrap around.
    first, second = np.where(known, before, 0), np.where(known, after, 0)
    values: Classes = np.where(known, first * BASE + second, NODATA).astype(np.uint8)
    return values


def transition_table(legend: Legend, colors: Mapping[int, Rgb] | None = None) -> Table:
    """Return every transition in the color of the class after; unchanged classes are pale.

    `colors` of the classes: the legend's own by default. InvalidRequest when the legend has too
    many classes for one byte.
    """
    if max(legend.values) >= BASE:
        raise InvalidRequest("model", len(legend.values), "a model of at most 9 classes for change")
    shown = colors or legend.colors()
    entries = []
    for before in legend.classes:
        for after in legend.classes:
            if before == after:
                name, title, rgb = (
                    before.name,
                    f"{before.title}, unchanged",
                    _pale(shown[after.value]),
                )
            else:
                name = f"{before.name}-to-{after.name}"
                title, rgb = f"{before.title} → {after.title}", shown[after.value]
            entries.append(TableEntry(before.value * BASE + after.value, name, title, rgb))
    return tuple(entries)


def stayed(value: int) -> bool:
    """Return whether a value means no change."""
    before, after = divmod(value, BASE)
    return before == after


def _pale(rgb: Rgb) -> Rgb:
    """Return the color three quarters of the way to a light gray."""
    red, green, blue = (round((part + 3 * 238) / 4) for part in rgb)
    return red, green, blue
