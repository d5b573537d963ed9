"""A catalog of the GeoTIFFs in a directory. Files it cannot serve are named, never fatal."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely

from app.errors import ConfigurationError
from app.grid import Bounds, WorkGrid
from app.imagery.scene import Refused, Scene, identity_of, inspect

SUFFIXES = (".tif", ".tiff")
"""Compared without regard to case."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not served, and why."""

    path: str
    reason: str


class Index:
    """An immutable snapshot of scenes, searchable by ground."""

    def __init__(self, scenes: Iterable[Scene], problems: Iterable[Problem] = ()) -> None:
        self.scenes = tuple(sorted(scenes, key=lambda scene: scene.id))
        self.problems = tuple(problems)
        by_crs: dict[str, list[Scene]] = defaultdict(list)
        for scene in self.scenes:
            by_crs[scene.crs].append(scene)
        self._by_crs = {
            crs: (shapely.STRtree([shapely.box(*scene.bounds) for scene in scenes]), scenes)
            for crs, scenes in sorted(by_crs.items())
        }
        self.years = tuple(sorted({scene.year for scene in self.scenes if scene.year}))

    @property
    def crs_list(self) -> tuple[str, ...]:
        """Every CRS that scenes are in."""
        return tuple(self._by_crs)

    def search(self, crs: str, bounds: Bounds, year: int | None = None) -> list[Scene]:
        """Scenes in `crs` that share ground with `bounds`, of one year or (None) of all."""
        if crs not in self._by_crs:
            return []
        tree, scenes = self._by_crs[crs]
        hits = np.sort(tree.query(shapely.box(*bounds)))
        found = (scenes[i] for i in hits)
        return [scene for scene in found if year is None or scene.year == year]

    @cached_property
    def lonlat_bounds(self) -> Bounds:
        """(west, south, east, north) of everything, degrees."""
        outlines = [scene.footprint().bounds for scene in self.scenes]
        west, south, east, north = zip(*outlines, strict=True)
        return min(west), min(south), max(east), max(north)


class Directory:
    """The scenes below a directory, found at start and again by `refresh`."""

    def __init__(self, root: Path, ground_resolution: float) -> None:
        """ConfigurationError when there is no such directory, or nothing in it can be served."""
        self.root = root
        self._resolution = ground_resolution
        self._lock = threading.Lock()
        self._seen: dict[Path, tuple[str, Scene | Problem]] = {}
        self.generation = 0
        self.index = self._scan()

    def refresh(self) -> None:
        """Looks at the files again; what changed gets a new identity, what vanished is dropped.

        ConfigurationError when nothing is left: a disk that is away is not an empty place, and the
        scenes stay as they were known.
        """
        with self._lock:
            index = self._scan()
            if index.scenes != self.index.scenes or index.problems != self.index.problems:
                self.index = index
                self.generation += 1

    def grids(self) -> tuple[WorkGrid, ...]:
        """The work grids of the scenes."""
        return tuple(WorkGrid(crs, self._resolution) for crs in self.index.crs_list)

    def _scan(self) -> Index:
        if self.root.is_file():
            paths = [self.root]
        elif self.root.is_dir():
            paths = sorted(filter(_may_be_a_scene, self.root.rglob("*")))
        else:
            raise ConfigurationError(f"{self.root}: no such directory")
        base = self.root if self.root.is_dir() else self.root.parent
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda path: self._inspect(path, base), paths))
        scenes = [result for result in results if isinstance(result, Scene)]
        index = Index(_distinct(scenes), [r for r in results if isinstance(r, Problem)])
        if not index.scenes:
            reasons = "; ".join(f"{p.path}: {p.reason}" for p in index.problems[:5])
            raise ConfigurationError(
                f"{self.root}: no scene that can be served ({reasons or 'no GeoTIFF in it'})"
            )
        return index

    def _inspect(self, path: Path, base: Path) -> Scene | Problem:
        """What a file is; one that has not changed is not opened again."""
        try:
            identity = identity_of(path)
            if path in self._seen and self._seen[path][0] == identity:
                return self._seen[path][1]
            result: Scene | Problem = inspect(path, self._resolution)
        except OSError as error:
            return Problem(str(path.relative_to(base)), f"cannot be opened: {error.strerror}")
        except Refused as refusal:
            result = Problem(str(path.relative_to(base)), str(refusal))
        self._seen[path] = (identity, result)
        return result


def _may_be_a_scene(path: Path) -> bool:
    """GeoTIFFs by name, but for `<scene>_label.tif`: where training keeps a scene's labels."""
    return path.suffix.lower() in SUFFIXES and not path.stem.endswith("_label")


def _distinct(scenes: list[Scene]) -> list[Scene]:
    """Gives files of one name in several folders ids of their own."""
    seen: dict[str, int] = defaultdict(int)
    distinct = []
    for scene in sorted(scenes, key=lambda s: (s.id, s.href)):
        seen[scene.id] += 1
        number = seen[scene.id]
        distinct.append(
            scene
            if number == 1
            else Scene(
                **{name: getattr(scene, name) for name in scene.__slots__}
                | {"id": f"{scene.id}~{number}"}
            )
        )
    return distinct
