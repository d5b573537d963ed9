"""An immutable snapshot of scenes, searchable by ground and date. Every catalog holds one."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import shapely

from app.grid.pixel_grid import LONLAT, Bounds, PixelGrid, bounds_between
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.scene import ReadOptions, Scene


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not served, and why."""

    path: str
    reason: str


class Index:
    """Scenes and problems; an R-tree for every CRS."""

    def __init__(self, scenes: Iterable[Scene], problems: Iterable[SkippedFile] = ()) -> None:
        self.scenes = tuple(sorted(scenes, key=lambda scene: scene.id))
        self.problems = tuple(problems)
        by_crs: dict[str, list[Scene]] = defaultdict(list)
        for scene in self.scenes:
            by_crs[scene.crs].append(scene)
        self._by_crs = {
            crs: (shapely.STRtree(shapely.box(*np.array([s.bounds for s in scenes]).T)), scenes)
            for crs, scenes in sorted(by_crs.items())
        }
        self.years = tuple(sorted({scene.year for scene in self.scenes if scene.year}))

    @property
    def crs_list(self) -> tuple[str, ...]:
        """Every CRS that scenes are in."""
        return tuple(self._by_crs)

    def grids(self, resolution: float) -> tuple[PixelGrid, ...]:
        """The work grids of the scenes."""
        return tuple(PixelGrid(crs, resolution) for crs in self.crs_list)

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter = LATEST) -> list[Scene]:
        """Scenes in `crs` that share ground with `bounds` and are admitted by `when`."""
        if crs not in self._by_crs:
            return []
        tree, scenes = self._by_crs[crs]
        hits = np.sort(tree.query(shapely.box(*bounds)))
        found = (scenes[i] for i in hits)
        return [scene for scene in found if when.accepts(scene.acquired)]

    def within(self, bounds: Bounds, when: TemporalFilter = LATEST) -> list[Scene]:
        """Scenes of every CRS whose enclosing rectangle shares ground with `bounds`, degrees."""
        found = [
            scene
            for crs in self.crs_list
            for scene in self.search(crs, bounds_between(LONLAT, crs, bounds), when)
        ]
        return sorted(found, key=lambda scene: scene.id)

    @cached_property
    def lonlat_bounds(self) -> Bounds:
        """(west, south, east, north) of everything, degrees."""
        if not self.scenes:
            return (0.0, 0.0, 0.0, 0.0)
        outlines = [scene.footprint().bounds for scene in self.scenes]
        west, south, east, north = zip(*outlines, strict=True)
        return min(west), min(south), max(east), max(north)


class InMemoryCatalog:
    """An index that is replaced as a whole; see Catalog for what each method promises."""

    def __init__(self, reading: ReadOptions) -> None:
        self.reading = reading
        self.index = Index(())
        self.generation = 0
        self._lock = threading.Lock()

    @property
    def unavailable(self) -> str | None:
        """See Catalog."""
        return None

    def knows(self, bounds: Bounds, when: TemporalFilter) -> bool:
        """Always: the list is read as a whole."""
        del bounds, when
        return True

    def prepare(self, bounds: Bounds, when: TemporalFilter) -> None:
        """Nothing is left to learn."""

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """See Catalog."""
        return self.index.search(crs, bounds, when)

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        """See Catalog."""
        return self.index.within(bounds, when)

    def grids(self) -> tuple[PixelGrid, ...]:
        """See Catalog."""
        return self.index.grids(self.reading.ground_resolution)

    @property
    def scenes(self) -> Sequence[Scene]:
        """See Catalog."""
        return self.index.scenes

    @property
    def problems(self) -> Sequence[SkippedFile]:
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

    def _publish(self, results: Iterable[Scene | SkippedFile]) -> None:
        """Replaces the index when the results are others than before."""
        results = list(results)
        index = Index(
            distinct(result for result in results if isinstance(result, Scene)),
            [result for result in results if isinstance(result, SkippedFile)],
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
