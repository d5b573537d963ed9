"""Tiles beside an area job, and beside another client that asks for much: ratios in one run."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from shapely import to_geojson, transform
from shapely.geometry import box

from app.grid.pixel_grid import transformer
from app.grid.tile import TMS
from model.windows import BLOCK, Window
from tests.benchmarks.jobs import FIRST_COL, FIRST_ROW, GRID, write_noise
from tests.benchmarks.report import Finding
from tests.benchmarks.served import SERVE, Served, served

EDGE = 16
"""Blocks along the edge of the imagery."""

ROUNDS = 3
WARM_S = 6.0
"""Seconds of each measurement of warm tiles."""

PAUSE_S = 0.02
"""Between two requests of one connection: the load of a few people, not of a test of strength."""

ZOOM = 17


def measure() -> list[Finding]:
    """Return the findings, each a ratio of two measurements of one run."""
    with tempfile.TemporaryDirectory() as folder:
        imagery = Path(folder) / "noise_20170903.tif"
        write_noise(imagery, EDGE)
        environment = {
            "LANDCOVER_IMAGERY": str(imagery),
            "LANDCOVER_TRUSTED_PROXIES": '["*"]',
            "LANDCOVER_JOBS_DIR": f"{folder}/jobs",
            "LANDCOVER_JOBS_PER_CLIENT": "32",
        }
        with served(SERVE, environment) as server:
            return [*_warm(server), _cold(server), _greedy(server)]


def _warm(server: Served) -> Iterator[Finding]:
    """Warm tiles and `/healthz`, idle and beside a job, by turns."""
    paths = [_tile(col, 0) for col in range(4)]
    server.get(paths, 1)
    ratios: dict[str, list[float]] = {"tile": [], "healthz": []}
    shown: dict[str, list[float]] = {name: [] for name in ("idle", "busy", "health")}
    for number in range(ROUNDS):
        idle = _paced(server, paths), _paced(server, ["/healthz"])
        with _job(server, 2 + 4 * number):
            busy = _paced(server, paths), _paced(server, ["/healthz"])
        ratios["tile"].append(_p95(busy[0]) / _p95(idle[0]))
        ratios["healthz"].append(_p95(busy[1]) / _p95(idle[1]))
        shown["idle"].append(_p95(idle[0]))
        shown["busy"].append(_p95(busy[0]))
        shown["health"].append(max(busy[1]))
    idle_ms, busy_ms = (1000 * float(np.median(shown[name])) for name in ("idle", "busy"))
    detail = (
        f"p95 {idle_ms:.1f} ms idle, {busy_ms:.1f} ms beside a job; longest /healthz "
        f"{1000 * max(shown['health']):.0f} ms; ratios {[round(r, 2) for r in ratios['tile']]}"
    )
    yield Finding(
        "Warm tile beside an area job / alone, p95",
        float(np.median(ratios["tile"])),
        1.5,
        False,
        detail,
    )


def _cold(server: Served) -> Finding:
    """Tiles that nobody has seen, one after the other, idle and beside a job."""
    idle = [_timed(server, _tile(6 + number, 0)) for number in range(6)]
    with _job(server, 14):
        busy = [_timed(server, _tile(6 + number, 0, row=1)) for number in range(6)]
    ratio = float(np.median(busy) / np.median(idle))
    detail = f"median {np.median(idle):.2f} s alone, {np.median(busy):.2f} s beside a job"
    return Finding("Cold tile beside an area job / alone", ratio, 8.0, False, detail)


def _greedy(server: Served) -> Finding:
    """A cold tile of one client while another has 24 points with probabilities in work."""
    alone = [_timed(server, _tile(12 + number, 0, row=0)) for number in range(3)]
    lon, lat = _place(3.5, 0.5)
    point = f"/point/{lon},{lat}?probabilities=true"
    stopping = threading.Event()

    def flood() -> None:
        with httpx.Client(base_url=server.base, timeout=120) as client:
            while not stopping.is_set():
                client.get(point, headers={"x-forwarded-for": "192.0.2.1"})

    with ThreadPoolExecutor(24) as threads:
        for _ in range(24):
            threads.submit(flood)
        time.sleep(2)
        beside = [_timed(server, _tile(12 + number, 0, row=1)) for number in range(3)]
        stopping.set()
    ratio = float(np.median(beside) / np.median(alone))
    detail = f"median {np.median(alone):.2f} s alone, {np.median(beside):.2f} s beside them"
    name = "Cold tile beside another client's 24 × probabilities / alone"
    return Finding(name, ratio, 8.0, False, detail)


def _paced(server: Served, paths: Sequence[str], connections: int = 4) -> list[float]:
    """Seconds of every answer that came within WARM_S."""

    def ask(_: int) -> list[float]:
        found: list[float] = []
        with httpx.Client(base_url=server.base, timeout=60) as client:
            end = time.monotonic() + WARM_S
            while time.monotonic() < end:
                began = time.perf_counter()
                client.get(paths[len(found) % len(paths)]).raise_for_status()
                found.append(time.perf_counter() - began)
                time.sleep(PAUSE_S)
        return found

    with ThreadPoolExecutor(connections) as pool:
        return [each for part in pool.map(ask, range(connections)) for each in part]


def _timed(server: Served, path: str) -> float:
    began = time.perf_counter()
    answer = httpx.get(server.base + path, timeout=120, headers={"x-forwarded-for": "192.0.2.2"})
    answer.raise_for_status()
    return time.perf_counter() - began


@contextmanager
def _job(server: Served, row: int) -> Iterator[None]:
    """A job of another client over all blocks of some rows, running until it is left."""
    rows = min(4, EDGE - row)
    window = Window(FIRST_COL * BLOCK, (FIRST_ROW + row) * BLOCK, EDGE * BLOCK, rows * BLOCK)
    left, bottom, right, top = GRID.bounds(window)
    project = transformer(GRID.crs, "OGC:CRS84").transform
    inside = box(left, bottom, right, top).buffer(-BLOCK * GRID.resolution / 8, join_style="mitre")
    ground = transform(inside.segmentize(100), project, interleaved=False)
    area: dict[str, Any] = json.loads(to_geojson(ground))
    answer = httpx.post(
        f"{server.base}/processes/classify-area/execution",
        json={"inputs": {"area": area}},
        headers={"prefer": "respond-async", "x-forwarded-for": "192.0.2.3"},
        timeout=60,
    )
    answer.raise_for_status()
    job = answer.headers["location"]
    while httpx.get(job).json()["blocks"]["done"] == 0:
        time.sleep(0.1)
    try:
        yield
        status = httpx.get(job).json()
        if status["status"] != "running":
            print(f"the job ended before the measurement: {status['status']}", flush=True)
    finally:
        httpx.delete(job)


def _place(col: float, row: float) -> tuple[float, float]:
    """Degrees of a place in blocks from the corner of the imagery."""
    x = (FIRST_COL + col) * BLOCK * GRID.resolution
    y = GRID.transform(Window(0, int((FIRST_ROW + row) * BLOCK), 1, 1)).f
    lon, lat = transformer(GRID.crs, "OGC:CRS84").transform(x, y)
    return float(lon), float(lat)


def _tile(col: int, dx: int, row: int = 0) -> str:
    """The tile in the middle of a block."""
    tile = TMS.tile(*_place(col + 0.5, row + 0.5), ZOOM + 2)
    return f"/tiles/WebMercatorQuad/{tile.z}/{tile.x + dx}/{tile.y}.png"


def _p95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95))
