"""A tile's ground against the formulas of the standard, and its pixels against PROJ."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from app.errors import InvalidRequest
from app.grid.pixel_grid import PixelGrid
from app.grid.tile import MAX_ZOOM, SIZES, TMS, TMS_NAMES, Tile, native_zoom

HALF = math.pi * 6378137.0


def lonlat_of_corner(z: int, x: int, y: int) -> tuple[float, float]:
    """The upper-left corner of a tile, by the formula every XYZ map uses."""
    latitude = math.atan(math.sinh(math.pi * (1 - 2 * y / 2**z)))
    return x / 2**z * 360 - 180, math.degrees(latitude)


@given(st.data(), st.integers(0, MAX_ZOOM))
def test_a_tile_lies_where_the_formula_puts_it(data: st.DataObject, z: int) -> None:
    x, y = (data.draw(st.integers(0, 2**z - 1)) for _ in range(2))
    tile = Tile(z, x, y)
    side = 2 * HALF / 2**z
    left, bottom, right, top = tile.bounds
    assert (left, top) == pytest.approx((x * side - HALF, HALF - y * side), abs=1e-6)
    assert (right - left, top - bottom) == pytest.approx((side, side), abs=1e-6)
    west, south, east, north = tile.lonlat_bounds
    assert (west, north) == pytest.approx(lonlat_of_corner(z, x, y), abs=1e-9)
    assert (east, south) == pytest.approx(lonlat_of_corner(z, x + 1, y + 1), abs=1e-9)


def test_the_tile_matrix_set_is_the_registered_one() -> None:
    assert TMS.id == TMS_NAMES[0] == "WebMercatorQuad"
    assert TMS.tileMatrices[0].pointOfOrigin == pytest.approx((-HALF, HALF))


@pytest.mark.parametrize("size", SIZES)
def test_pixel_centers_are_half_a_pixel_from_the_edge_and_a_pixel_apart(size: int) -> None:
    tile = Tile(17, 33_500, 53_000, size)
    x, y = tile.centers()
    left, bottom, right, top = tile.bounds
    step = (right - left) / size
    assert (x.shape, y.shape) == ((size,), (size,))
    assert x[0] - left == pytest.approx(step / 2)
    assert top - y[0] == pytest.approx(step / 2)
    assert y[-1] - bottom == pytest.approx(step / 2)
    assert np.diff(x) == pytest.approx(step)
    assert np.diff(y) == pytest.approx(-step)


CASES = [
    (zone, z, size, resolution)
    for zone in (16, 17, 10)
    for z, size in ((11, 256), (12, 1024), (13, 256), (15, 512), (17, 256), (17, 1024), (21, 256))
    for resolution in (1.0, 0.6)
]


@pytest.mark.parametrize(("zone", "z", "size", "resolution"), CASES)
def test_every_pixel_of_a_tile_has_the_grid_pixel_proj_gives_it(
    zone: int, z: int, size: int, resolution: float
) -> None:
    draw = random.Random(f"{zone} {z} {size}")
    lon, lat = 6 * zone - 183 + draw.uniform(-3.4, 3.4), draw.uniform(25, 49)
    at = TMS.tile(lon, lat, z)
    tile = Tile(z, at.x, at.y, size)
    grid = PixelGrid(f"EPSG:{26900 + zone}", resolution)
    left, bottom, right, top = tile.bounds
    steps = (np.arange(size) + 0.5) / size
    mercator = np.meshgrid(left + steps * (right - left), top - steps * (top - bottom))
    x, y = Transformer.from_crs(3857, grid.crs, always_xy=True).transform(*mercator)
    cols, rows = tile.cells(grid)
    assert (cols != np.floor(x / resolution)).sum() == 0
    assert (rows != np.floor((10_000_000 - y) / resolution)).sum() == 0
    placed = tile.project(grid.crs)
    assert np.abs(placed.x - x).max() <= placed.error
    assert np.abs(placed.y - y).max() <= placed.error


def test_pixels_once_placed_are_not_written_on() -> None:
    tile = Tile(17, 33_500, 53_000)
    grid = PixelGrid("EPSG:26916")
    tile.cells(grid)[0][:] = 0
    assert tile.cells(grid)[0].all()
    with pytest.raises(ValueError, match="read-only"):
        tile.project(grid.crs).x[0, 0] = 0


@given(st.floats(-70, 70), st.integers(8, 20))
def test_ground_resolution_is_that_of_the_sphere(latitude: float, z: int) -> None:
    at = TMS.tile(10.0, latitude, z)
    tile = Tile(z, at.x, at.y, 512)
    _, south, _, north = tile.lonlat_bounds
    widest = 2 * HALF / 2**z / 512
    low, high = sorted(widest * math.cos(math.radians(lat)) for lat in (south, north))
    assert low * 0.999 <= tile.ground_resolution <= high * 1.001


@pytest.mark.parametrize("latitude", [25.0, 33.0, 40.0, 49.0])
def test_one_meter_is_native_at_zoom_17_from_florida_to_canada(latitude: float) -> None:
    assert native_zoom(1.0, latitude) == 17
    assert native_zoom(0.5, latitude) == 18
    at = TMS.tile(-90.0, latitude, 17)
    assert 0.7 < Tile(17, at.x, at.y).ground_resolution < 1.42


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ((-1, 0, 0), "z"),
        ((25, 0, 0), "z"),
        ((3, 8, 0), "x"),
        ((3, -1, 0), "x"),
        ((3, 0, 8), "y"),
        ((3, 0, -1), "y"),
        ((3, 0, 0, 0), "tilesize"),
        ((3, 0, 0, 2048), "tilesize"),
    ],
)
def test_an_address_that_is_none_is_refused_with_its_field(
    address: tuple[int, ...], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Tile(*address)
    assert caught.value.field == field
