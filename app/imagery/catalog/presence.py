"""Whether a directory is there, asked so that a disk that hangs holds nobody up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

KNOWN_S = 0.1
"""Seconds for which an answer holds: every warm tile asks."""
WAIT_S = 0.02
"""Seconds that the caller, the event loop among them, waits for a disk; a local one takes 2 µs."""
PATIENCE_S = 2.0
"""A disk that has not answered for so long counts as missing."""


class Presence:
    """The presence of one path, looked for in a thread of its own: on a network disk whose server
    is gone, `stat` never returns. Called from one thread, or from several when answers may be of
    the moment before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._missing: str | None = None
        self._asked = float("-inf")
        self._thread: threading.Thread | None = None

    def missing(self) -> str | None:
        """Return why the path is not there, None when it is; waits at most WAIT_S."""
        now = time.monotonic()
        waiting = self._thread is not None and self._thread.is_alive()
        if waiting and now - self._asked >= PATIENCE_S:
            return f"{self.path}: the disk has not answered for {now - self._asked:.0f} s"
        if not waiting and now - self._asked >= KNOWN_S:
            self._asked = now
            self._thread = threading.Thread(target=self._look, name="presence", daemon=True)
            self._thread.start()
            self._thread.join(WAIT_S)
        return self._missing

    def _look(self) -> None:
        try:
            self._missing = None if self.path.exists() else f"{self.path}: no such directory"
        except OSError as error:
            self._missing = f"{self.path}: {error.strerror}"
