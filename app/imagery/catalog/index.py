"""A snapshot of scenes, searchable by ground and date; the catalogs that hold one whole; and the
file that keeps it, so that the next start opens only what changed."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely

from app.errors import ConfigurationError
from app.grid.pixel_grid import LONLAT, Bounds, PixelGrid, bounds_between
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.scene import Georeference, ReadOptions, Scene

VERSION = 4
MOST_NAMED = 100
"""Files that an error names."""

log = logging.getLogger("landcover.imagery")


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or item that is not served, and why."""

    path: str
    reason: str


Inspected = tuple[str, Scene | SkippedFile]
"""(identity, what the file holds)."""


class Index:
    """Scenes and skipped files; an R-tree for every CRS. Immutable."""

    def __init__(self, scenes: Iterable[Scene], skipped: Iterable[SkippedFile] = ()) -> None:
        self.scenes = tuple(sorted(scenes, key=lambda scene: scene.id))
        self.skipped = tuple(skipped)
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

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter = LATEST) -> list[Scene]:
        """Return the scenes in `crs` that share ground with `bounds` and that `when` accepts."""
        if crs not in self._by_crs:
            return []
        tree, scenes = self._by_crs[crs]
        hits = np.sort(tree.query(shapely.box(*bounds)))
        return [scenes[hit] for hit in hits if when.accepts(scenes[hit].acquired)]

    def within(self, bounds: Bounds, when: TemporalFilter = LATEST) -> list[Scene]:
        """Return the scenes of every CRS whose enclosing rectangle shares ground with `bounds`,
        degrees."""
        matches = [
            scene
            for crs in self.crs_list
            for scene in self.search(crs, bounds_between(LONLAT, crs, bounds), when)
        ]
        return sorted(matches, key=lambda scene: scene.id)

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
        return None

    def is_loaded(self, bounds: Bounds, when: TemporalFilter) -> bool:
        """Return True: the list is read as a whole."""
        del bounds, when
        return True

    def load(self, bounds: Bounds, when: TemporalFilter) -> None:
        """Do nothing: everything is in memory."""

    def search(self, crs: str, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        return self.index.search(crs, bounds, when)

    def within(self, bounds: Bounds, when: TemporalFilter) -> list[Scene]:
        return self.index.within(bounds, when)

    def grids(self) -> tuple[PixelGrid, ...]:
        return tuple(PixelGrid(crs, self.reading.ground_resolution) for crs in self.index.crs_list)

    @property
    def scenes(self) -> Sequence[Scene]:
        return self.index.scenes

    @property
    def skipped(self) -> Sequence[SkippedFile]:
        return self.index.skipped

    @property
    def years(self) -> tuple[int, ...]:
        return self.index.years

    @property
    def lonlat_bounds(self) -> Bounds:
        return self.index.lonlat_bounds

    def probe(self) -> None:
        """Do nothing: whether a list on a disk is there is known without asking."""

    def _publish(self, results: Iterable[Scene | SkippedFile]) -> None:
        """Replace the index when the results are others than before."""
        results = list(results)
        index = Index(
            _distinct(result for result in results if isinstance(result, Scene)),
            [result for result in results if isinstance(result, SkippedFile)],
        )
        if index.scenes != self.index.scenes or index.skipped != self.index.skipped:
            self.index = index
            self.generation += 1


def nothing_served(
    what: str, results: Iterable[Scene | SkippedFile], empty: str
) -> ConfigurationError:
    """Return the error of a source of which nothing can be served: every file and why not, a line
    each where there are several; `empty`: what to say when there is none."""
    skipped = [result for result in results if isinstance(result, SkippedFile)]
    lines = [f"{each.path}: {each.reason}" for each in skipped[:MOST_NAMED]]
    if len(skipped) > MOST_NAMED:
        lines.append(f"and {len(skipped) - MOST_NAMED:,} more")
    one_line = f": {lines[0] if lines else empty}"
    reasons = one_line if len(lines) < 2 else "".join(f"\n  {line}" for line in lines)
    return ConfigurationError(f"{what}: no scene that can be served{reasons}")


def _distinct(scenes: Iterable[Scene]) -> list[Scene]:
    """Give files of one name in several folders ids of their own."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for scene in sorted(scenes, key=lambda s: (s.id, s.href)):
        seen[scene.id] += 1
        number = seen[scene.id]
        named.append(scene if number == 1 else replace(scene, id=f"{scene.id}~{number}"))
    return named


class IndexStore:
    """The index of one source on disk. A damaged one, or one made for another reading, counts as
    none."""

    def __init__(self, path: Path, reading: ReadOptions) -> None:
        self.path = path
        self._for = f"{VERSION} {reading}"

    def load(self) -> dict[str, Inspected]:
        """Return what each href was found to hold."""
        try:
            content = json.loads(self.path.read_bytes())
            if content["for"] != self._for:
                return {}
            return {href: _inspected(*kept) for href, kept in content["files"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.warning("%s: not an index (%s); built anew", self.path, type(error).__name__)
            return {}

    def save(self, files: dict[str, Inspected]) -> None:
        """Write the index whole, or not at all; a failure is logged, not raised."""
        plain = {href: [identity, _plain(result)] for href, (identity, result) in files.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"for": self._for, "files": plain}, file)
            Path(name).replace(self.path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self.path, error.strerror)


def _plain(result: Scene | SkippedFile) -> dict[str, object]:
    if isinstance(result, SkippedFile):
        return {"skipped": result.path, "reason": result.reason}
    plain = {each.name: getattr(result, each.name) for each in fields(Scene)}
    return plain | {"native": asdict(result.native) if result.native else None}


def _inspected(identity: str, kept: dict[str, object]) -> Inspected:
    if "skipped" in kept:
        return identity, SkippedFile(str(kept["skipped"]), str(kept["reason"]))
    native = kept.get("native")
    values = _tuples(kept)
    if isinstance(native, dict):
        values["native"] = Georeference(**_tuples(native))  # type: ignore[arg-type]
    return identity, Scene(**values)  # type: ignore[arg-type]


def _tuples(kept: dict[str, object]) -> dict[str, object]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
