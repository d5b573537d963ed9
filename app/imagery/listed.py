"""What catalogs that are read as a whole have in common: everything is in memory."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from app.grid import Bounds, WorkGrid
from app.imagery.index import Index, Problem
from app.imagery.scene import Reading, Scene
from app.imagery.when import When


class Listed:
    """An index that is replaced as a whole; see Catalog for what each method promises."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.index = Index(())
        self.generation = 0
        self._lock = threading.Lock()

    @property
    def unavailable(self) -> str | None:
        """See Catalog."""
        return None

    def knows(self, bounds: Bounds, when: When) -> bool:
        """Always: the list is read as a whole."""
        del bounds, when
        return True

    def prepare(self, bounds: Bounds, when: When) -> None:
        """Nothing is left to learn."""

    def search(self, crs: str, bounds: Bounds, when: When) -> list[Scene]:
        """See Catalog."""
        return self.index.search(crs, bounds, when)

    def within(self, bounds: Bounds, when: When) -> list[Scene]:
        """See Catalog."""
        return self.index.within(bounds, when)

    def grids(self) -> tuple[WorkGrid, ...]:
        """See Catalog."""
        return self.index.grids(self.reading.ground_resolution)

    @property
    def scenes(self) -> Sequence[Scene]:
        """See Catalog."""
        return self.index.scenes

    @property
    def problems(self) -> Sequence[Problem]:
        """See Catalog."""
        return self.index.problems

    @property
    def years(self) -> tuple[int, ...]:
        """See Catalog."""
        return self.index.years

    @property
    def lonlat_bounds(self) -> Bounds:
        """See Catalog."""
        return self.index.lonlat_bounds

    def _publish(self, results: Iterable[Scene | Problem]) -> None:
        """Replaces the index when the results are others than before."""
        results = list(results)
        index = Index(
            distinct(result for result in results if isinstance(result, Scene)),
            [result for result in results if isinstance(result, Problem)],
        )
        if index.scenes != self.index.scenes or index.problems != self.index.problems:
            self.index = index
            self.generation += 1


def distinct(scenes: Iterable[Scene]) -> list[Scene]:
    """Gives files of one name in several folders ids of their own."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for scene in sorted(scenes, key=lambda s: (s.id, s.href)):
        seen[scene.id] += 1
        number = seen[scene.id]
        named.append(scene if number == 1 else replace(scene, id=f"{scene.id}~{number}"))
    return named
