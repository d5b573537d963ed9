"""Shares of pixels in a polygon, against shapely's intersections."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from app.area.plan import coverage

SIZE = 24
LEFT, TOP = 1000.0, 5024.0
SINGLE = 1.2e-7
"""Shares are of single precision: a unit in the last place of 1."""


def by_intersection(polygon: shapely.Geometry, resolution: float = 1.0) -> npt.NDArray[np.float64]:
    col, row = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    left, top = LEFT + col * resolution, TOP - row * resolution
    boxes = shapely.box(left, top - resolution, left + resolution, top)
    shares: npt.NDArray[np.float64] = shapely.area(shapely.intersection(polygon, boxes))
    return shares / resolution**2


def star(radii: list[float], turn: float, reach: float = 12) -> shapely.Polygon:
    angles = turn + np.arange(len(radii)) * 2 * np.pi / len(radii)
    x = LEFT + reach + np.array(radii) * np.cos(angles)
    y = TOP - reach + np.array(radii) * np.sin(angles)
    return shapely.Polygon(np.column_stack([x, y]))


@given(st.lists(st.floats(0.5, 11.9), min_size=3, max_size=40), st.floats(0, 6.3))
def test_every_pixel_has_the_share_that_the_polygon_covers(radii: list[float], turn: float) -> None:
    polygon = star(radii, turn)
    assert np.allclose(
        coverage(polygon, LEFT, TOP, 1.0, SIZE), by_intersection(polygon), rtol=0, atol=SINGLE
    )


@given(st.lists(st.floats(4, 11.9), min_size=5, max_size=20), st.floats(0.2, 3.9), st.booleans())
def test_holes_are_left_out_whichever_way_rings_run(
    radii: list[float], hole: float, reverse: bool
) -> None:
    outer = star(radii, 0.1)
    inner = star([hole] * 7, 0.3)
    if not outer.contains_properly(inner):
        return
    polygon = outer.difference(inner)
    if reverse:
        polygon = shapely.reverse(polygon)
    found = coverage(polygon, LEFT, TOP, 1.0, SIZE)
    assert np.allclose(found, by_intersection(polygon), rtol=0, atol=SINGLE)


def test_edges_on_pixel_borders_cover_whole_pixels_exactly() -> None:
    found = coverage(shapely.box(LEFT + 3, TOP - 7, LEFT + 9, TOP - 2), LEFT, TOP, 1.0, SIZE)
    expected = np.zeros((SIZE, SIZE))
    expected[2:7, 3:9] = 1
    assert (found == expected).all()
    whole = shapely.box(LEFT, TOP - SIZE, LEFT + SIZE, TOP)
    assert (coverage(whole, LEFT, TOP, 1.0, SIZE) == 1).all()


def test_several_polygons_and_what_cutting_left_of_others() -> None:
    parts = [shapely.box(LEFT + 1.5, TOP - 3, LEFT + 2.25, TOP - 1), star([3, 2, 3, 1], 0.0)]
    left_over = shapely.LineString([(LEFT, TOP), (LEFT + 5, TOP - 5)])
    found = coverage(shapely.GeometryCollection([*parts, left_over]), LEFT, TOP, 1.0, SIZE)
    assert np.allclose(found, sum(by_intersection(part) for part in parts), atol=SINGLE)


@pytest.mark.parametrize("resolution", [0.6, 2.0])
def test_other_resolutions(resolution: float) -> None:
    polygon = star([5, 9, 7, 8.5, 6], 0.4)
    reach = SIZE * resolution
    polygon = polygon.intersection(shapely.box(LEFT, TOP - reach, LEFT + reach, TOP))
    found = coverage(polygon, LEFT, TOP, resolution, SIZE)
    assert np.allclose(found, by_intersection(polygon, resolution), rtol=0, atol=SINGLE)


def test_nothing_covers_nothing() -> None:
    assert not coverage(shapely.MultiPolygon(), LEFT, TOP, 1.0, SIZE).any()


@pytest.mark.parametrize("hole", [False, True])
def test_a_long_outline_has_the_same_shares_in_quarters(hole: bool) -> None:
    """Longer than what exactextract is given at once; shapely says the share of every pixel."""
    draw = np.random.default_rng(3)
    polygon = star(draw.uniform(50, 63, 220).tolist(), 0.1, 64)
    if hole:
        polygon = polygon.difference(star(draw.uniform(5, 30, 60).tolist(), 0.2, 64))
    assert shapely.get_num_coordinates(polygon) > 200
    found = coverage(polygon, LEFT, TOP, 1.0, 128)
    col, row = np.meshgrid(np.arange(128), np.arange(128))
    boxes = shapely.box(LEFT + col, TOP - row - 1, LEFT + col + 1, TOP - row)
    expected = shapely.contains(polygon, boxes).astype(float)
    cut = shapely.intersects(polygon.boundary, boxes)
    expected[cut] = shapely.area(shapely.intersection(polygon, boxes[cut]))
    assert np.allclose(found, expected, rtol=0, atol=SINGLE)
    assert found.sum() == pytest.approx(polygon.area, rel=1e-8)
