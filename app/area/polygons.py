"""A class raster as polygons: one for every connected ground of one class (4 neighbors).

Read strip by strip. Pieces of one class that meet at the seam of two strips become one polygon, so
that the strips do not show; memory holds one strip and the polygons that reach its lower edge.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from affine import Affine
from pyproj import Proj
from rasterio.features import shapes
from rasterio.windows import Window as RasterWindow
from shapely.geometry import Polygon, shape

from app.area.polygon import square_meters
from app.grid.pixel_grid import LONLAT, transformer
from app.render.attribute_table import Table
from app.render.qgis import add_layer_style
from model.legend import NODATA
from model.windows import BLOCK

try:
    from pyogrio import raw
except ModuleNotFoundError:  # a GDAL of its own, 95 MB: the server image leaves it out
    raw = None

DRIVERS = {"gpkg": "GPKG", "geojson": "GeoJSON", "fgb": "FlatGeobuf"}
MEDIA_TYPES = {
    "gpkg": "application/geopackage+sqlite3",
    "geojson": "application/geo+json",
    "fgb": "application/vnd.flatgeobuf",
}
AVAILABLE = MEDIA_TYPES if raw is not None else {}
"""What can be written here, and its media types."""
_BATCH = 2000

Intervals = list[tuple[float, float]]


@dataclass(eq=False, slots=True)
class _Ground:
    """Pieces of one class that are connected; `edge`: where they touch the lower edge so far."""

    value: int
    pieces: list[Polygon]
    edge: Intervals = field(default_factory=list)

    def whole(self) -> Polygon:
        """The pieces as one polygon."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        # Without the points that the seams left on straight edges.
        return shapely.simplify(shapely.union_all(self.pieces), 0)


def write_polygons(raster: Path, table: Table, path: Path, strip: int = BLOCK) -> int:
    """Writes the polygons of a class GeoTIFF as GeoPackage, GeoJSON or FlatGeobuf, by the suffix
    of `path`; how many there are.

    Fields: value, name, title, hectares on the ground. In the raster's CRS; GeoJSON in degrees
    (RFC 7946). OSError when the file cannot be written.
    """
    suffix = path.suffix.removeprefix(".")
    # FlatGeobuf is written in one go: it is taken from a GeoPackage.
    target = path.with_name(f"{path.stem}-part.gpkg") if suffix == "fgb" else path
    entries = {entry.value: entry for entry in table}
    count = 0
    with rasterio.open(raster, driver="GTiff") as dataset:
        crs = dataset.crs.to_string()
        found = _polygons(dataset, strip)
        while batch := list(islice(found, _BATCH)):
            values = [value for value, _ in batch]
            grounds = np.array([polygon for _, polygon in batch], dtype=object)
            hectares = _square_meters(grounds, crs, dataset.crs.is_projected) / 1e4
            if suffix == "geojson" and crs != "EPSG:4326":
                project = transformer(crs, LONLAT).transform
                grounds = shapely.transform(grounds, project, interleaved=False)
            columns: dict[str, npt.NDArray[Any]] = {
                "value": np.array(values, dtype=np.int32),
                "name": np.array([entries[value].name for value in values], dtype=object),
                "title": np.array([entries[value].title for value in values], dtype=object),
                "hectares": np.round(hectares, 6),
            }
            _write(target, grounds, columns, "EPSG:4326" if suffix == "geojson" else crs, count > 0)
            count += len(batch)
        if not count:
            none: dict[str, npt.NDArray[Any]] = {
                "value": np.zeros(0, np.int32),
                "hectares": np.zeros(0),
            }
            words = {name: np.zeros(0, dtype=object) for name in ("name", "title")}
            _write(target, np.zeros(0, dtype=object), none | words, crs, appended=False)
    if suffix == "gpkg":
        add_layer_style(path, table, "classes")
    if target != path:
        with raw.open_arrow(target, use_pyarrow=False) as (meta, stream):
            raw.write_arrow(
                stream,
                path,
                driver=DRIVERS[suffix],
                geometry_type="Polygon",
                geometry_name=meta["geometry_name"] or "wkb_geometry",
                crs=meta["crs"],
            )
        target.unlink()
    return count


