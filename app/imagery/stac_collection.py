"""What a STAC collection says of its extent; what it does not say, or says wrongly, is None."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from app.grid import Bounds


def bounds_in(collection: dict[str, Any]) -> Bounds | None:
    """The first box of a collection's spatial extent, which holds all others."""
    try:
        box = collection["extent"]["spatial"]["bbox"][0]
        west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
        return float(west), float(south), float(east), float(north)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def years_in(collection: dict[str, Any], now: float) -> set[int]:
    """The years of a collection's temporal extent; an open end is this year."""
    try:
        start, end = collection["extent"]["temporal"]["interval"][0]
        last = int(end[:4]) if end else datetime.fromtimestamp(now, UTC).year
        return set(range(int(start[:4]), last + 1))
    except (KeyError, IndexError, TypeError, ValueError):
        return set()
