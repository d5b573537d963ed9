"""Class polygons against what a walk from pixel to pixel finds connected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyogrio import raw, read_info

from app.area.vector_files import write_polygons
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


def read(path: Path) -> list[tuple[int, shapely.Polygon]]:
    _, _, geometries, (values, _, _, _) = raw.read(path, layer=0)
    return list(zip(values.tolist(), shapely.from_wkb(geometries), strict=True))


def components(array: Classes) -> set[tuple[int, frozenset[tuple[int, int]]]]:
    """(value, its pixels as (row, col)) of everything connected, by walking from pixel to pixel."""
    found, seen = set(), np.zeros(array.shape, dtype=bool)
    for start in np.argwhere(array != NODATA).tolist():
        if seen[tuple(start)]:
            continue
        value, group, waiting = int(array[tuple(start)]), set(), [tuple(start)]
        while waiting:
            row, col = waiting.pop()
            inside = 0 <= row < array.shape[0] and 0 <= col < array.shape[1]
            if not inside or seen[row, col] or array[row, col] != value:
                continue
            seen[row, col] = True
            group.add((row, col))
            waiting += [(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)]
        found.add((value, frozenset(group)))
    return found


def pixels_of(polygon: shapely.Polygon, shape: tuple[int, ...]) -> frozenset[tuple[int, int]]:
    """The pixels a polygon is made of; it has their ground and no other."""
    row, col = np.indices(shape)
    inside = shapely.contains_xy(polygon, AFFINE.c + col + 0.5, AFFINE.f - row - 0.5)
    pixels = frozenset((int(r), int(c)) for r, c in np.argwhere(inside))
    assert polygon.area == pytest.approx(len(pixels))
    return pixels


def assert_same(path: Path, array: Classes) -> None:
    polygons = read(path)
    assert all(polygon.is_valid for _, polygon in polygons)
    found = [(value, pixels_of(polygon, array.shape)) for value, polygon in polygons]
    assert len(found) == len(set(found))
    assert set(found) == components(array)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_every_polygon_is_what_is_connected(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kinds: int
) -> None:
    draw = np.random.default_rng(seed)
    values = np.array([1, 5, NODATA, 6], dtype=np.uint8)[:kinds]
    array = draw.choice(values, size=(int(draw.integers(1, 30)), int(draw.integers(1, 30))))
    folder = tmp_path_factory.mktemp("polygons")
    raster = written(folder / "a.tif", array)
    assert write_polygons(raster, TABLE, folder / "a.gpkg") == len(components(array))
    if components(array):
        assert_same(folder / "a.gpkg", array)


def test_a_ring_a_comb_and_a_corner(tmp_path: Path) -> None:
    array = np.full((12, 14), 6, dtype=np.uint8)
    array[1:11, 1:6] = 5
    array[3:9, 2:5] = 6  # a lake in the wood
    array[2:12, 7] = array[2:12, 9] = array[2:12, 11] = 1  # a comb: one thing, three teeth
    array[2, 7:12] = 1
    array[5, 12] = 2
    array[6, 13] = 2  # meets it at a corner only: another polygon
    raster = written(tmp_path / "a.tif", array)
    write_polygons(raster, TABLE, tmp_path / "a.gpkg")
    assert_same(tmp_path / "a.gpkg", array)


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
        assert write_polygons(raster, TABLE, path) == 4900
        assert read_info(path, layer=0)["features"] == 4900
