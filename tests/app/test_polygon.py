"""What a client's GeoJSON becomes, and that nothing else gets through."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping

from app.area.geojson import areas_of, read_areas
from app.area.plan import Plan
from app.area.polygon import AreaOfInterest
from app.area.raster import OutputGrid
from app.errors import InvalidArea, InvalidRequest, TooLarge
from app.grid.pixel_grid import PixelGrid
from tests.app.bad_areas import BAD, RING, collection, feature, polygon

MOST = 1000
ELSEWHERE = {"a whole state", "latitude first, where it could be", "more than a MiB"}
"""Refused later: for what the imagery covers, or before they are read."""


@pytest.mark.parametrize(("body", "hint"), [(b, h) for n, b, _, h in BAD if n not in ELSEWHERE])
def test_what_is_no_area_is_refused_quickly_with_a_reason(body: bytes, hint: str) -> None:
    began = time.thread_time()  # of this machine's other work it knows nothing
    with pytest.raises((InvalidArea, TooLarge)) as caught:
        read_areas(body, MOST)
    assert time.thread_time() - began < 1
    assert str(caught.value)
    assert len(str(caught.value)) < 400
    error = caught.value
    assert isinstance(error, InvalidArea | TooLarge)
    assert hint in error.hint


def test_a_geometry_a_feature_and_a_collection_hold_the_same_area() -> None:
    expected = shapely.Polygon(RING)
    for document in (
        polygon(RING),
        {"type": "MultiPolygon", "coordinates": [[RING]]},
        feature(polygon(RING)),
        collection(feature(polygon(RING))),
    ):
        (area,) = areas_of(document, MOST).areas
        assert area.geometry.equals(expected)


def test_ids_and_properties_are_kept() -> None:
    document = collection(
        feature(polygon(RING), id="creek", properties={"name": "Créek", "deep": {"a": [1]}}),
        feature(polygon(RING), id=7, properties=None),
    )
    areas = areas_of(document, MOST)
    assert areas.collection
    assert [area.id for area in areas.areas] == ["creek", 7]
    assert areas.areas[0].properties == {"name": "Créek", "deep": {"a": [1]}}


def test_altitudes_are_dropped_and_it_is_said() -> None:
    high = [[*point, 120.5] for point in RING]
    areas = areas_of(polygon(high), MOST)
    assert not areas.areas[0].geometry.has_z
    assert areas.notes == ("altitudes were dropped",)
    assert areas_of(polygon(RING), MOST).notes == ()


@pytest.mark.parametrize(
    "crs",
    [
        None,
        *(
            {"type": "name", "properties": {"name": name}}
            for name in (
                "urn:ogc:def:crs:OGC:1.3:CRS84",
                "urn:ogc:def:crs:OGC::CRS84",
                "OGC:CRS84",
                "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
                "EPSG:4326",
                "urn:ogc:def:crs:EPSG::4326",
            )
        ),
    ],
)
def test_longitude_and_latitude_may_be_named(crs: Any) -> None:  # noqa: ANN401
    (area,) = areas_of(polygon(RING, crs=crs), MOST).areas
    assert area.geometry.equals(shapely.Polygon(RING))


def test_a_byte_order_mark_is_skipped() -> None:
    body = json.dumps(polygon(RING)).encode("utf-8-sig")
    assert body[:3] == b"\xef\xbb\xbf"
    assert read_areas(body, MOST) == read_areas(body[3:], MOST)


def test_features_without_a_geometry_are_skipped_and_counted() -> None:
    document = collection(feature(None), feature(polygon(RING), id=7), feature(None))
    areas = areas_of(document, MOST)
    assert [area.id for area in areas.areas] == [7]
    assert areas.notes == ("features without a geometry were skipped: 2",)


EAST, WEST = (
    [[lon, 52.0], [lon + 0.01, 52.0], [lon + 0.01, 52.02], [lon, 52.02], [lon, 52.0]]
    for lon in (179.99, -180.0)
)


def test_a_polygon_split_at_180_degrees_is_one_area() -> None:
    document = {"type": "MultiPolygon", "coordinates": [[EAST], [WEST]]}
    (area,) = areas_of(document, MOST).areas
    halves = [areas_of(polygon(ring), MOST).areas[0].square_meters for ring in (EAST, WEST)]
    assert area.square_meters == pytest.approx(sum(halves))
    assert area.boxes == ((-180.0, 52.0, -179.99, 52.02), (179.99, 52.0, 180.0, 52.02))
    longitude, latitude = area.middle
    assert abs(longitude) == pytest.approx(180)
    assert latitude == pytest.approx(52.01)
    grids = [PixelGrid("EPSG:26901"), PixelGrid("EPSG:26916")]
    plan = Plan.of(area, grids, (-180, 40, 180, 60))
    assert plan.outside_m2 == 0
    output = OutputGrid.of(area, grids)
    assert output.window.cols == pytest.approx(0.02 * 111_320 * math.cos(math.radians(52)), rel=0.1)
    assert output.window.rows == pytest.approx(0.02 * 111_250, rel=0.1)


def test_each_side_of_180_degrees_may_be_half_the_globe_and_not_more() -> None:
    def ring(west: float, east: float) -> list[list[float]]:
        return [[west, 0], [east, 0], [east, 1], [west, 1], [west, 0]]

    sides = {"type": "MultiPolygon", "coordinates": [[ring(-180, -1)], [ring(0, 180)]]}
    assert len(areas_of(sides, MOST).areas[0].boxes) == 2
    with pytest.raises(InvalidArea, match="181 degrees wide"):
        areas_of({"type": "MultiPolygon", "coordinates": [[ring(-90, 91)]]}, MOST)


def test_rings_may_run_either_way() -> None:
    one, other = (areas_of(polygon(ring), MOST).areas[0] for ring in (RING, RING[::-1]))
    assert one.square_meters == pytest.approx(other.square_meters)
    assert one.square_meters == pytest.approx(93.4 * 110.9, rel=0.01)


def test_as_many_vertices_as_allowed_are_allowed() -> None:
    ring = list(shapely.Point(-87, 33).buffer(0.01, quad_segs=200).exterior.coords)
    assert areas_of(polygon([list(p) for p in ring]), len(ring)).areas
    with pytest.raises(TooLarge, match="vertices is 801, the limit is 800"):
        areas_of(polygon([list(p) for p in ring]), 800)


@pytest.mark.parametrize(
    ("bounds", "field"),
    [
        ((1, 0, 1, 1), "minx"),
        ((2, 0, 1, 1), "minx"),
        ((0, 5, 1, 4), "miny"),
        ((179, 0, -179, 1), "minx"),
    ],
)
def test_a_rectangle_needs_its_corners_in_order(bounds: Any, field: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidRequest) as caught:
        AreaOfInterest.of_bounds(bounds)
    assert caught.value.field == field


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**30), 10**30),
    st.sampled_from([1e308, -1e308, 5e-324, 180.0, -180.0, 90.0, 0.0, -0.0]),
    st.none(),
    st.text(max_size=3),
    st.booleans(),
)
positions = st.one_of(
    st.lists(numbers, max_size=4), st.tuples(st.floats(-180, 180), st.floats(-90, 90)).map(list)
)
rings = st.lists(positions, max_size=9).map(lambda ring: [*ring, ring[0]] if ring else ring)
geometries = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["Polygon", "MultiPolygon", "Point", "GeometryCollection", None, 3]
        ),
        "coordinates": st.one_of(
            st.lists(rings, max_size=4),
            st.lists(st.lists(rings, max_size=3), max_size=3),
            positions,
        ),
    }
)
documents = st.one_of(
    geometries,
    st.builds(feature, geometries),
    st.builds(lambda g: collection(*map(feature, g)), st.lists(geometries, max_size=3)),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists, max_leaves=20
    ),
)


@settings(max_examples=400)
@given(documents)
@example(polygon([[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]))
def test_whatever_is_sent_is_an_area_or_is_refused(document: Any) -> None:  # noqa: ANN401
    try:
        areas = read_areas(json.dumps(document).encode(), MOST).areas
    except (InvalidArea, TooLarge):
        return
    for area in areas:
        assert area.geometry.is_valid
        assert area.geometry.area > 0
        assert area.square_meters >= 0
        # The outline has more points along the same edges, each rounded: an ulp of 180 is 3e-14.
        apart = area.outline.symmetric_difference(area.geometry).area
        assert apart <= 1e-13 * area.geometry.length or area.geometry.area < 1e-12


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=3, max_size=30))
def test_a_ring_of_any_points_is_taken_as_it_is_or_refused(
    points: list[tuple[float, float]],
) -> None:
    document = polygon([list(point) for point in [*points, points[0]]])
    try:
        (area,) = areas_of(document, MOST).areas
    except (InvalidArea, TooLarge):
        return
    assert mapping(area.geometry)["coordinates"] == (tuple(map(tuple, [*points, points[0]])),)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises((InvalidArea, TooLarge)):
        read_areas(body, MOST)
