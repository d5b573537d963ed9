"""A source that was unavailable when the service started: built as soon as it can be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from app.errors import ConfigurationError, SourceUnavailable
from app.grid.pixel_grid import Bounds, PixelGrid
from app.imagery.catalog import Catalog
from app.imagery.catalog.index import SkippedFile
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.scene import Scene
from app.resilience import CircuitBreaker, CircuitOpen

WAIT_S = 1.0
EVERYWHERE: Bounds = (-180.0, -85.0, 180.0, 85.0)


class LazyCatalog:
    """A catalog that is built when it can be; until then nothing is known and everything that
    needs it is SourceUnavailable. See Catalog for what each method promises."""

    def __init__(
        self, build: Callable[[], Catalog], reason: SourceUnavailable, pause_s: float = 4.0
    ) -> None:
        self._build = build
        self._reason = reason
        self._circuit = CircuitBreaker(1, pause_s)
        self._circuit.failed(reason.reason)
        self._building = threading.Lock()
        self._catalog: Catalog | None = None

    @property
    def generation(self) -> int:
        return self._catalog.generation + 1 if self._catalog else 0

    @property
    def unavailable(self) -> str | None:
        if self._catalog:
            return self._catalog.unavailable
        return self._circuit.reason or self._reason.reason

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

    def probe(self) -> None:
        if self._catalog is not None:
            self._catalog.probe()
        elif self._building.acquire(blocking=False):
            try:
                self._circuit.probe(self._make)
            finally:
                self._building.release()

    def _built(self) -> Catalog:
        """Return the catalog, built now if it can be; while another thread builds it, only that one
        waits for the server."""
        if self._catalog is not None:
            return self._catalog
        if not self._building.acquire(timeout=WAIT_S):
            raise self._reason
        try:
            if self._catalog is None:
                with self._circuit.guard():
                    self._make()
        except CircuitOpen as error:
            reason = f"is not available yet: {error.reason}"
            name = self._reason.scene_id
            raise SourceUnavailable(name, reason, retry_after=error.wait_s) from None
        finally:
            self._building.release()
        assert self._catalog is not None  # noqa: S101 - made above
        return self._catalog

    def _make(self) -> None:
        try:
            self._catalog = self._build()
        except SourceUnavailable as error:
            self._reason = error
            raise
        except ConfigurationError as error:
            self._reason = SourceUnavailable(self._reason.scene_id, str(error))
            raise self._reason from error
