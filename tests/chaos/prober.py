"""The prober: a process of its own that asks all the time and checks every answer.

`python -m tests.chaos.prober` reads commands from its standard input, one JSON object a line, and
writes what it saw to its standard output, one JSON object a line, timed by the clock of the
machine (CLOCK_MONOTONIC), which all processes share. Three loops run beside each other: `/healthz`
of the service and that of an idle process on the same machine, warm tiles, and cold ones.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.oracle import Expected, classes_of_png, digest_of

HEALTH_S, WARM_S, COLD_S = 0.025, 0.05, 0.1
"""Pauses between two requests of a loop."""
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. `kind`: health, control, warm or cold; `at`: when it began, monotonic seconds;
    `code`: its status, or refused, reset or timeout; `wrong`: it showed wrong pixels; `marks`:
    stale, or no-retry-after."""

    kind: str
    at: float
    took: float
    code: str
    wrong: bool = False
    marks: tuple[str, ...] = ()
    path: str = ""


class Connection:
    """A kept connection to a server on loopback, opened again when it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> tuple[str, bytes, dict[str, str]]:
        """Return (status, body, headers); the name of what went wrong when there is no answer.

        A kept connection that the server has closed meanwhile is replaced, as every client does.
        """
        kept = self._connection is not None
        code, body, headers = self._once(path)
        return self._once(path) if kept and code == "reset" else (code, body, headers)

    def _once(self, path: str) -> tuple[str, bytes, dict[str, str]]:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self._port, timeout=TIMEOUT_S
                )
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
            headers = {name.lower(): value for name, value in answer.getheaders()}
        except ConnectionRefusedError:
            self.close()
            return "refused", b"", {}
        except TimeoutError:
            self.close()
            return "timeout", b"", {}
        except (OSError, http.client.HTTPException):
            self.close()
            return "reset", b"", {}
        if headers.get("connection", "").lower() == "close":
            self.close()
        return str(answer.status), body, headers

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Judge:
    """Tells right pixels from wrong ones. A body that was right once is known by its digest."""

    def __init__(self) -> None:
        self._right: dict[str, str] = {}

    def is_wrong(self, body: bytes, digests: Sequence[str]) -> bool:
        """Return whether the body of a 200 is not the tile."""
        name = hashlib.blake2b(body, digest_size=16).hexdigest()
        shown = self._right.get(name)
        if shown is None:
            try:
                shown = digest_of(classes_of_png(body))
            except (OSError, ValueError, SyntaxError):
                return True
            self._right[name] = shown
        return shown not in digests


class Probes:
    """What is asked for now, and the loops that ask."""

    def __init__(self, port: int, control_port: int, report: Callable[[Seen], None]) -> None:
        self._port, self._control = port, control_port
        self._report = report
        self._judge = Judge()
        self._lists: dict[str, list[Any]] = {"warm": [], "cold": []}
        self._stopped = threading.Event()
        loops: Iterable[tuple[Callable[..., None], tuple[Any, ...]]] = (
            (self._beat, ("health", port, "/healthz")),
            (self._beat, ("control", control_port, "/")),
            (self._tiles, ("warm", WARM_S)),
            (self._tiles, ("cold", COLD_S)),
            (self._tiles, ("cold", COLD_S)),
        )
        self._threads = [threading.Thread(target=f, args=a, daemon=True) for f, a in loops]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def ask(self, command: dict[str, Any]) -> None:
        """Replace the warm or the cold tiles."""
        self._lists = {**self._lists, **command}

    def stop(self) -> None:
        """End the loops after the requests under way."""
        self._stopped.set()

    def _beat(self, kind: str, port: int, path: str) -> None:
        connection = Connection(port)
        while not self._stopped.wait(HEALTH_S):
            began = time.monotonic()
            code, _, _ = connection.get(path)
            self._report(Seen(kind, began, time.monotonic() - began, code))

    def _tiles(self, kind: str, pause: float) -> None:
        connection, number = Connection(self._port), 0
        while not self._stopped.wait(pause):
            requested = self._lists[kind]
            if not requested:
                continue
            path, digests = requested[number % len(requested)]
            number += 1
            began = time.monotonic()
            code, body, headers = connection.get(path)
            took = time.monotonic() - began
            marks = []
            if headers.get("x-landcover-stale"):
                marks.append("stale")
            if code in ("429", "503") and "retry-after" not in headers:
                marks.append("no-retry-after")
            wrong = code == "200" and self._judge.is_wrong(body, digests)
            self._report(Seen(kind, began, took, code, wrong, tuple(marks), path))


def main() -> None:
    """Probe until the standard input ends."""
    first = json.loads(sys.stdin.readline())
    lock = threading.Lock()

    def report(seen: Seen) -> None:
        line = json.dumps(asdict(seen))
        with lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    probes = Probes(first["port"], first["control"], report)
    probes.ask({"warm": first["warm"], "cold": []})
    probes.start()
    for line in sys.stdin:
        probes.ask(json.loads(line))
    probes.stop()


class Prober:
    """The prober's process, and all that it has seen so far."""

    def __init__(self, port: int, control_port: int, warm: Sequence[Expected]) -> None:
        self.seen: list[Seen] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.prober"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        documents = [each.document() for each in warm]
        self._send({"port": port, "control": control_port, "warm": documents})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask_cold(self, tiles: Sequence[Expected]) -> None:
        """Ask for these tiles, over and over, until others are named."""
        self._send({"cold": [tile.document() for tile in tiles]})

    def between(self, began: float, ended: float) -> list[Seen]:
        """Return the requests that were under way in a time."""
        return [s for s in list(self.seen) if s.at + s.took >= began and s.at <= ended]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(TIMEOUT_S)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        self._reader.join(5)

    def _send(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fields = json.loads(line)
            self.seen.append(Seen(**{**fields, "marks": tuple(fields["marks"])}))


if __name__ == "__main__":
    main()
