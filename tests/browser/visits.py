"""A visit to the map page in a real browser, and what one sees there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.legend import LEGEND

WIDE = {"width": 1200, "height": 760}
PHONE = {"width": 390, "height": 844}
IDLE_MS = 60_000
OPAQUE = "#opacity=100"
COLORS = LEGEND.colors("vivid")
"""Of the map, unless others are selected."""

DROP = """([name, text]) => {
  const data = new DataTransfer();
  data.items.add(new File([text], name));
  window.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""
"""Drops a file, [name, text], on the map."""

Pixels = npt.NDArray[np.uint8]


@dataclass
class Visit:
    """A visit to the page: the page, its requests, and the errors on the console."""

    page: Any
    base: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, fragment: str = "") -> Visit:
        """Open the map and wait until it is idle."""
        page = self.page
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        page.goto(f"{self.base}/map{fragment}")
        return self.idle()

    def idle(self) -> Visit:
        """Wait until tiles, shares and camera are idle."""
        self.page.wait_for_timeout(250)
        self.page.locator("body[data-state=idle]").wait_for(timeout=IDLE_MS)
        return self

    def requested(self, kind: str) -> list[str]:
        """Return the URLs requested so far that contain `kind`."""
        return [url for url in self.requests if kind in url]

    def pixels(self, left: int = 380) -> Pixels:
        """Return the window as drawn, right of column `left`: uint8 (rows, cols, 3)."""
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        return np.asarray(shot)[60:-60, left:]

    def tenths(self) -> dict[int, int]:
        """Return class value → share in the legend, tenths of a percent."""
        rows = self.page.locator("#legend li").all()
        return {
            int(row.get_attribute("data-value")): int(
                row.locator(".share").get_attribute("data-tenths")
            )
            for row in rows
        }

    def deltas(self) -> list[str]:
        """Return the legend's changes between two years, as text."""
        texts: list[str] = self.page.locator("#legend .delta").all_inner_texts()
        return texts

    def press(self, key: str) -> None:
        """Press a key on the divider."""
        self.page.locator("#knob").press(key)
        self.page.wait_for_timeout(200)


def class_shares(pixels: Pixels) -> dict[int, float]:
    """Return class value → percent of the class-colored pixels that have its exact color."""
    counts = {value: int((pixels == rgb).all(axis=-1).sum()) for value, rgb in COLORS.items()}
    total = max(1, sum(counts.values()))
    return {value: 100 * count / total for value, count in counts.items()}


def class_cover(pixels: Pixels) -> float:
    """Return the share of the pixels that have any class's color, 0..1."""
    hit = [(pixels == rgb).all(axis=-1) for rgb in COLORS.values()]
    return float(np.logical_or.reduce(hit).mean())


def answer(status: int, **headers: str) -> Callable[[Any], None]:
    """Return a route handler that answers every request with a problem document."""
    body = json.dumps({"title": "Imagery unavailable", "detail": "scene m_1 cannot be read"})
    kind = "application/problem+json"
    return lambda route: route.fulfill(status=status, body=body, content_type=kind, headers=headers)
