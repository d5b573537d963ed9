"""Class polygons: strips must not show, whatever meets at their seams."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyogrio import raw, read_info
from rasterio.features import shapes
from shapely.geometry import shape

from app.area.polygons import write_polygons
from app.render.attribute_table import table_of
from app.render.geotiff import CREATION
from model.legend import LEGEND, NODATA
from tests.app.conftest import Classes

AFFINE = Affine(1, 0, 500_000, 0, -1, 3_600_000)
TABLE = table_of(LEGEND)


def written(path: Path, array: Classes) -> Path:
    rows, cols = array.shape
    place = {"crs": "EPSG:26916", "transform": AFFINE, "width": cols, "height": rows}
    with rasterio.open(path, "w", **CREATION, **place) as dataset:
        dataset.write(array, 1)
    return path


def in_one_go(array: Classes) -> Counter[tuple[int, bytes]]:
    found = shapes(array, mask=array != NODATA, connectivity=4, transform=AFFINE)
    return Counter((int(value), canonical(shape(geometry))) for geometry, value in found)


def canonical(polygon: shapely.Polygon) -> bytes:
    content: bytes = shapely.to_wkb(shapely.normalize(shapely.simplify(polygon, 0)))
    return content


def read(path: Path) -> Counter[tuple[int, bytes]]:
    _, _, geometries, (values, _, _, _) = raw.read(path, layer=0)
    polygons = shapely.from_wkb(geometries)
    return Counter(
        (int(value), canonical(polygon)) for value, polygon in zip(values, polygons, strict=True)
    )


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 7, 16]), st.integers(2, 4))
def test_strips_of_any_height_give_the_polygons_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, seed: int, strip: int, kinds: int
) -> None:
    draw = np.random.default_rng(seed)
    values = np.array([1, 5, NODATA, 6], dtype=np.uint8)[:kinds]
    array = draw.choice(values, size=(int(draw.integers(1, 30)), int(draw.integers(1, 30))))
    folder = tmp_path_factory.mktemp("strips")
    raster = written(folder / "a.tif", array)
    count = write_polygons(raster, TABLE, folder / "a.gpkg", strip)
    expected = in_one_go(array)
    assert count == sum(expected.values())
    if count:
        assert read(folder / "a.gpkg") == expected


def test_a_ring_a_comb_and_a_corner_across_seams(tmp_path: Path) -> None:
    array = np.full((12, 14), 6, dtype=np.uint8)
    array[1:11, 1:6] = 5
    array[3:9, 2:5] = 6  # a lake in the wood
    array[2:12, 7] = array[2:12, 9] = array[2:12, 11] = 1  # a comb: one thing, three teeth
    array[2, 7:12] = 1
    array[5, 12] = 2
    array[6, 13] = 2  # meets it at a corner only: another polygon
    raster = written(tmp_path / "a.tif", array)
    for strip in (1, 2, 3, 4, 5, 6, 512):
        path = tmp_path / f"{strip}.gpkg"
        write_polygons(raster, TABLE, path, strip)
        assert read(path) == in_one_go(array)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb"])
def test_nothing_to_show_is_an_empty_layer(tmp_path: Path, suffix: str) -> None:
    raster = written(tmp_path / "a.tif", np.full((5, 5), NODATA, dtype=np.uint8))
    path = tmp_path / f"none.{suffix}"
    assert write_polygons(raster, TABLE, path) == 0
    assert len(raw.read(path, layer=0)[2]) == 0
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_geojson_is_in_degrees_and_winds_as_the_standard_asks(tmp_path: Path) -> None:
    array = np.full((6, 6), 3, dtype=np.uint8)
    raster = written(tmp_path / "a.tif", array)
    write_polygons(raster, TABLE, tmp_path / "a.geojson")
    _, _, geometries, columns = raw.read(tmp_path / "a.geojson")
    polygon = shapely.from_wkb(geometries[0])
    west, south, east, north = polygon.bounds
    assert -87.0 <= west < east < -86.99
    assert 32.5 < south < north < 32.6
    assert shapely.is_ccw(polygon.exterior)
    assert columns[3][0] == pytest.approx(36 / 0.9996**2 / 1e4, abs=1e-6)


def test_more_polygons_than_fit_one_batch_are_all_written(tmp_path: Path) -> None:
    array = np.where(np.indices((70, 70)).sum(axis=0) % 2, 1, 5).astype(np.uint8)
    raster = written(tmp_path / "a.tif", array)
    for suffix in ("gpkg", "geojson", "fgb"):
        path = tmp_path / f"many.{suffix}"
        assert write_polygons(raster, TABLE, path, 32) == 4900
        assert read_info(path, layer=0)["features"] == 4900
