"""A source that was unavailable when the service started: built as soon as it can be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from app.errors import SourceUnavailable
from app.grid.pixel_grid import Bounds, PixelGrid
from app.imagery.catalog import Catalog
from app.imagery.catalog.index import SkippedFile
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.scene import Scene
from app.resilience import CircuitBreaker, CircuitOpen

EVERYWHERE: Bounds = (-180.0, -85.0, 180.0, 85.0)


class LazyCatalog:
    """A catalog that is built when it can be; until then nothing is known and everything that
    needs it is SourceUnavailable. See Catalog for what each method promises."""

    def __init__(
        self, build: Callable[[], Catalog], reason: SourceUnavailable, pause_s: float = 5.0
    ) -> None:
        self._build = build
        self._reason = reason
        self._circuit = CircuitBreaker(1, pause_s)
        self._circuit.failed(reason.reason)
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None

    @property
    def generation(self) -> int:
        return self._catalog.generation + 1 if self._catalog else 0

    @property
    def unavailable(self) -> str | None:
        return self._catalog.unavailable if self._catalog else self._reason.reason

    def is_loaded(self, bounds: Bounds, when: TemporalFilter) -> bool:
        return self._catalog.is_loaded(bounds, when) if self._catalog else False

    def load(self, bounds: Bounds, when: TemporalFilter) -> None:
        self._built().load(bounds, when)

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        return self._catalog.search(crs, bounds, when) if self._catalog else []

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        return self._catalog.within(bounds, when) if self._catalog else []

    def grids(self) -> tuple[PixelGrid, ...]:
        return self._catalog.grids() if self._catalog else ()

    @property
    def scenes(self) -> Sequence[Scene]:
        return self._catalog.scenes if self._catalog else ()

    @property
    def skipped(self) -> Sequence[SkippedFile]:
        return self._catalog.skipped if self._catalog else ()

    @property
    def years(self) -> tuple[int, ...]:
        return self._catalog.years if self._catalog else ()

    @property
    def lonlat_bounds(self) -> Bounds:
        return self._catalog.lonlat_bounds if self._catalog else EVERYWHERE

    def refresh(self) -> None:
        self._built().refresh()

    def _built(self) -> Catalog:
        with self._lock:
            if self._catalog is None:
                try:
                    with self._circuit.guard():
                        self._catalog = self._build()
                except CircuitOpen:
                    raise self._reason from None
                except SourceUnavailable as error:
                    self._reason = error
                    raise
            return self._catalog
