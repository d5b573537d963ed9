"""The article's mosaic dataset as open files: the ground that a folder of NAIP covers.

Two layers in WGS 84: `footprints` (one polygon per image, with its metadata) and `boundary` (their
union). A GeoPackage has both, GeoJSON one per file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from training.data.files import atomic
from training.data.imagery import Picture, crs_name, find
from training.data.scenes import BANDS
from training.errors import LabelError

Column = NDArray[Any]

SIDE_POINTS = 16
"""Points on each side of a footprint: a straight line in UTM is curved in degrees."""


def mosaic(imagery: Path, out: Path, bands: int = BANDS) -> list[Path]:
    """Write boundary and footprints of the images in a folder; return the files written.

    `out`: a .gpkg (both layers), or a folder for footprints.geojson and boundary.geojson. Raises
    LabelError naming an image without CRS, or when there is none.
    """
    pictures = find(imagery, bands)
    for picture in pictures:
        if picture.crs is None:
            raise LabelError(f"{picture.path} has no CRS: it cannot be in a mosaic")
    shapes = [footprint(p) for p in pictures]
    facts = _metadata(pictures)
    boundary = shapely.union_all(shapes)
    meters = _area(pictures, boundary)
    outline = {"images": np.array([len(pictures)]), "area_m2": np.array([meters])}
    if out.suffix == ".gpkg":
        with atomic(out) as draft:
            write_polygons(draft, "footprints", shapes, facts, "GPKG")
            write_polygons(draft, "boundary", [boundary], outline, "GPKG", append=True)
        return [out]
    if out.suffix:
        raise LabelError(f"{out}: give a .gpkg, or a folder for two .geojson")
    layers = {"footprints": (shapes, facts), "boundary": ([boundary], outline)}
    for name, (members, fields) in layers.items():
        with atomic(out / f"{name}.geojson") as draft:
            write_polygons(draft, name, members, fields, "GeoJSON")
    return [out / f"{name}.geojson" for name in layers]


def footprint(picture: Picture) -> BaseGeometry:
    """Return the outline of an image in degrees (longitude, latitude)."""
    box = shapely.box(*picture.bounds)
    longest = max(box.bounds[2] - box.bounds[0], box.bounds[3] - box.bounds[1])
    dense = shapely.segmentize(box, longest / SIDE_POINTS)
    moving = Transformer.from_crs(picture.crs, 4326, always_xy=True)
    return shapely.transform(dense, moving.transform, interleaved=False)


def _metadata(pictures: list[Picture]) -> dict[str, Column]:
    columns: dict[str, list[Any]] = {
        "name": [p.name for p in pictures],
        "year": [p.year for p in pictures],
        "crs": [crs_name(p.crs) for p in pictures],
        "resolution_m": [p.resolution for p in pictures],
        "rows": [p.shape[0] for p in pictures],
        "cols": [p.shape[1] for p in pictures],
    }
    return {
        name: np.array(values, object if isinstance(values[0], str) else None)
        for name, values in columns.items()
    }


def _area(pictures: list[Picture], boundary: BaseGeometry) -> float:
    """Return the area covered in m2 on the ellipsoid, overlaps counted once."""
    geod = pictures[0].crs.get_geod() if pictures[0].crs else None
    if geod is None:
        return 0.0
    oriented = shapely.orient_polygons(boundary)
    return round(abs(geod.geometry_area_perimeter(oriented)[0]), 1)


def write_polygons(
    path: Path,
    layer: str,
    shapes: list[BaseGeometry],
    fields: dict[str, Column],
    driver: str,
    *,
    append: bool = False,
) -> None:
    """Write shapes in WGS 84 (degrees) with their fields, a column each, as a layer of a file;
    `append`: to a file that has other layers."""
    kinds = {shape.geom_type for shape in shapes}
    pyogrio.raw.write(
        path,
        np.array([shapely.to_wkb(s) for s in shapes], object),
        list(fields.values()),
        list(fields),
        layer=layer,
        driver=driver,
        geometry_type="Polygon" if kinds == {"Polygon"} else "MultiPolygon",
        crs="EPSG:4326",
        append=append,
        promote_to_multi=kinds != {"Polygon"},
    )
