"""Whether work may wait: interactive requests come first, a job's blocks take what is left.

The urgency of what is being done travels with it, as its asyncio context: everything a task starts
inherits it. Nothing between a job and a thread pool has to hand it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Urgency:
    """One computation's urgency. It may become urgent, when somebody urgent waits for it too."""

    __slots__ = ("urgent",)

    def __init__(self, urgent: bool) -> None:
        self.urgent = urgent


_INTERACTIVE = Urgency(True)
_current: ContextVar[Urgency] = ContextVar("landcover_urgency", default=_INTERACTIVE)


def current_urgency() -> Urgency:
    """That of the running task; urgent unless said otherwise."""
    return _current.get()


@contextmanager
def patient() -> Iterator[Urgency]:
    """What is done inside waits for whatever is urgent."""
    urgency = Urgency(False)
    token = _current.set(urgency)
    try:
        yield urgency
    finally:
        _current.reset(token)