def _write(
    path: Path,
    polygons: npt.NDArray[Any],
    columns: dict[str, npt.NDArray[Any]],
    crs: str,
    appended: bool,
) -> None:
    raw.write(
        path,
        np.asarray(shapely.to_wkb(polygons), dtype=object),
        field_data=list(columns.values()),
        fields=list(columns),
        crs=crs,
        geometry_type="Polygon",
        driver=DRIVERS[path.suffix.removeprefix(".")],
        append=appended,
        layer="classes",
        # The version that GDAL of before 2023 (and QGIS with it) reads without a warning.
        dataset_options={"VERSION": "1.2"} if path.suffix == ".gpkg" else None,
    )


def _square_meters(polygons: npt.NDArray[Any], crs: str, projected: bool) -> npt.NDArray[Any]:
    if not projected:
        return np.array([square_meters(polygon) for polygon in polygons])
    points = shapely.centroid(polygons)
    longitude, latitude = transformer(crs, LONLAT).transform(
        shapely.get_x(points), shapely.get_y(points)
    )
    scale = Proj(crs).get_factors(longitude, latitude).areal_scale
    return np.asarray(shapely.area(polygons) / scale)


def _polygons(dataset: rasterio.DatasetReader, strip: int) -> Iterator[tuple[int, Polygon]]:
    """(value, polygon in the raster's CRS), in no particular order."""
    affine = dataset.transform
    place = [affine.a, affine.b, affine.d, affine.e, affine.c, affine.f]
    for ground in _connected(dataset, strip):
        yield ground.value, shapely.affinity.affine_transform(ground.whole(), place)


def _connected(dataset: rasterio.DatasetReader, strip: int) -> Iterator[_Ground]:
    """Connected ground, in pixels: whole numbers, so that seams match exactly."""
    reaching: list[_Ground] = []
    for top in range(0, dataset.height, strip):
        rows = min(strip, dataset.height - top)
        values = dataset.read(1, window=RasterWindow(0, top, dataset.width, rows))
        pieces = [
            _Ground(int(value), [shape(geometry)])
            for geometry, value in shapes(
                values, mask=values != NODATA, connectivity=4, transform=Affine.translation(0, top)
            )
        ]
        joined = _join(reaching, pieces, top)
        reaching = []
        for ground in joined:
            # Only what was added in this strip can touch its lower edge.
            ground.edge = [each for piece in ground.pieces for each in _edge_at(piece, top + rows)]
            if ground.edge and top + rows < dataset.height:
                reaching.append(ground)
            else:
                yield ground


def _join(above: list[_Ground], below: list[_Ground], seam: float) -> list[_Ground]:
    """All ground after those of one class that share an edge along y = `seam` became one."""
    leader: dict[_Ground, _Ground] = {}

    def lead(ground: _Ground) -> _Ground:
        while ground in leader:
            ground = leader[ground]
        return ground

    edges = sorted(
        ((start, end, ground) for ground in above for start, end in ground.edge),
        key=lambda edge: edge[0],
    )
    starts = [start for start, _, _ in edges]
    for piece in below:
        for start, end in _edge_at(piece.pieces[0], seam):
            # Edges above do not overlap each other: the one before may reach into this one.
            for left, right, ground in edges[max(0, bisect_right(starts, start) - 1) :]:
                if left >= end:
                    break
                if right > start and ground.value == piece.value:
                    first, second = lead(ground), lead(piece)
                    if first is not second:
                        first.pieces += second.pieces
                        leader[second] = first
    return [ground for ground in (*above, *below) if ground not in leader]


def _edge_at(polygon: Polygon, y: float) -> Intervals:
    """Where the outline runs along a horizontal line."""
    if not polygon.bounds[1] <= y <= polygon.bounds[3]:
        return []
    found = []
    for ring in (polygon.exterior, *polygon.interiors):
        points = shapely.get_coordinates(ring)
        for at in np.flatnonzero((points[:-1, 1] == y) & (points[1:, 1] == y)):
            a, b = float(points[at, 0]), float(points[at + 1, 0])
            found.append((min(a, b), max(a, b)))
    return found
