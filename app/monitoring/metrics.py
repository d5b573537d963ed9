"""The service's Prometheus metrics, which `/metrics` shows.

Labels are few and bounded: never a tile's address, a client or a path. With several processes
`PROMETHEUS_MULTIPROC_DIR` (set by `landcover serve --processes`) names the directory where they add
up; any of them answers for all.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

Args = ParamSpec("Args")
Result = TypeVar("Result")

log = logging.getLogger("landcover.metrics")

REGISTRY = CollectorRegistry()
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BLOCKS = (1, 2, 4, 9, 16, 36, 64, 256, 1024)

REQUESTS = Counter(
    "landcover_requests",
    "Answers by route and status.",
    ("route", "status"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "landcover_request_seconds",
    "From a request's head to the end of its answer, by route.",
    ("route",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
TILES = Counter(
    "landcover_tiles",
    "Tiles by kind (class, imagery) and outcome: memory (rendered before), not_modified, full, "
    "estimate, footprints, refused (4xx), busy, unavailable (imagery), late, gone (client), "
    "failed.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
CACHE = Counter(
    "landcover_cache_requests",
    "Blocks looked for in a tier (memory, disk, redis), by result (hit, miss).",
    ("tier", "result"),
    registry=REGISTRY,
)
CACHE_DAMAGED = Counter(
    "landcover_cache_damaged",
    "Entries that were not as written: deleted, never served.",
    ("tier",),
    registry=REGISTRY,
)
CACHE_DEGRADED = Gauge(
    "landcover_cache_degraded",
    "1 while a tier is out of use.",
    ("tier",),
    multiprocess_mode="livemax",
    registry=REGISTRY,
)
BLOCKS_INFERRED = Counter(
    "landcover_blocks_inferred", "Blocks classified by the network and put in the cache.",
    registry=REGISTRY,
)  # fmt: skip
REQUEST_BLOCKS = Histogram(
    "landcover_request_blocks",
    "Blocks under one tile.",
    buckets=_BLOCKS,
    registry=REGISTRY,
)
INFERENCE_SECONDS = Histogram(
    "landcover_inference_seconds",
    "One window, of one block or of neighbors, through the network, waiting not included.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
READ_SECONDS = Histogram(
    "landcover_read_seconds",
    "Imagery of one block, all its scenes, waiting not included.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
QUEUE = Gauge(
    "landcover_queue_blocks",
    "Blocks in work or waiting for it.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
REFUSED = Counter(
    "landcover_refused",
    "Requests refused with 429 because a client's share was used up: queue (blocks in work), jobs, "
    "bytes (of results).",
    ("share",),
    registry=REGISTRY,
)
LEASES = Counter(
    "landcover_leases",
    "Blocks needed while Redis is in use: claimed (computed here), found (computed elsewhere "
    "meanwhile), alone (Redis out of use: computed without asking).",
    ("outcome",),
    registry=REGISTRY,
)
REDIS_TROUBLE = Counter(
    "landcover_redis_trouble",
    "Calls of Redis that failed: timeout, unreachable, refused (an error in its answer).",
    ("kind",),
    registry=REGISTRY,
)
ENGINE = Gauge(
    "landcover_engine",
    "1 for the engine that runs the model, by its precision.",
    ("engine", "precision"),
    multiprocess_mode="livemax",
    registry=REGISTRY,
)
SOURCE_REFRESHED = Gauge(
    "landcover_source_last_refresh_timestamp_seconds",
    "When a source was last looked at, seconds since 1970.",
    ("source",),
    multiprocess_mode="livemin",
    registry=REGISTRY,
)
SOURCE_REFRESH_OK = Gauge(
    "landcover_source_last_refresh_success",
    "1 when the last look at a source went well.",
    ("source",),
    multiprocess_mode="livemin",
    registry=REGISTRY,
)
SOURCE_UNAVAILABLE = Gauge(
    "landcover_source_unavailable",
    "1 while a source cannot be read or searched; what is cached is served, marked stale.",
    ("source",),
    multiprocess_mode="livemax",
    registry=REGISTRY,
)
MODEL_REFUSED = Gauge(
    "landcover_model_refused",
    "1 while the model file of the last SIGHUP is refused and the one before is in use.",
    multiprocess_mode="livemax",
    registry=REGISTRY,
)
RESIDENT = Gauge(
    "landcover_resident_bytes",
    "Resident memory of all processes.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)


class Collector(Protocol):
    """Something whose figures are collected on request, such as jobs by state."""

    def collect(self) -> Iterator[Metric]:
        """Yield the current figures, of the whole service and not of this process."""
        ...


class _Guarded:
    """A collector whose failure takes no other figure along."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        """Yield its figures; none when it fails, which is logged."""
        try:
            yield from list(self._collector.collect())
        except Exception:
            log.exception("figures of %s cannot be had", type(self._collector).__name__)


def page(*collectors: Collector) -> bytes:
    """Return all metrics, those of `collectors` too, in the text format of Prometheus."""
    RESIDENT.set(resident_bytes())
    registry = REGISTRY
    if collectors or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        for collector in collectors:
            registry.register(_Guarded(collector))
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry.register(REGISTRY)
    return generate_latest(registry)


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where /proc does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class Timings:
    """Seconds that one request spent on what, for Server-Timing.

    Work that another request had begun is not in it; work done in parallel adds up.
    """

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, what: str, seconds: float) -> None:
        """Add to what is spent on `what`, a token of RFC 9110."""
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    def header(self, total: float) -> str:
        """Return the value of Server-Timing, milliseconds."""
        parts = [f"{what};dur={seconds * 1000:.1f}" for what, seconds in self.seconds.items()]
        return ", ".join([*parts, f"total;dur={total * 1000:.1f}"])


TIMINGS: ContextVar[Timings | None] = ContextVar("timings", default=None)
"""Of the request being answered; tasks it starts inherit it."""


def timed(
    histogram: Histogram, what: str, function: Callable[Args, Result]
) -> Callable[Args, Result]:
    """Return `function`, observed by `histogram` and added to the request's timings.

    It may run in another thread.
    """
    timings = TIMINGS.get()

    def measured(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        began = time.perf_counter()
        result = function(*args, **kwargs)
        seconds = time.perf_counter() - began
        histogram.observe(seconds)
        if timings is not None:
            timings.add(what, seconds)
        return result

    return measured
