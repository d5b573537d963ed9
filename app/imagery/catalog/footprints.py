"""How much of an area scenes cover, and the outline of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import mapping

from app.grid.pixel_grid import Bounds
from app.imagery.scene import Scene


@dataclass(frozen=True, slots=True)
class Cover:
    """What covers an area: the fraction of it that lies within an image, and how many images.
    `first`, `last`: dates, ISO 8601, empty when unknown; `resolutions`: meters, finest first."""

    fraction: float
    scenes: int
    first: str
    last: str
    resolutions: tuple[float, ...]


def cover_of(scenes: Sequence[Scene], bounds: Bounds) -> Cover:
    """Return how fully scenes cover `bounds` (west, south, east, north, degrees).

    By the outlines of the images, collars of nodata within them included. Areas are true: measured
    in Lambert's cylindrical equal-area projection (x = longitude, y = sine of latitude).
    """
    box = _equal_area(shapely.box(*bounds))
    outlines = _equal_area(np.array([scene.footprint() for scene in scenes], dtype=object))
    shared = shapely.intersection(outlines, box)
    touching = [scene for scene, part in zip(scenes, shared, strict=True) if part.area > 0]
    dates = sorted(scene.acquired for scene in touching if scene.acquired)
    covered = shapely.union_all(shared).area if touching else 0.0
    return Cover(
        fraction=min(covered / box.area, 1.0) if box.area else 0.0,
        scenes=len(touching),
        first=dates[0] if dates else "",
        last=dates[-1] if dates else "",
        resolutions=tuple(sorted({round(scene.resolution, 2) for scene in touching})),
    )


def cover_by_year(scenes: Iterable[Scene], bounds: Bounds) -> dict[int, Cover]:
    """Return year → how fully its scenes cover `bounds`, newest first; years that share no ground
    with it are left out. 0 holds scenes of unknown date."""
    by_year: dict[int, list[Scene]] = defaultdict(list)
    for scene in scenes:
        by_year[scene.year].append(scene)
    covers = {year: cover_of(by_year[year], bounds) for year in sorted(by_year, reverse=True)}
    return {year: cover for year, cover in covers.items() if cover.scenes}


def outline_of(scenes: Sequence[Scene]) -> dict[str, object]:
    """Return the outline of all scenes as one GeoJSON geometry, degrees; gaps of less than about a
    meter between neighbors are closed."""
    closed = shapely.union_all([scene.footprint() for scene in scenes], grid_size=1e-5)
    outline: dict[str, object] = mapping(closed)
    return outline


def _equal_area(geometry: Any) -> Any:  # noqa: ANN401 - one geometry or an array of them
    def project(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack([points[:, 0], np.degrees(np.sin(np.radians(points[:, 1])))])

    return shapely.transform(geometry, project)
