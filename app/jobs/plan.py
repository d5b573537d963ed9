"""Which blocks an area needs: GeoJSON → polygons on the work grids → blocks, in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import shapely
from pyproj import Geod
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from app.errors import InvalidRequest
from app.grid import Block, WorkGrid, central_meridian, transformer
from app.landcover import Selection
from model.windows import BLOCK, Window, cover

MOST_VERTICES = 10_000
_STEP = 0.002
"""Degrees between points of an edge before it is projected: its curve is then below 1 mm."""


def area_of(document: Any) -> BaseGeometry:  # noqa: ANN401 - a client's JSON
    """The polygons of a GeoJSON geometry, Feature or FeatureCollection, degrees.

    InvalidRequest when it is not a valid polygon on the globe; it is never mended.
    """
    found = shapely.union_all([_polygon(part) for part in _geometries(document)])
    if found.is_empty:
        raise InvalidRequest("area", "empty", "a polygon with an area")
    return found


def km2_of(area: BaseGeometry) -> float:
    """Geodesic area on GRS 80, km²."""
    return float(
        abs(Geod(ellps="GRS80").geometry_area_perimeter(shapely.orient_polygons(area))[0]) / 1e6
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What of an area lies nearest to one work grid's meridian, in the CRS of that grid."""

    grid: WorkGrid
    area: BaseGeometry

    @property
    def extent(self) -> Window:
        """The pixels that touch it."""
        return self.grid.touching(self.area.bounds)

    def blocks(self) -> Iterator[Block]:
        """The blocks that share ground with it, row by row."""
        shapely.prepare(self.area)
        for window in cover(self.extent):
            if self.area.intersects(shapely.box(*self.grid.bounds(window))):
                yield Block.of(self.grid, window)


def parts_of(area: BaseGeometry, grids: Sequence[WorkGrid]) -> list[Part]:
    """The area on its work grids: between two UTM zones the nearer one, as in a tile."""
    by_meridian = {central_meridian(grid.crs): grid for grid in sorted(grids, reverse=True)}
    meridians = sorted(by_meridian)
    ordered = [by_meridian[meridian] for meridian in meridians]
    edges = [-180.0, *((a + b) / 2 for a, b in pairwise(meridians)), 180.0]
    parts = []
    for grid, west, east in zip(ordered, edges, edges[1:], strict=False):
        piece = (
            shapely.intersection(area, shapely.box(west, -90, east, 90)) if west < east else None
        )
        if piece is None or piece.is_empty or piece.area == 0:
            continue
        project = transformer("OGC:CRS84", grid.crs).transform
        moved = shapely.transform(shapely.segmentize(piece, _STEP), project, interleaved=False)
        if all(map(math.isfinite, moved.bounds)):
            parts.append(Part(grid, moved))
    return parts


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a job and its blocks: (year index, block), numbered as they are listed."""

    parts: tuple[Part, ...]
    blocks: tuple[tuple[int, Block], ...]

    @classmethod
    def of(cls, area: BaseGeometry, selections: Sequence[Selection]) -> Plan:
        """The same for the same area and source, whoever asks."""
        parts = parts_of(area, selections[0].source.grids())
        blocks = [
            (index, block)
            for part in parts
            for block in part.blocks()
            for index in range(len(selections))
        ]
        return cls(tuple(parts), tuple(blocks))

    @property
    def nbytes(self) -> int:
        """Bytes of the rasters before compression."""
        return len(self.blocks) * BLOCK * BLOCK


def _geometries(document: Any) -> Iterator[Any]:  # noqa: ANN401
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        for feature in document["features"]:
            yield from _geometries(feature)
    elif kind == "Feature":
        yield document.get("geometry")
    else:
        yield document


def _polygon(document: Any) -> BaseGeometry:  # noqa: ANN401
    if not isinstance(document, dict) or document.get("type") not in ("Polygon", "MultiPolygon"):
        found = document.get("type") if isinstance(document, dict) else document
        raise InvalidRequest("area", found, "a GeoJSON Polygon or MultiPolygon, degrees")
    try:
        geometry = shapely.force_2d(shape(document))
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        shapely.GEOSException,
    ) as error:
        raise InvalidRequest("area", error, "coordinates of a GeoJSON polygon") from error
    vertices = int(shapely.get_num_coordinates(geometry))
    if vertices > MOST_VERTICES:
        raise InvalidRequest("area", f"{vertices} vertices", f"at most {MOST_VERTICES}")
    bounds = geometry.bounds
    if geometry.is_empty or not all(map(math.isfinite, bounds)):
        raise InvalidRequest("area", bounds, "finite coordinates")
    west, south, east, north = bounds
    if west < -180 or east > 180 or south < -90 or north > 90:
        raise InvalidRequest("area", bounds, "longitude, latitude in degrees, in this order")
    if east - west > 180:
        raise InvalidRequest("area", bounds, "a polygon that does not cross the antimeridian")
    if not geometry.is_valid:
        raise InvalidRequest("area", shapely.is_valid_reason(geometry), "a valid polygon")
    if not geometry.area:
        raise InvalidRequest("area", "zero", "a polygon with an area")
    return geometry
