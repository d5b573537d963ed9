"""A catalog: the scenes of one source, wherever they are listed.

Directory, mosaic, cogs (lists of files) and stac fulfil `Catalog`. Two kinds of call:
`prepare` and `refresh` may block on a network and run in the source's read pool; everything else
answers from memory and is called on the event loop.
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
        """Changes when an answer already given may now be another. Learning of ground nobody has
        asked about does not change it; new, changed or vanished scenes on known ground do."""
        ...

    @property
    def unavailable(self) -> str | None:
        """Why the source cannot be reached at the moment, None when it can, as far as known.
        What is known of its scenes still holds: cached blocks are served, marked stale."""
        ...

    def knows(self, bounds: Bounds, when: TemporalFilter) -> bool:
        """Whether the scenes of that ground (degrees: west, south, east, north) are in memory.
        True for every list that is read as a whole."""
        ...

    def prepare(self, bounds: Bounds, when: TemporalFilter) -> None:
        """Makes `knows` true; blocking. SourceUnavailable when it cannot be done; ground that was
        known once stays known when the source goes away."""
        ...

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """Scenes on the work grids of `crs` that share ground with `bounds` (of `crs`) and are
        admitted by `when`, in the order of their ids. Complete only on ground that is known."""
        ...

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """The same by degrees (west, south, east, north) and of every CRS."""
        ...

    def grids(self) -> tuple[PixelGrid, ...]:
        """The work grids of the scenes in memory, sorted."""
        ...

    @property
    def scenes(self) -> Sequence[Scene]:
        """Every scene in memory, by id."""
        ...

    @property
    def problems(self) -> Sequence[SkippedFile]:
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
        """Looks for what is new, changed or gone; blocking. SourceUnavailable or
        ConfigurationError when the source is away: the scenes stay as they were known."""
        ...
