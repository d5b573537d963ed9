"""A tile's ground against the formulas of the standard, and its pixels against PROJ."""

from __future__ import annotations

import math
import random

import morecantile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from app.errors import InvalidRequest
from app.grid.pixel_grid import NORTH, PixelGrid
from app.grid.projection import cells_under, project
from app.grid.tile import MAX_ZOOM, SIZES, TMS, TMS_NAMES, Tile, native_zoom
from model.windows import Window

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
    x, y = tile.grid.centers(tile.window)
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
    cols, rows = cells_under(tile.grid, tile.window, grid)
    assert (cols != np.floor(x / resolution)).sum() == 0
    assert (rows != np.floor((10_000_000 - y) / resolution)).sum() == 0
    projected = project(tile.grid, tile.window, grid.crs)
    assert np.abs(projected.x - x).max() <= projected.error
    assert np.abs(projected.y - y).max() <= projected.error


def test_pixels_once_placed_are_not_written_on() -> None:
    tile = Tile(17, 33_500, 53_000)
    grid = PixelGrid("EPSG:26916")
    cells_under(tile.grid, tile.window, grid)[0][:] = 0
    assert cells_under(tile.grid, tile.window, grid)[0].all()
    with pytest.raises(ValueError, match="read-only"):
        project(tile.grid, tile.window, grid.crs).x[0, 0] = 0


@given(st.data(), st.integers(0, MAX_ZOOM), st.sampled_from(SIZES))
def test_a_tile_is_a_window_of_the_pixels_of_its_zoom(
    data: st.DataObject, z: int, size: int
) -> None:
    x, y = (data.draw(st.integers(0, 2**z - 1)) for _ in range(2))
    tile, first = Tile(z, x, y, size), Tile(z, 0, 0, size)
    box = TMS.xy_bounds(morecantile.Tile(x, y, z))
    assert tile.bounds == pytest.approx((box.left, box.bottom, box.right, box.top), abs=1e-6)
    assert tile.grid == first.grid
    assert tile.window.col - first.window.col == x * size
    assert tile.window.row == y * size
    assert tile.grid.touching(tile.bounds).expand(1).contains(tile.window)


AREAS = [
    ("EPSG:5070", 2.0, Window(430_000, 4_512_000, 512, 512)),
    ("EPSG:4326", 1e-5, Window(-8_540_000, 5_000_000, 512, 512)),
    ("EPSG:2264", 3.0, Window(120_000, 3_140_000, 300, 77)),
    ("EPSG:3857", 900.0, Window(-10_300, -30_000, 512, 512)),
    ("EPSG:26917", 1.0, Window(220_000, 6_300_000, 512, 512)),
    ("EPSG:5070", 70_000.0, Window(-100, 20, 512, 512)),
]
"""Windows of downloads in other CRSs; the last one reaches where projections end."""


@pytest.mark.parametrize(("crs", "resolution", "window"), AREAS)
@pytest.mark.parametrize("zone", [16, 12])
def test_every_pixel_of_any_window_has_the_grid_pixel_proj_gives_it(
    crs: str, resolution: float, window: Window, zone: int
) -> None:
    north = 90.0 if crs == "EPSG:4326" else NORTH
    grid, target = PixelGrid(crs, resolution, north), PixelGrid(f"EPSG:{26900 + zone}")
    across = (np.arange(window.cols) + window.col + 0.5) * resolution
    down = north - (np.arange(window.rows) + window.row + 0.5) * resolution
    forward = Transformer.from_crs(crs, target.crs, always_xy=True).transform
    x, y = forward(*np.meshgrid(across, down))
    finite = np.isfinite(x) & np.isfinite(y)
    cols, rows = cells_under(grid, window, target)
    assert (cols != np.floor(x))[finite].sum() == 0
    assert (rows != np.floor(10_000_000 - y))[finite].sum() == 0
    assert (rows[~finite] == -1).all()


def test_a_grid_is_its_own_pixels() -> None:
    grid, window = PixelGrid("EPSG:26916"), Window(500_003, 6_000_001, 30, 20)
    cols, rows = cells_under(grid, window, grid)
    assert (cols == np.arange(500_003, 500_033)[None, :]).all()
    assert (rows == np.arange(6_000_001, 6_000_021)[:, None]).all()


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
