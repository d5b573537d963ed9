"""The service under test: `landcover serve`, a process of its own on a port that stays the same."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
NAMES = Path(__file__).parent / "names"
START_S = 90.0


def free_port() -> int:
    """Return a port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that can be started, killed and started again."""

    def __init__(self, folder: Path, *options: object, **settings: object) -> None:
        """`options`: of `landcover serve`; `settings`: LANDCOVER_*, by their lower-case names."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        self.no_names = folder / "no-names"
        """While this file exists, the server's process resolves no host name."""
        self._command = [sys.executable, "-m", "app.cli", "serve", *map(str, options)]
        given = {
            "engine": "onnxruntime", "port": self.port, "deadline_s": 15, **settings
        }  # fmt: skip
        clean = {k: v for k, v in os.environ.items() if not k.startswith("LANDCOVER_")}
        self._environment = {
            **clean,
            "PYTHONPATH": f"{NAMES}{os.pathsep}{ROOT}",
            "CHAOS_NO_NAMES": str(self.no_names),
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",  # as docs/operators.md recommends
            **{f"LANDCOVER_{name.upper()}": str(value) for name, value in given.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None
        return self._process

    @property
    def rss(self) -> int:
        """Resident bytes of the process and its children."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        return sum(each.memory_info().rss for each in family)

    @property
    def descriptors(self) -> int:
        """Open file descriptors of the process."""
        return int(psutil.Process(self.process.pid).num_fds())

    def start(self, ready: bool = True) -> float:
        """Start it; with `ready`, wait until `/readyz` answers and return the seconds it took."""
        began = time.monotonic()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=output, stderr=output, cwd=self.folder
            )
        while ready:
            status, _ = self.get("/readyz", timeout=5)
            if status in (200, 503):
                break
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.log.read_text()[-2000:]}")
            if time.monotonic() - began > START_S:
                raise RuntimeError(f"the server did not answer: {self.log.read_text()[-2000:]}")
            time.sleep(0.03)
        return time.monotonic() - began

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, its children too."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> int | None:
        """SIGTERM; its exit code."""
        if self._process is None or self._process.poll() is not None:
            return None
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def get(self, path: str, timeout: float = 30) -> tuple[int, bytes]:
        """Return (status, body) of one request; status 0 when there was no answer."""
        status, body, _ = self.ask("GET", path, timeout=timeout)
        return status, body

    def ask(
        self, method: str, path: str, body: object = None, timeout: float = 30, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Return (status, body, headers) of one request; status 0 when there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        content = None if body is None else json.dumps(body)
        sent = {"content-type": "application/json"} if content else {}
        try:
            connection.request(method, path, content, {**sent, **headers})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, answer.read(), named
        except (OSError, http.client.HTTPException):
            return 0, b"", {}
        finally:
            connection.close()

    def ready(self) -> dict[str, Any]:
        """Return what `/readyz` says; empty when there was no answer."""
        status, body = self.get("/readyz", timeout=5)
        return json.loads(body) if status else {}

    def figure(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        _, body = self.get("/metrics")
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", body.decode(), re.MULTILINE)
        return sum(map(float, found))
