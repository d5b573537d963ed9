"""Vector files: areas read from any that GDAL knows, and a class raster written as polygons."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from pyproj import CRS, Proj
from pyproj.exceptions import CRSError
from rasterio.features import shapes
from shapely.geometry import Polygon, shape

from app.area.geojson import parse_json
from app.area.polygon import square_meters
from app.errors import InvalidArea
from app.grid.pixel_grid import LONLAT, transformer
from app.render.attribute_table import Table
from app.render.qgis import add_layer_style
from model.legend import NODATA

try:
    from pyogrio import errors, list_layers, raw
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
_STEP_M = 500
"""Meters between points of a straight edge before its file's CRS is left."""


def read_area_file(path: Path) -> dict[str, Any]:
    """Return the GeoJSON document, in degrees, of a file: GeoJSON as it is, anything else GDAL
    knows (GeoPackage, Shapefile, KML …) from its one layer of polygons.

    OSError when it cannot be opened, InvalidArea when it is not an area.
    """
    if path.is_dir():  # a geodatabase
        return _read_layer(path)
    with path.open("rb") as file:
        head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] != b"{" and path.suffix.lower() not in (".json", ".geojson"):
        return _read_layer(path)
    try:
        document = parse_json(path.read_bytes())
    except ValueError as error:
        raise InvalidArea("file", path, "a GeoJSON document", f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArea("file", path, "a GeoJSON object")
    return document


def _read_layer(path: Path) -> dict[str, Any]:
    if raw is None:
        raise InvalidArea("file", path, "GeoJSON (other formats need pyogrio)")
    try:
        layers = [name for name, kind in list_layers(path) if _may_hold_polygons(kind)]
        if len(layers) != 1:
            raise InvalidArea("file", path, f"one layer of polygons, not {layers}")
        meta, _, geometries, _ = raw.read(path, layer=layers[0], columns=[])
    except (errors.DataSourceError, errors.DataLayerError) as error:
        raise InvalidArea("file", path, "GeoJSON or a file that GDAL reads") from error
    polygons = shapely.force_2d(shapely.from_wkb(geometries))
    try:
        crs = CRS.from_user_input(meta["crs"])
    except CRSError as error:
        raise InvalidArea("file", path, "a layer with a CRS (in a .prj beside a .shp)") from error
    if crs.is_projected:
        unit = crs.axis_info[0].unit_conversion_factor or 1.0
        polygons = shapely.segmentize(polygons, _STEP_M / unit)
    project = transformer(crs.to_string(), LONLAT).transform
    polygons = shapely.transform(polygons, project, interleaved=False)
    features = [
        {
            "type": "Feature",
            "properties": None,
            "geometry": None if polygon is None else _as_json(polygon),
        }
        for polygon in polygons
    ]
    return {"type": "FeatureCollection", "features": features}


def _may_hold_polygons(kind: str | None) -> bool:
    """Whether a layer of this type, None for a plain table, may hold polygons."""
    return kind is not None and any(word in kind for word in ("Polygon", "Unknown", "Collection"))


def _as_json(geometry: shapely.Geometry) -> dict[str, Any]:
    document: dict[str, Any] = parse_json(shapely.to_geojson(geometry).encode())
    return document


def write_polygons(raster: Path, table: Table, path: Path) -> int:
    """Write the polygons of a class GeoTIFF, one for all connected pixels of a class (4 neighbors),
    as GeoPackage, GeoJSON or FlatGeobuf, by the suffix of `path`; return how many there are.

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
        stream = _polygons(dataset)
        while (batch := list(islice(stream, _BATCH))) or not count:
            values = [value for value, _ in batch]
            polygons = np.array([polygon for _, polygon in batch], dtype=object)
            hectares = _square_meters(polygons, crs, dataset.crs.is_projected) / 1e4
            if suffix == "geojson" and crs != "EPSG:4326":
                project = transformer(crs, LONLAT).transform
                polygons = shapely.transform(polygons, project, interleaved=False)
            columns: dict[str, npt.NDArray[Any]] = {
                "value": np.array(values, dtype=np.int32),
                "name": np.array([entries[value].name for value in values], dtype=object),
                "title": np.array([entries[value].title for value in values], dtype=object),
                "hectares": np.round(hectares, 6),
            }
            layer_crs = "EPSG:4326" if suffix == "geojson" else crs
            _write(target, polygons, columns, layer_crs, appended=count > 0)
            if not batch:
                break
            count += len(batch)
    if suffix == "gpkg":
        add_layer_style(path, table, "classes")
    if target != path:
        _copy_layer(target, path, DRIVERS[suffix])
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


def _copy_layer(source: Path, target: Path, driver: str) -> None:
    with raw.open_arrow(source, use_pyarrow=False) as (meta, stream):
        raw.write_arrow(
            stream,
            target,
            driver=driver,
            geometry_type="Polygon",
            geometry_name=meta["geometry_name"] or "wkb_geometry",
            crs=meta["crs"],
        )


def _square_meters(
    polygons: npt.NDArray[Any], crs: str, projected: bool
) -> npt.NDArray[np.float64]:
    if not projected or not len(polygons):
        return np.array([square_meters(polygon) for polygon in polygons], dtype=np.float64)
    points = shapely.centroid(polygons)
    longitude, latitude = transformer(crs, LONLAT).transform(
        shapely.get_x(points), shapely.get_y(points)
    )
    scale = Proj(crs).get_factors(longitude, latitude).areal_scale
    return np.asarray(shapely.area(polygons) / scale, dtype=np.float64)


def _polygons(dataset: rasterio.DatasetReader) -> Iterator[tuple[int, Polygon]]:
    """Yield (value, polygon in the raster's CRS), in no particular order."""
    # GDAL reads the band line by line and needs no mask: nodata is one more value.
    for geometry, value in shapes(rasterio.band(dataset, 1), transform=dataset.transform):
        if value != NODATA:
            yield int(value), shape(geometry)
