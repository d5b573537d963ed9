"""A catalog: the scenes of one source, wherever they are listed.

Lists of files and STAC fulfil `Catalog`. `load` and `refresh` may block on a network and run in the
source's read pool; everything else answers from memory and is called on the event loop.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from app.grid.pixel_grid import Bounds, PixelGrid
from app.imagery.catalog.index import SkippedFile
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.scene import Scene


class Catalog(Hashable, Protocol):
    """The scenes of one source."""

    @property
    def generation(self) -> int:
        """Changes when an answer already given may now be another. Loading ground that nobody has
        requested does not change it; new, changed or vanished scenes on loaded ground do."""
        ...

    @property
    def unavailable(self) -> str | None:
        """Why the source cannot be reached at the moment, None when it can, as far as known. The
        scenes in memory still hold: cached blocks are served, marked stale."""
        ...

    def is_loaded(self, bounds: Bounds, when: TemporalFilter) -> bool:
        """Return whether the scenes of that ground (degrees: west, south, east, north) are in
        memory. True for every list that is read as a whole."""
        ...

    def load(self, bounds: Bounds, when: TemporalFilter) -> None:
        """Make `is_loaded` true; blocking. SourceUnavailable when it cannot be done; ground that
        was loaded once stays loaded when the source goes away."""
        ...

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """Return the scenes on the work grids of `crs` that share ground with `bounds` (of `crs`)
        and that `when` accepts, in the order of their ids. Complete only on loaded ground."""
        ...

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """Return the same by degrees (west, south, east, north) and of every CRS."""
        ...

    def grids(self) -> tuple[PixelGrid, ...]:
        """Return the work grids of the scenes in memory, sorted."""
        ...

    @property
    def scenes(self) -> Sequence[Scene]:
        """Every scene in memory, by id."""
        ...

    @property
    def skipped(self) -> Sequence[SkippedFile]:
        """What is listed and not served, and why."""
        ...

    @property
    def years(self) -> tuple[int, ...]:
        """Years of acquisition, ascending; of a STAC API, what its collection says or is known."""
        ...

    @property
    def lonlat_bounds(self) -> Bounds:
        """(west, south, east, north) of everything, degrees."""
        ...

    def refresh(self) -> None:
        """Look for what is new, changed or gone; blocking. SourceUnavailable or ConfigurationError
        when the source is away: the scenes stay as they were known."""
        ...

    def probe(self) -> None:
        """Find out in a few seconds whether a source that is `unavailable` is back; blocking.

        Called again and again until it is, beside `refresh` and whatever else waits for it."""
        ...
