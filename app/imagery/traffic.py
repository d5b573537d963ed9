"""What a source's reads cost: requests and bytes, as its server would count them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """Counters that only grow. `requests` holds every request sent, `retries` those sent again;
    `bytes` of bodies received; `failures` reads that ended without data."""

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(
        self, *, requests: int = 0, nbytes: int = 0, retries: int = 0, failures: int = 0
    ) -> None:
        """Adds to the counters; safe from several threads."""
        with self._lock:
            self.requests += requests
            self.bytes += nbytes
            self.retries += retries
            self.failures += failures
