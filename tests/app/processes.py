"""`landcover serve` for real: processes of their own, on loopback, ended by their pid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx


@dataclass
class Running:
    """A server that was started."""

    process: subprocess.Popen[bytes]
    base: str
    log: Path

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)


@contextmanager
def serving(folder: Path, *arguments: object, **settings: object) -> Iterator[Running]:
    """`landcover serve` with LANDCOVER_* settings; its output goes to a file in `folder`."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "LANDCOVER_PORT": "0",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "300",
        **{f"LANDCOVER_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "app.cli", "serve", *map(str, arguments)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=folder
        )
    try:
        yield Running(process, _base_of(process, log), log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)


def figure(base: str, name: str) -> float:
    """The sum of a metric over its labels."""
    text = httpx.get(f"{base}/metrics", timeout=30).text
    values = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", text, re.MULTILINE)
    return sum(map(float, values))


def _base_of(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        found = re.search(r"http://[\d.]+:\d+", log.read_text())
        if found:
            try:
                if httpx.get(f"{found[0]}/readyz", timeout=60).status_code == 200:
                    return found[0]
            except httpx.TransportError:
                pass
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"the server did not answer in time: {log.read_text()}")
