"""A catalog of the GeoTIFFs in a directory. Files it cannot serve are named, never fatal."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from app.errors import ConfigurationError
from app.grid import Bounds, WorkGrid
from app.imagery.index import Index, Problem
from app.imagery.scene import Reading, Refused, Scene, identity_of, inspect
from app.imagery.when import When

SUFFIXES = (".tif", ".tiff")
"""Compared without regard to case."""


class Directory:
    """The scenes below a directory, found at start and again by `refresh`."""

    def __init__(self, root: Path, reading: Reading) -> None:
        """ConfigurationError when there is no such directory, or nothing in it can be served."""
        self.root = root
        self._reading = reading
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

    @property
    def unavailable(self) -> str | None:
        """That the directory is away, if it is."""
        return None if self.root.exists() else f"{self.root}: no such directory"

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
        """The work grids of the scenes."""
        return self.index.grids(self._reading.ground_resolution)

    @property
    def scenes(self) -> Sequence[Scene]:
        """Every scene, by id."""
        return self.index.scenes

    @property
    def problems(self) -> Sequence[Problem]:
        """Files that are not served, and why."""
        return self.index.problems

    @property
    def years(self) -> tuple[int, ...]:
        """Years of acquisition, ascending."""
        return self.index.years

    @property
    def lonlat_bounds(self) -> Bounds:
        """(west, south, east, north) of everything, degrees."""
        return self.index.lonlat_bounds

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
            result: Scene | Problem = inspect(path, self._reading)
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
        distinct.append(scene if number == 1 else replace(scene, id=f"{scene.id}~{number}"))
    return distinct
