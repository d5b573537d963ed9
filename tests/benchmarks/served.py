"""A real server on loopback, and a client that costs little."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2 as httpx
import psutil

SERVE = "landcover serve"


@dataclass(frozen=True, slots=True)
class Served:
    """A running server process."""

    base: str
    port: int
    process: psutil.Process

    def get(self, paths: Sequence[str], connections: int) -> None:
        """Fetches every path once over so many connections; RuntimeError unless all are 200."""
        with httpx.Client(base_url=self.base, timeout=120) as client:

            def fetch(path: str) -> None:
                answer = client.get(path)
                if answer.status_code != 200:
                    raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")

            with ThreadPoolExecutor(connections) as pool:
                list(pool.map(fetch, paths))

    def hammer(self, path: str, times: int) -> float:
        """Asks for one path over one kept connection; the server's CPU seconds for it."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        before = self.process.cpu_times()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            for _ in range(times):
                connection.sendall(request)
                _read_answer(connection)
        after = self.process.cpu_times()
        return float(after.user - before.user + after.system - before.system)

    @property
    def rss(self) -> int:
        """Resident bytes."""
        return int(self.process.memory_info().rss)


@contextmanager
def served(app: str, environment: dict[str, str]) -> Iterator[Served]:
    """Runs `app`, SERVE or (`module:factory`) under plain uvicorn, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if app == SERVE:
        command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    else:
        command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port)]
        command += ["--log-level", "warning", "--no-access-log"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
    )
    try:
        base = f"http://127.0.0.1:{port}"
        _wait(base, process)
        yield Served(base, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(30)


def _wait(base: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            httpx.get(f"{base}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not answer within 60 s")


def _read_answer(connection: socket.socket) -> None:
    data = connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(head.decode("latin-1"))
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
