"""The first view of the map in a browser, against the server's own time for the same tiles."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx

from tests.app.running import until
from tests.benchmarks.report import Finding
from tests.browser import launch

ROUNDS = 3
SIZE = {"width": 1280, "height": 800}
CONNECTIONS = 6
"""To one host, of every browser."""

FIRST_VIEW = """() => {
  const mark = performance.getEntriesByName("landcover:first-view")[0];
  if (!mark) return null;
  const tiles = performance.getEntriesByType("resource")
    .filter(({ name, responseEnd }) => name.includes("/tiles/") && responseEnd <= mark.startTime)
    .filter(({ name }) => !name.includes("quality=exact"));
  const from = Math.min(...tiles.map(({ startTime }) => startTime));
  return { at: mark.startTime, from, urls: tiles.map(({ name }) => name) };
}"""
"""Milliseconds since the address was opened, and the tiles that came before."""


def measure(county: Path) -> list[Finding]:
    """Return one finding for a cold server and one for a warm one; none without a browser."""
    if launch.CHROMIUM is None:
        print("paint: not measured, as there is no `chromium` on the PATH", file=sys.stderr)
        return []
    from playwright import sync_api

    with launch.launched(sync_api) as chromium:
        rounds = [_round(chromium, county) for _ in range(ROUNDS)]
    return [
        Finding(
            f"{kind} first view in the map ÷ the server's own time for its tiles",
            statistics.median(seen["painted"] / seen["served"] for seen in each),
            1.1,
            False,
            "; ".join(
                f"{seen['painted']:.2f} over {seen['served']:.2f} s of {seen['tiles']:.0f} tiles, "
                f"{seen['opened']:.2f} s since the address was opened"
                for seen in each
            ),
        )
        for kind, each in zip(("cold", "warm"), zip(*rounds, strict=True), strict=True)
    ]


def _round(chromium: Any, county: Path) -> list[dict[str, float]]:  # noqa: ANN401
    """Return what was seen of a cold server and of the same one warm, seconds."""
    with _fresh(county) as base:
        cold, warm = (_visit(chromium, base) for _ in range(2))
        warm["served"] = _served(warm["urls"])
    with _fresh(county) as other:
        cold["served"] = _served([url.replace(base, other) for url in cold["urls"]])
    return [cold, warm]


@contextmanager
def _fresh(county: Path) -> Iterator[str]:
    """Yield the address of a server that has computed nothing."""
    with launch.served("serve", "--imagery", county) as base:
        until(lambda: httpx.get(f"{base}/readyz").status_code == 200)
        yield base


def _visit(chromium: Any, base: str) -> dict[str, Any]:  # noqa: ANN401
    """Open the map in a new window and wait for its first view and for everything behind it."""
    context = chromium.new_context(viewport=SIZE)
    page = context.new_page()
    page.goto(f"{base}/map")
    # Not wait_for_function, which the page's content security policy forbids.
    while (found := page.evaluate(FIRST_VIEW)) is None:
        page.wait_for_timeout(50)
    page.locator("body[data-state=idle]").wait_for(timeout=180_000)
    context.close()
    return {
        "urls": found["urls"],
        "tiles": len(found["urls"]),
        "painted": (found["at"] - found["from"]) / 1000,
        "opened": found["at"] / 1000,
    }


def _served(urls: list[str]) -> float:
    """Return the seconds that a client takes for the same tiles over as many connections."""
    with httpx.Client(timeout=120) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        began = time.perf_counter()
        for answer in pool.map(client.get, urls):
            answer.raise_for_status()
        return time.perf_counter() - began
