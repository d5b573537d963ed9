"""The work grid against its definition, written out, and against PROJ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from app.grid.pixel_grid import Block, PixelGrid, bounds_between, central_meridian, transformer
from model.windows import BLOCK, Window, cover

GRID = PixelGrid("EPSG:26916")
RESOLUTIONS = [0.5, 0.6, 1.0, 2.0]
meters = st.floats(1000, 900_000)
northings = st.floats(0, 9_000_000)
sides = st.floats(0.1, 3000)


@given(meters, northings, st.sampled_from(RESOLUTIONS))
def test_a_point_lies_in_the_square_of_its_pixel(x: float, y: float, resolution: float) -> None:
    cols, rows = PixelGrid("EPSG:26916", resolution).cells(np.array([x]), np.array([y]))
    col, row = int(cols[0]), int(rows[0])
    rounding = 1e-6
    assert col * resolution - rounding <= x <= (col + 1) * resolution + rounding
    top = 10_000_000 - row * resolution
    assert top - resolution - rounding <= y <= top + rounding


def test_the_upper_left_corner_belongs_to_the_pixel() -> None:
    x, y = np.array([500_000.0, 500_000.999]), np.array([10_000_000.0 - 700, 9_999_299.001])
    cols, rows = GRID.cells(x, y)
    assert (cols.tolist(), rows.tolist()) == ([500_000] * 2, [700] * 2)


@given(meters, northings, sides, sides, st.sampled_from(RESOLUTIONS))
def test_pixels_that_touch_and_pixels_inside_are_those_counted_one_by_one(
    x: float, y: float, width: float, height: float, resolution: float
) -> None:
    grid = PixelGrid("EPSG:26916", resolution)
    bounds = (x, y, x + width, y + height)
    touching, inside = grid.touching(bounds), grid.inside(bounds)
    left, bottom, right, top = grid.bounds(touching)
    slack = 1e-6
    assert left <= x + slack
    assert right >= x + width - slack
    assert bottom <= y + slack
    assert top >= y + height - slack
    assert left > x - resolution - slack
    assert right < x + width + resolution + slack
    assert bottom > y - resolution - slack
    assert top < y + height + resolution + slack
    if inside is None:
        assert min(width, height) < 2 * resolution
        return
    left, bottom, right, top = grid.bounds(inside)
    tolerance = 1e-3 * resolution + slack
    assert left >= x - tolerance
    assert right <= x + width + tolerance
    assert bottom >= y - tolerance
    assert top <= y + height + tolerance
    assert width - (right - left) < 2 * resolution
    assert height - (top - bottom) < 2 * resolution
    assert touching.expand(1).contains(inside)


def test_whole_meter_bounds_are_their_own_pixels() -> None:
    bounds = (502_700.0, 3_647_400.0, 504_200.0, 3_648_600.0)
    expected = Window(502_700, 6_351_400, 1500, 1200)
    assert GRID.inside(bounds) == GRID.touching(bounds) == expected
    assert GRID.bounds(expected) == bounds


@given(st.integers(0, 10**6), st.integers(0, 10**7), st.sampled_from(RESOLUTIONS))
def test_the_affine_of_a_window_puts_pixel_centers_where_cells_finds_them(
    col: int, row: int, resolution: float
) -> None:
    grid = PixelGrid("EPSG:26916", resolution)
    affine = grid.transform(Window(col, row, 7, 5))
    x, y = affine.c + 6.5 * affine.a, affine.f + 4.5 * affine.e
    assert (affine.b, affine.d) == (0, 0)
    cols, rows = grid.cells(np.array([x]), np.array([y]))
    assert (int(cols[0]), int(rows[0])) == (col + 6, row + 4)


@given(st.integers(0, 10**6), st.integers(0, 10**7))
def test_the_blocks_that_cover_a_window_hold_every_pixel_once(col: int, row: int) -> None:
    extent = Window(col, row, 700, 513)
    blocks = [Block.of(GRID, window) for window in cover(extent)]
    assert len(set(blocks)) == len(blocks)
    parts = [block.window.intersection(extent) for block in blocks]
    assert sum(part.cols * part.rows for part in parts if part) == 700 * 513
    for block in blocks:
        assert (block.window.col % BLOCK, block.window.row % BLOCK) == (0, 0)
        assert block.col == block.window.col // BLOCK


@pytest.mark.parametrize("zone", range(10, 20))
def test_the_central_meridian_is_that_of_the_zone(zone: int) -> None:
    assert central_meridian(f"EPSG:{26900 + zone}") == 6 * zone - 183
    assert central_meridian(f"EPSG:{32600 + zone}") == 6 * zone - 183


def test_a_transformer_is_made_once_and_is_projs() -> None:
    assert transformer("EPSG:3857", GRID.crs) is transformer("EPSG:3857", GRID.crs)
    point = (-9_684_000.0, 3_890_000.0)
    expected = Transformer.from_crs(3857, 26916, always_xy=True).transform(*point)
    assert transformer("EPSG:3857", GRID.crs).transform(*point) == expected


def test_bounds_in_another_crs_hold_every_point_of_the_edges() -> None:
    source = (-9_700_000.0, 3_880_000.0, -9_600_000.0, 3_980_000.0)
    left, bottom, right, top = bounds_between("EPSG:3857", GRID.crs, source)
    steps = np.linspace(0, 1, 1000)
    west, south, east, north = source
    edges = [(west + steps * (east - west), np.full(1000, y)) for y in (south, north)]
    edges += [(np.full(1000, x), south + steps * (north - south)) for x in (west, east)]
    for x, y in edges:
        there_x, there_y = Transformer.from_crs(3857, 26916, always_xy=True).transform(x, y)
        assert left <= there_x.min() + 1
        assert right >= there_x.max() - 1
        assert bottom <= there_y.min() + 1
        assert top >= there_y.max() - 1
    assert math.isfinite(left + bottom + right + top)
