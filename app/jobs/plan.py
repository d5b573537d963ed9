"""What a job has to do: the area asked for, and every block it needs, in a fixed order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import shapely
from shapely.geometry import mapping, shape

from app.area.frame import OutputGrid
from app.area.geojson import areas_of
from app.area.plan import Plan
from app.area.polygon import AreaOfInterest
from app.grid.pixel_grid import Block
from app.landcover.blocks import Selection

MOST_VERTICES = 10_000
"""Of a job's polygons together."""


def geometry_of(document: Any) -> dict[str, Any]:  # noqa: ANN401 - a client's JSON
    """The ground of a GeoJSON document as one geometry; features of a collection become one area.

    InvalidArea or TooLarge as `areas_of`; nothing is mended.
    """
    areas = areas_of(document, MOST_VERTICES).areas
    polygons = [area.geometry for area in areas]
    ground = polygons[0] if len(polygons) == 1 else shapely.union_all(polygons)
    found: dict[str, Any] = json.loads(json.dumps(mapping(ground)))
    return found


@dataclass(frozen=True, slots=True)
class Work:
    """An area, the imagery and model asked for it, and its blocks: (selection's index, block)."""

    plan: Plan
    selections: tuple[Selection, ...]
    blocks: tuple[tuple[int, Block], ...]

    @classmethod
    def of(cls, geometry: dict[str, Any], selections: Sequence[Selection]) -> Work:
        """The same for the same geometry and source, whoever asks."""
        source = selections[0].source
        plan = Plan.of(AreaOfInterest(shape(geometry)), source.grids(), source.bounds)
        blocks = [(index, part.block) for part in plan.parts() for index in range(len(selections))]
        return cls(plan, tuple(selections), tuple(blocks))

    @property
    def frame(self) -> OutputGrid:
        """What its raster shows: pixels whose center lies in the area."""
        return OutputGrid.of(self.plan.area, self.selections[0].source.grids())


def km2_of(geometry: dict[str, Any]) -> float:
    """Area on the ellipsoid, km²."""
    return AreaOfInterest(shape(geometry)).square_meters / 1e6
