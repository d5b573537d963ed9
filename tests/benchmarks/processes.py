"""Two web processes against one, cold tiles on the same cores: throughput, and the same pixels."""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx

from tests.app.processes import serving
from tests.benchmarks.report import Finding
from tests.benchmarks.tiles import TMS, YEARS

CONNECTIONS = 12


def measure(county: Path, rounds: int = 3, reach: int = 3) -> Finding:
    """Pairs in turned order, a fresh server and a fresh shared cache each."""
    ratios, details = [], []
    for number in range(rounds):
        year = YEARS[number % len(YEARS)]
        seconds: dict[int, float] = {}
        pixels: dict[int, list[bytes]] = {}
        for processes in (1, 2) if number % 2 else (2, 1):
            seconds[processes], pixels[processes] = _cold(county, processes, year, reach)
        if pixels[1] != pixels[2]:
            raise RuntimeError("two processes answered with other pixels than one")
        ratios.append(seconds[1] / seconds[2])
        details.append(f"{seconds[2]:.1f} against {seconds[1]:.1f} s")
    return Finding(
        "throughput of two processes over one, cold tiles on the same cores",
        statistics.median(ratios),
        0.9,
        True,
        ", ".join(details) + f"; {(2 * reach + 1) ** 2} tiles, {CONNECTIONS} connections",
    )


def _cold(county: Path, processes: int, year: str, reach: int) -> tuple[float, list[bytes]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ("--imagery", county, "--processes", processes)
        with serving(folder, *options, cache_dir=folder / "cache") as server:
            time.sleep(5)  # every process is there, not only the first to answer
            west, south, east, north = httpx.get(
                f"{server.base}/WebMercatorQuad/tilejson.json", timeout=60
            ).json()["bounds"]
            middle = TMS.tile((west + east) / 2, (south + north) / 2, 17)
            span = range(-reach, reach + 1)
            paths = [
                f"{server.base}/tiles/WebMercatorQuad/17/{middle.x + dx}/{middle.y + dy}.png"
                f"?year={year}"
                for dy in span
                for dx in span
            ]
            with httpx.Client(timeout=120) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
                began = time.perf_counter()
                answers = list(pool.map(client.get, paths))
                lasted = time.perf_counter() - began
    if {answer.status_code for answer in answers} != {200}:
        raise RuntimeError(f"{[answer.status_code for answer in answers]}")
    return lasted, [answer.content for answer in answers]
