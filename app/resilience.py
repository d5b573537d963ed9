"""How a server that fails is treated: tried again, left alone, and told from a slow one.

One RetryPolicy, one CircuitBreaker and one reading of `Retry-After` serve byte ranges, STAC and
token services, sources that start late, and Redis.
"""

from __future__ import annotations

import email.utils
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
"""HTTP answers that mean: ask again later."""
LONGEST_WAIT_S = 60.0
"""A `Retry-After` that asks for more is taken as this."""

Result = TypeVar("Result")
log = logging.getLogger("landcover.resilience")


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

    @property
    def is_transient(self) -> bool:
        """Whether another attempt may succeed."""
        return self.status is None or self.status in RETRIED_STATUSES


class OutOfReach(ServiceError):
    """Never requested: the operator did not point there. Says nothing of any server."""

    @property
    def is_transient(self) -> bool:
        """Return False: another attempt leads to the same place."""
        return False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long one call may take: attempts in all, seconds of each and of all together, and the
    pause before the second attempt, which doubles before each further one."""

    attempts: int = 3
    attempt_s: float = 8.0
    total_s: float = 12.0
    first_pause_s: float = 0.3

    def run(
        self,
        call: Callable[[float], Result],
        *,
        deadline: float | None = None,
        on_retry: Callable[[], object] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Result:
        """Return what `call(deadline)` returns, in seconds of `clock` (None: `total_s` from now).

        Raise its last ServiceError when attempts are used up, another one cannot help, or the wait
        that the server asks for would exceed the deadline: that is for the caller to know.
        """
        ends = clock() + self.total_s if deadline is None else deadline
        for attempt in itertools.count(1):
            try:
                return call(ends)
            except ServiceError as error:
                pause = max(self.first_pause_s * 2 ** (attempt - 1), error.retry_after)
                used_up = attempt >= self.attempts or clock() + pause >= ends
                if used_up or not error.is_transient:
                    raise
                log.debug("%s; attempt %d follows in %.1f s", error, attempt + 1, pause)
            on_retry()
            sleep(pause)
        raise AssertionError


class CircuitOpen(Exception):
    """The server is left alone for `wait_s` more seconds, because of `reason`."""

    def __init__(self, reason: str, wait_s: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


class CircuitBreaker:
    """Closed while calls succeed, open after `failures` in a row. After `rest_s` seconds, or what
    the server's `Retry-After` asks for, one call is let through (half-open) and its outcome
    decides; `probe` need not wait for one. Safe from several threads."""

    def __init__(
        self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._rest_s = self._rests_s = rest_s
        self._clock = clock
        self._changed = threading.Condition()
        self._failed = 0
        self._opened_at = 0.0
        self._requested = False
        self._trying = False
        self._closings = 0
        self._reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Return whether the server is left alone, or tried for the first time after."""
        return self._failed >= self._limit

    @property
    def reason(self) -> str | None:
        """Return why it is open, and for how long the server asked to be left alone."""
        requested_s = self.requested_s
        if self._reason is None or not requested_s:
            return self._reason
        return f"{self._reason}; it asked to be left alone, for {requested_s:.0f} s more"

    @property
    def requested_s(self) -> float:
        """Return the seconds that the server itself still asks to be left alone, at most 60."""
        left = self._opened_at + self._rests_s - self._clock()
        return max(left, 0.0) if self._requested and self.is_open else 0.0

    @contextmanager
    def guard(
        self, wait_s: float = 0.0, harmless: Callable[[Exception], bool] = lambda _: False
    ) -> Iterator[None]:
        """Run one call to the server; raise CircuitOpen instead while it is left alone.

        Every exception of the block is a failure, but for those that are `harmless`: the server
        answered. While another call is the one let through, its outcome is awaited for `wait_s`.
        """
        closings = self._enter(wait_s)
        try:
            yield
        except OutOfReach:
            self._undecided()
            raise
        except Exception as error:
            if harmless(error):
                self.succeeded()
            else:
                self._count(_reason_of(error), _requested_by(error), closings)
            raise
        except BaseException:  # cancelled
            self._undecided()
            raise
        self.succeeded()

    def probe(self, call: Callable[[], object]) -> bool:
        """Make a call beside the traffic, and close the circuit when it succeeds; return whether it
        did. Nothing is called while the server asks to be left alone.

        A probe that fails does not prolong the rest, but by what the server asks for: a call of the
        traffic may succeed where a short probe does not.
        """
        if self.requested_s:
            return False
        try:
            call()
        except Exception as error:
            requested = _requested_by(error)
            with self._changed:
                if self.is_open:
                    self._reason = _reason_of(error)
                    if requested:
                        self._rest(requested)
            log.debug("probe: %s", _reason_of(error))
            return False
        self.succeeded()
        return True

    def succeeded(self) -> None:
        """Close the circuit: the server answers."""
        with self._changed:
            self._closings += self.is_open
            self._failed, self._trying, self._requested, self._reason = 0, False, False, None
            self._changed.notify_all()

    def failed(self, reason: str, retry_after: float = 0.0) -> None:
        """Count a failure; `retry_after`: seconds the server asked to be left alone."""
        self._count(reason, retry_after, self._closings)

    def _count(self, reason: str, requested: float, closings: int) -> None:
        with self._changed:
            if closings != self._closings:
                return  # it began before the server was found to be back
            self._failed += 1
            self._trying = False
            self._changed.notify_all()
            if self.is_open:
                self._reason = reason
                self._rest(requested)

    def _rest(self, requested: float) -> None:
        self._opened_at = self._clock()
        self._requested = requested > 0
        self._rests_s = max(self._rest_s, min(requested, LONGEST_WAIT_S))

    def _undecided(self) -> None:
        """End a call that says nothing of the server."""
        with self._changed:
            self._trying = False
            self._changed.notify_all()

    def _enter(self, wait_s: float) -> int:
        """Return how often the circuit had closed when the call began."""
        with self._changed:
            if self._trying:
                self._changed.wait_for(lambda: not self._trying, wait_s)
            if not self.is_open:
                return self._closings
            waited = self._clock() - self._opened_at
            if self._trying or waited < self._rests_s:
                raise CircuitOpen(self.reason or "", max(self._rests_s - waited, 1.0))
            self._trying = True
            return self._closings


def _reason_of(error: Exception) -> str:
    """Return what may be shown of an error: texts of unexpected ones may hold addresses."""
    return str(getattr(error, "reason", f"unexpected {type(error).__name__}"))


def _requested_by(error: BaseException) -> float:
    """Return the seconds a server asked for, of its own error or of one that came from it."""
    while not isinstance(error, ServiceError):
        if error.__cause__ is None:
            return 0.0
        error = error.__cause__
    return error.retry_after


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that `Retry-After` asks to wait, 0 to 60: a number, or a date compared
    with the server's own clock (RFC 9110 §10.2.3). What is neither is 0."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT_S)
    at = http_date(text)
    now = http_date(headers.get("date", "")) or time.time()
    return 0.0 if at is None else min(max(0.0, at - now), LONGEST_WAIT_S)


def http_date(text: str) -> float | None:
    """Return an HTTP date as seconds since 1970, None when it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
