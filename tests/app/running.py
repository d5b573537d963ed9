"""A server in a process of its own, and areas to ask it for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
from pyproj import Transformer
from shapely.geometry import box

from tests.world.world import World

TIMEOUT_S = 90.0


def area_of(world: World, shrink: float = 100, scene: int = 0) -> dict[str, Any]:
    """A rectangle within a scene, degrees."""
    left, bottom, right, top = world.scenes[scene].bounds
    project = Transformer.from_crs(world.scenes[scene].epsg, 4326, always_xy=True).transform
    corners = box(left + shrink, bottom + shrink, right - shrink, top - shrink).exterior.coords
    ring = [project(x, y) for x, y in corners]
    return {"type": "Polygon", "coordinates": [ring]}


def until(check: Callable[[], Any]) -> Any:  # noqa: ANN401
    """What `check` returns as soon as it is true."""
    ends = time.monotonic() + TIMEOUT_S
    while time.monotonic() < ends:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {TIMEOUT_S:g} s")


@contextmanager
def server(world: World, model: Path, jobs: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "LANDCOVER_IMAGERY": str(world.directory),
        "LANDCOVER_MODEL": str(model),
        "LANDCOVER_JOBS_DIR": str(jobs),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "error"], env=environment
    )
    base = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None
        try:
            return bool(httpx.get(f"{base}/healthz").status_code == 200)
        except httpx.TransportError:
            return False

    try:
        until(answers)
        yield base, process
    finally:
        process.kill()
        process.wait()
