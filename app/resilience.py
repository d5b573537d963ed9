"""A circuit breaker: after some failures in a row a server is left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class ServiceError(Exception):
    """No usable answer from a server. The text is safe to show: it holds no address's query.

    `status`: the HTTP status (None: no answer came); `retry_after`: seconds the server asked to
    wait; `timed_out`: it was too slow rather than down.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        timed_out: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.timed_out = timed_out


class CircuitBreaker:
    """Closed while requests succeed, open after `failures` in a row; after `rest_s` one request
    is let through to try (half-open), and its outcome decides. Safe from several threads."""

    def __init__(
        self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._changed = threading.Condition()
        self._failed = 0
        self._opened_at = 0.0
        self._trying = False
        self.opened = 0
        self.reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the server is being left alone, or tried for the first time after."""
        return self._failed >= self._limit

    def enter(self, patience_s: float = 0.0) -> float:
        """0 when a request may be sent (its outcome must be told), else seconds to wait.

        While another request is the one that tries, its outcome is awaited for `patience_s`.
        """
        with self._changed:
            if self._trying:
                self._changed.wait_for(lambda: not self._trying, patience_s)
            if not self.is_open:
                return 0.0
            waited = self._clock() - self._opened_at
            if self._trying or waited < self._rest_s:
                return max(self._rest_s - waited, 1.0)
            self._trying = True
            return 0.0

    def succeeded(self) -> None:
        """The server answers."""
        with self._changed:
            self._failed, self._trying, self.reason = 0, False, None
            self._changed.notify_all()

    def failed(self, reason: str) -> None:
        """The server did not answer, or said that it cannot."""
        with self._changed:
            self._failed += 1
            self._trying = False
            self._changed.notify_all()
            if self.is_open:
                self._opened_at = self._clock()
                self.reason = reason
                self.opened += self._failed == self._limit
