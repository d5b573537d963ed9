"""Areas on the work grid against the ellipsoid; no ground twice, none left out."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from app.area.plan import Part, Plan
from app.area.polygon import AreaOfInterest
from app.errors import InvalidArea
from app.grid.pixel_grid import PixelGrid, transformer
from model.windows import BLOCK

ZONES = [PixelGrid(f"EPSG:269{zone}") for zone in range(10, 20)]
CONUS = (-126.0, 24.0, -66.0, 50.0)


def by_geodesics(polygon: shapely.Geometry) -> float:
    """m² on the GRS 80 ellipsoid with edges as GeoJSON means them, straight in degrees."""
    fine = shapely.segmentize(shapely.orient_polygons(polygon), 0.0005)
    return abs(Geod(ellps="GRS80").geometry_area_perimeter(fine)[0])


def ground_of(part: Part) -> float:
    shares = part.coverage()
    pixels = BLOCK * BLOCK if shares is None else float(shares.sum())
    return pixels * part.pixel_area


def ground(plan: Plan) -> float:
    return sum(map(ground_of, plan.parts()))


def star(lon: float, lat: float, radii: list[float]) -> shapely.Polygon:
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    reach = np.array(radii)
    return shapely.Polygon(
        np.column_stack([lon + reach * np.cos(angles), lat + reach * np.sin(angles)])
    )


@pytest.mark.parametrize("latitude", [25.0, 33.0, 41.0, 49.0])
@pytest.mark.parametrize("longitude", [-87.0, -84.9, -84.05, -81.0, -90.0, -119.97])
def test_pixels_add_up_to_the_polygon_on_the_ellipsoid_within_a_hundredth_of_a_per_cent(
    longitude: float, latitude: float
) -> None:
    """From the middle of a zone to both its edges, where the map is 0.04 % too small to 0.1 % too
    large."""
    polygon = star(longitude, latitude, [0.011, 0.004, 0.009, 0.007, 0.012, 0.003, 0.008])
    plan = Plan.of(AreaOfInterest(polygon), ZONES, CONUS)
    assert ground(plan) == pytest.approx(by_geodesics(polygon), rel=1e-5)


@settings(max_examples=25)
@given(
    st.floats(-124, -68),
    st.floats(25, 49),
    st.lists(st.floats(0.001, 0.008), min_size=3, max_size=12),
)
def test_it_holds_anywhere(longitude: float, latitude: float, radii: list[float]) -> None:
    polygon = star(longitude, latitude, radii)
    plan = Plan.of(AreaOfInterest(polygon), ZONES, CONUS)
    assert ground(plan) == pytest.approx(by_geodesics(polygon), rel=1e-4)


def test_a_polygon_over_a_zone_edge_is_cut_there_and_loses_nothing() -> None:
    polygon = star(-84.0, 33.0, [0.02, 0.015, 0.018, 0.02, 0.013])
    plan = Plan.of(AreaOfInterest(polygon), ZONES, CONUS)
    assert [region.grid.crs for region in plan.regions] == ["EPSG:26916", "EPSG:26917"]
    for region, west, east in zip(plan.regions, (-90, -84), (-84, -78), strict=True):
        expected = by_geodesics(polygon.intersection(shapely.box(west, 20, east, 50)))
        found = sum(map(ground_of, region.parts()))
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_hole_and_several_parts_count_as_they_are() -> None:
    ring = star(-87.1, 33.0, [0.01] * 9).difference(star(-87.1, 33.0, [0.004] * 5))
    both = shapely.MultiPolygon([ring, star(-87.2, 33.05, [0.003] * 6)])
    plan = Plan.of(AreaOfInterest(both), ZONES, CONUS)
    assert ground(plan) == pytest.approx(by_geodesics(both), rel=1e-5)


def test_every_block_once_and_only_those_that_share_ground() -> None:
    polygon = star(-87.1, 33.0, [0.02, 0.004, 0.015, 0.003, 0.02, 0.01])
    plan = Plan.of(AreaOfInterest(polygon), ZONES, CONUS)
    blocks = [part.block for part in plan.parts()]
    assert len(set(blocks)) == len(blocks) == plan.count()
    grid = PixelGrid("EPSG:26916")
    project = transformer("OGC:CRS84", grid.crs).transform
    shape = shapely.transform(shapely.segmentize(polygon, 1e-4), project, interleaved=False)
    window = grid.touching(shape.bounds)
    expected = {
        (col, row)
        for row in range(window.row // BLOCK, window.row_stop // BLOCK + 1)
        for col in range(window.col // BLOCK, window.col_stop // BLOCK + 1)
        if shape.intersection(
            shapely.box(col * 512, 1e7 - (row + 1) * 512, (col + 1) * 512, 1e7 - row * 512)
        ).area
        > 1e-3
    }
    assert {(block.col, block.row) for block in blocks} == expected


def test_what_lies_beyond_the_imagery_is_counted_and_never_planned() -> None:
    polygon = shapely.box(-87.02, 32.99, -86.98, 33.01)
    plan = Plan.of(AreaOfInterest(polygon), ZONES[6:7], (-87.0, 32.0, -86.0, 34.0))
    assert plan.outside_m2 == pytest.approx(by_geodesics(polygon) / 2, rel=1e-4)
    assert ground(plan) + plan.outside_m2 == pytest.approx(by_geodesics(polygon), rel=1e-5)


def test_elsewhere_there_is_nothing_to_plan() -> None:
    plan = Plan.of(AreaOfInterest(shapely.box(10, 50, 10.1, 50.1)), ZONES, CONUS)
    assert (plan.regions, plan.count()) == ((), 0)
    assert plan.outside_m2 == pytest.approx(plan.area.square_meters)


def test_swapped_axes_are_noticed_when_the_place_would_fit() -> None:
    swapped = AreaOfInterest(shapely.box(33.0, -87.1, 33.1, -87.0))
    with pytest.raises(InvalidArea) as caught:
        Plan.of(swapped, ZONES, CONUS)
    assert "longitude comes first" in caught.value.hint


def test_a_whole_state_is_counted_by_its_size() -> None:
    alabama = shapely.box(-88.4, 30.3, -84.9, 35.0)
    plan = Plan.of(AreaOfInterest(alabama), ZONES, CONUS)
    assert plan.count() == pytest.approx(by_geodesics(alabama) / 512**2, rel=0.01)


def test_two_grids_of_one_meridian_share_no_ground() -> None:
    grids = [PixelGrid("EPSG:26916"), PixelGrid("EPSG:32616")]
    polygon = shapely.box(-87.01, 33.0, -87.0, 33.01)
    plan = Plan.of(AreaOfInterest(polygon), grids, CONUS)
    assert [region.grid.crs for region in plan.regions] == ["EPSG:26916"]
    assert ground(plan) == pytest.approx(by_geodesics(polygon), rel=1e-5)
