"""Labels as a user draws them, on scenes of the made ground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import shapes

from tests.world.scenes import SyntheticScene, write_scene

DRIVERS = {
    ".gpkg": "GPKG", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile", ".gdb": "OpenFileGDB",
}  # fmt: skip

Geometries = Sequence[Any]


def draw(
    path: Path,
    geometries: Geometries,
    codes: Sequence[object],
    *,
    epsg: int = 26916,
    named: str = "classvalue",
    **fields: Sequence[object],
) -> Path:
    """Writes features with their codes in the field `named` (and others)."""
    columns = {named: codes, **fields}
    kinds = {g.geom_type for g in geometries if g is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.raw.write(
        path,
        np.array([None if g is None else shapely.to_wkb(g) for g in geometries], object),
        [np.array(v, object if isinstance(v[0], str) else np.int64) for v in columns.values()],
        list(columns),
        driver=DRIVERS[path.suffix],
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        crs=f"EPSG:{epsg}",
    )
    return path


def moved(geometries: Geometries, epsg: int, to: int) -> list[Any]:
    moving = Transformer.from_crs(epsg, to, always_xy=True)
    return [shapely.transform(g, moving.transform, interleaved=False) for g in geometries]


def traced(scene: SyntheticScene, epsg: int | None = None) -> tuple[list[Any], list[int]]:
    """Polygons around the true classes of a scene, and their classes."""
    classes: NDArray[np.uint8] = scene.classes()
    left, _, _, top = scene.bounds
    result = shapes(classes, transform=(scene.resolution, 0, left, 0, -scene.resolution, top))
    pairs = [(shapely.geometry.shape(shape), int(value)) for shape, value in result]
    polygons = [p for p, _ in pairs]
    return moved(polygons, scene.epsg, epsg) if epsg else polygons, [v for _, v in pairs]


def town(folder: Path, count: int = 4, side: int = 160, apart: int = 2000) -> list[SyntheticScene]:
    """Small scenes far from each other."""
    return [
        write_scene(
            folder / f"town{n}_2017.tif",
            origin=(502_700.0 + n * apart, 3_648_600.0),
            cols=side,
            rows=side,
            overviews=False,
        )
        for n in range(count)
    ]
