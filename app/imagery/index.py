"""An immutable snapshot of scenes, searchable by ground and date. Every catalog holds one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely

from app.grid import Bounds, WorkGrid, bounds_between
from app.imagery.scene import Scene
from app.imagery.when import LATEST, When

_DEGREES = "OGC:CRS84"


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not served, and why."""

    path: str
    reason: str


class Index:
    """Scenes and problems; an R-tree for every CRS."""

    def __init__(self, scenes: Iterable[Scene], problems: Iterable[Problem] = ()) -> None:
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

    def grids(self, resolution: float) -> tuple[WorkGrid, ...]:
        """The work grids of the scenes."""
        return tuple(WorkGrid(crs, resolution) for crs in self.crs_list)

    def search(self, crs: str, bounds: Bounds, when: When = LATEST) -> list[Scene]:
        """Scenes in `crs` that share ground with `bounds` and are admitted by `when`."""
        if crs not in self._by_crs:
            return []
        tree, scenes = self._by_crs[crs]
        hits = np.sort(tree.query(shapely.box(*bounds)))
        found = (scenes[i] for i in hits)
        return [scene for scene in found if when.admits(scene.acquired)]

    def within(self, bounds: Bounds, when: When = LATEST) -> list[Scene]:
        """Scenes of every CRS whose enclosing rectangle shares ground with `bounds`, degrees."""
        found = [
            scene
            for crs in self.crs_list
            for scene in self.search(crs, bounds_between(_DEGREES, crs, bounds), when)
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
