"""Hectares and files of a polygon as a client gets them: the one law, sums, limits, refusals."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import os
import random
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Geod, Transformer
from rasterio.io import MemoryFile
from rio_cogeo import cog_validate
from shapely.geometry import mapping
from starlette.testclient import TestClient

from app import area
from app.services import Services
from app.settings import Settings
from model.legend import LEGEND, NODATA
from tests.app.bad_areas import BAD
from tests.app.conftest import Classes, Serve
from tests.world.graphs import card_of, write_model
from tests.world.ground import class_at
from tests.world.world import World

TABLE = [[90, 5, 0, 5, 0, 0], [10, 80, 5, 5, 0, 0], [0, 2, 95, 3, 0, 0],
         [1, 1, 1, 90, 3, 4], [0, 0, 2, 2, 92, 4], [2, 2, 0, 6, 10, 80]]  # fmt: skip


@pytest.fixture(scope="module")
def assessed_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pixelwise` with an accuracy table on its card."""
    accuracy = [
        {"name": name, "description": f"labels of {name}", "contingency": table}
        for name, table in (("here", TABLE), ("there", np.eye(6, dtype=int).tolist()))
    ]
    card = card_of("pixelwise", accuracy=accuracy)
    return write_model(tmp_path_factory.mktemp("assessed") / "model.onnx", "pixelwise", card)


@pytest.fixture(scope="module")
def client(serve: Serve, two_quads: World, assessed_model: Path) -> Iterator[TestClient]:
    with serve(two_quads.directory, assessed_model) as running:
        yield running


@pytest.fixture(scope="module")
def seam(serve: Serve, utm_seam: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(utm_seam.directory, pixelwise_model) as running:
        yield running


def star(lon: float, lat: float, reach: float = 0.003) -> shapely.Polygon:
    radii = reach * np.array([1.0, 0.5, 0.9, 0.4, 0.95, 0.6, 0.8])
    angles = np.arange(7) * 2 * np.pi / 7 + 0.2
    return shapely.Polygon(
        np.column_stack([lon + radii * np.cos(angles), lat + radii * np.sin(angles)])
    )


def middle_of(world: World) -> tuple[float, float]:
    (west, south), (east, north) = (scene.lonlat for scene in world.scenes)
    return (west + east) / 2, (south + north) / 2


def geodesic(polygon: shapely.Geometry) -> float:
    fine = shapely.segmentize(shapely.orient_polygons(polygon), 0.0005)
    return abs(Geod(ellps="GRS80").geometry_area_perimeter(fine)[0])


def feature(polygon: shapely.Geometry, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "Feature", "properties": {}, "geometry": mapping(polygon), **members}


def post(client: TestClient, path: str, body: Any, **headers: str) -> Any:  # noqa: ANN401
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def statistics(client: TestClient, polygon: shapely.Geometry, query: str = "") -> dict[str, Any]:
    answer = post(client, f"/statistics{query}", feature(polygon))
    document: dict[str, Any] = answer.json()["properties"]["statistics"]
    return document


def square_meters(document: dict[str, Any]) -> dict[int, float]:
    return {entry["value"]: entry["m2"] for entry in document["classes"]}


def opened(content: bytes) -> tuple[Classes, rasterio.Affine, str]:
    with MemoryFile(content) as memory, memory.open(driver="GTiff") as dataset:
        return dataset.read(1), dataset.transform, f"EPSG:{dataset.crs.to_epsg()}"


# --- hectares


def test_classes_and_what_is_uncovered_add_up_to_the_polygon(
    client: TestClient, two_quads: World
) -> None:
    for reach in (0.0005, 0.003, 0.006, 0.02):  # the last one leaves the imagery
        polygon = star(*middle_of(two_quads), reach)
        found = statistics(client, polygon)
        total = sum(square_meters(found).values()) + found["uncovered"]["m2"]
        assert total == pytest.approx(geodesic(polygon), rel=1e-4)
        assert found["sum"]["m2"] == pytest.approx(total)
        assert found["area"]["m2"] == pytest.approx(geodesic(polygon), rel=1e-6)
        assert (found["uncovered"]["m2"] > 0) == (reach == 0.02)
        assert sum(entry["percent"] for entry in found["classes"]) == pytest.approx(100, abs=0.01)


def test_every_class_has_the_ground_of_its_pixels_each_by_its_share(
    client: TestClient, two_quads: World
) -> None:
    """The made ground says the class of a pixel, shapely its share: nothing is the app's."""
    polygon = star(*middle_of(two_quads), 0.0012)
    project = Transformer.from_crs(4326, 26916, always_xy=True).transform
    shape = shapely.transform(shapely.segmentize(polygon, 1e-4), project, interleaved=False)
    left, bottom, right, top = (math.floor(value) for value in shape.bounds)
    x, y = np.meshgrid(np.arange(left, right + 1), np.arange(bottom, top + 1))
    shares = shapely.area(shapely.intersection(shape, shapely.box(x, y, x + 1, y + 1)))
    classes = class_at(x + 0.5, y + 0.5)
    scale = geodesic(polygon) / shape.area
    found = square_meters(statistics(client, polygon))
    for value in LEGEND.values:
        expected = float(shares[classes == value].sum()) * scale
        assert found[value] == pytest.approx(expected, rel=1e-5, abs=0.01)


def test_a_collection_keeps_its_features_and_adds_their_total(
    client: TestClient, two_quads: World
) -> None:
    lon, lat = middle_of(two_quads)
    features = [
        feature(star(lon - 0.002, lat, 0.001), id="west", properties={"owner": "Ann"}),
        feature(star(lon + 0.002, lat, 0.001), id=2),
    ]
    body = {"type": "FeatureCollection", "features": features}
    answer = post(client, "/statistics", body)
    assert answer.headers["content-type"] == "application/geo+json"
    collection = answer.json()
    assert [each["id"] for each in collection["features"]] == ["west", 2]
    assert collection["features"][0]["properties"]["owner"] == "Ann"
    parts = [each["properties"]["statistics"] for each in collection["features"]]
    for value in LEGEND.values:
        together = sum(square_meters(part)[value] for part in parts)
        assert square_meters(collection["totals"])[value] == pytest.approx(together, abs=0.01)


def test_a_notebook_computes_what_the_service_answers(
    client: TestClient, two_quads: World, two_years: World, assessed_model: Path
) -> None:
    polygon = feature(star(*middle_of(two_quads), 0.001), id="creek")
    areas = area.areas_of(polygon)
    services = Services(Settings(imagery=two_quads.directory, model=assessed_model))
    document = asyncio.run(area.statistics(services.landcover, services.select(), areas))
    file = asyncio.run(area.export(services.landcover, [services.select()], areas, "tif"))
    estimate = asyncio.run(area.estimate(services.landcover, [services.select()], areas))
    services.close()
    assert json.loads(json.dumps(document)) == post(client, "/statistics", polygon).json()
    assert file.content == post(client, "/feature.tif", polygon).content
    assert estimate.cached == estimate.blocks > 0
    services = Services(Settings(imagery=two_years.directory, model=assessed_model))
    before, after = (services.select(year=year) for year in ("2017", "2019"))
    place = area.areas_of(feature(star(*two_years.scenes[1].lonlat, 0.001)))
    changed = asyncio.run(area.change(services.landcover, before, after, place))
    services.close()
    assert changed["changed"]["m2"] > 0
    assert changed["compared"]["m2"] == pytest.approx(changed["area"]["m2"], rel=1e-4)


def test_units_are_those_people_use(client: TestClient, two_quads: World) -> None:
    found = statistics(client, star(*middle_of(two_quads)))["area"]
    assert found["hectares"] == pytest.approx(found["m2"] / 10_000, abs=1e-6)
    assert found["acres"] == pytest.approx(found["m2"] / 4046.8564224, abs=1e-6)


def test_adjusted_areas_follow_the_table_that_is_asked_for(
    client: TestClient, two_quads: World
) -> None:
    polygon = star(*middle_of(two_quads))
    first = statistics(client, polygon)
    assert first["accuracy"]["assessment"] == "here"
    assert "another place" in first["accuracy"]["caveat"]
    table = np.array(TABLE, dtype=float)
    mapped = np.array([entry["hectares"] for entry in first["classes"]])
    expected = (table / table.sum(axis=0)) @ mapped
    adjusted = [entry["adjusted"]["hectares"] for entry in first["classes"]]
    assert adjusted == pytest.approx(expected, abs=1e-5)
    for entry in first["classes"]:
        low, high = entry["adjusted"]["interval95_hectares"]
        assert low < entry["adjusted"]["hectares"] < high
    other = statistics(client, polygon, "?assessment=there")
    for entry, before in zip(other["classes"], first["classes"], strict=True):
        assert entry["adjusted"]["by_assessment"] == before["adjusted"]["by_assessment"]
        assert before["adjusted"]["by_assessment"] == {
            "here": before["adjusted"]["hectares"],
            "there": entry["adjusted"]["hectares"],
        }
        assert entry["adjusted"]["hectares"] == pytest.approx(entry["hectares"], abs=1e-6)
        assert entry["adjusted"]["interval95_hectares"] is None  # one unit of each class
    answer = client.post("/statistics?assessment=nowhere", json=feature(polygon))
    assert (answer.status_code, answer.json()["known"]) == (404, ["here", "there"])


@pytest.mark.parametrize(("query", "accept"), [("?f=csv", "*/*"), ("", "text/csv")])
def test_csv_says_the_same(client: TestClient, two_quads: World, query: str, accept: str) -> None:
    polygon = star(*middle_of(two_quads))
    answer = post(client, f"/statistics{query}", feature(polygon, id="a,b"), accept=accept)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["feature"] for row in rows} == {"a,b"}
    found = {int(row["value"]): float(row["m2"]) for row in rows}
    expected = statistics(client, polygon)
    assert found == square_meters(expected) | {NODATA: expected["uncovered"]["m2"]}


def test_altitudes_are_dropped_and_the_answer_says_so(client: TestClient, two_quads: World) -> None:
    flat = star(*middle_of(two_quads))
    answer = post(client, "/statistics", feature(shapely.force_3d(flat, 99.0))).json()
    assert answer["notes"] == ["altitudes were dropped"]
    assert answer["properties"]["statistics"] == statistics(client, flat)


def test_a_place_without_imagery_is_uncovered_and_no_error(client: TestClient) -> None:
    polygon = star(-100.0, 40.0)
    found = statistics(client, polygon)
    assert found["uncovered"]["m2"] == pytest.approx(geodesic(polygon), rel=1e-6)
    assert found["covered"]["m2"] == 0
    assert all(entry["percent"] == 0 for entry in found["classes"])
    array, _, crs = opened(post(client, "/feature.tif", feature(polygon)).content)
    assert (array == NODATA).all()
    assert crs == "EPSG:32614"


def test_an_area_split_at_180_degrees_is_answered_whole(client: TestClient) -> None:
    halves = [shapely.box(179.999, 52, 180, 52.001), shapely.box(-180, 52, -179.999, 52.001)]
    polygon = shapely.MultiPolygon(halves)
    found = statistics(client, polygon)
    assert found["uncovered"]["m2"] == pytest.approx(sum(map(geodesic, halves)), rel=1e-6)
    array, _, crs = opened(post(client, "/feature.tif", feature(polygon)).content)
    assert crs in ("EPSG:32601", "EPSG:32660")
    assert array.shape[1] == pytest.approx(0.002 * 111_320 * math.cos(math.radians(52)), rel=0.1)
    with zipfile.ZipFile(
        io.BytesIO(post(client, "/feature.zip", feature(polygon)).content)
    ) as bundle:
        west, _, east, _ = json.loads(bundle.read("landcover-latest.json"))["bbox"]
    assert (west, east) == (179.999, -179.999)


@pytest.mark.slow
def test_where_two_zones_meet_no_ground_counts_twice(seam: TestClient, utm_seam: World) -> None:
    polygon = star(-84.0, utm_seam.scenes[0].lonlat[1], 0.004)
    found = statistics(seam, polygon)
    assert found["uncovered"]["m2"] == 0
    assert found["covered"]["m2"] == pytest.approx(geodesic(polygon), rel=1e-4)
    halves = [
        statistics(seam, polygon.intersection(shapely.box(west, 30, east, 40)))
        for west, east in ((-85, -84), (-84, -83))
    ]
    for value in LEGEND.values:
        together = sum(square_meters(half)[value] for half in halves)
        assert square_meters(found)[value] == pytest.approx(together, abs=0.1)


def test_ground_that_the_nearer_zone_leaves_open_is_filled_from_the_other(
    seam: TestClient, utm_seam: World
) -> None:
    """South of zone 17's scene, 100 m east of the edge, only zone 16 has imagery."""
    zone16, zone17 = utm_seam.scenes
    to16 = Transformer.from_crs(4326, 26916, always_xy=True)
    to17 = Transformer.from_crs(4326, 26917, always_xy=True)
    lon = -84.0 + 0.0006
    lats = np.linspace(32.955, 32.985, 4000)

    def held(scene: Any, to: Transformer) -> Any:  # noqa: ANN401
        x, y = to.transform(np.full_like(lats, lon), lats)
        left, bottom, right, top = scene.bounds
        return (x > left + 3) & (x < right - 3) & (y > bottom + 3) & (y < top - 3)

    only16 = lats[held(zone16, to16) & ~held(zone17, to17)]
    assert only16.size
    lat = float(np.median(only16))
    point = seam.get(f"/point/{lon},{lat}").json()["class"]
    small = shapely.box(lon - 2e-6, lat - 2e-6, lon + 2e-6, lat + 2e-6)
    found = statistics(seam, small)
    assert found["uncovered"]["m2"] == pytest.approx(0, abs=1e-3)
    assert max(found["classes"], key=lambda entry: entry["m2"])["value"] == point["value"]


# --- files

RASTERS = [
    ("", 26916),
    ("?crs=EPSG:26916&resolution=3", 26916),
    ("?crs=EPSG:3857", 3857),
    ("?crs=EPSG:4326", 4326),
    ("?crs=EPSG:5070&resolution=2.5", 5070),
    ("?crs=26930&resolution=0.5", 26930),
]


@pytest.mark.parametrize(("query", "epsg"), RASTERS)
def test_a_pixel_of_a_file_in_any_crs_has_the_class_of_the_point_and_nodata_outside(
    client: TestClient, two_quads: World, query: str, epsg: int
) -> None:
    polygon = star(*middle_of(two_quads))
    answer = post(client, f"/feature.tif{query}", feature(polygon))
    array, affine, crs = opened(answer.content)
    assert crs == f"EPSG:{epsg}"
    assert answer.headers["content-crs"].endswith(f"/EPSG/0/{epsg}>")
    to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True)
    draw = random.Random(3)
    inside = outside = 0
    for _ in range(400):
        row, col = draw.randrange(array.shape[0]), draw.randrange(array.shape[1])
        lon, lat = to_lonlat.transform(*(affine @ (col + 0.5, row + 0.5)))
        near = polygon.boundary.distance(shapely.Point(lon, lat)) < 1e-7
        if near:
            continue
        if not polygon.contains(shapely.Point(lon, lat)):
            assert array[row, col] == NODATA
            outside += 1
        elif inside < 60:
            assert array[row, col] == client.get(f"/point/{lon!r},{lat!r}").json()["class"]["value"]
            inside += 1
    assert inside > 30
    assert outside > 30


def test_the_file_of_a_rectangle_has_no_slanted_edges(client: TestClient, two_quads: World) -> None:
    lon, lat = middle_of(two_quads)
    answer = client.get(f"/bbox/{lon - 0.002},{lat - 0.001},{lon + 0.002},{lat + 0.001}.tif")
    assert answer.status_code == 200
    array, affine, crs = opened(answer.content)
    assert crs == "EPSG:26916"
    assert (array != NODATA).all()
    rows, cols = array.shape
    x, y = np.meshgrid(affine.c + np.arange(cols) + 0.5, affine.f - np.arange(rows) - 0.5)
    assert (array == class_at(x, y)).mean() > 0.999


@pytest.mark.parametrize("lon", [-84.0005, -83.9995])
def test_a_polygon_over_a_zone_edge_is_one_file_in_the_zone_of_its_middle(
    seam: TestClient, utm_seam: World, lon: float
) -> None:
    polygon = star(lon, utm_seam.scenes[0].lonlat[1], 0.002)
    array, affine, crs = opened(post(seam, "/feature.tif", feature(polygon)).content)
    assert crs == ("EPSG:26916" if polygon.centroid.x < -84 else "EPSG:26917")
    to_lonlat = Transformer.from_crs(crs, 4326, always_xy=True)
    draw = random.Random(11)
    sides = set()
    for _ in range(300):
        row, col = draw.randrange(array.shape[0]), draw.randrange(array.shape[1])
        if array[row, col] == NODATA:
            continue
        at, lat = to_lonlat.transform(*(affine @ (col + 0.5, row + 0.5)))
        sides.add(at < -84)
        assert array[row, col] == seam.get(f"/point/{at!r},{lat!r}").json()["class"]["value"]
    assert sides == {True, False}


def test_the_file_says_where_it_comes_from(client: TestClient, two_quads: World) -> None:
    answer = post(client, "/feature.tif", feature(star(*middle_of(two_quads))))
    assert answer.headers["content-type"].startswith("image/tiff; application=geotiff")
    assert answer.headers["content-disposition"] == 'attachment; filename="landcover-latest.tif"'
    with MemoryFile(answer.content) as memory, memory.open(driver="GTiff") as dataset:
        tags = dataset.tags()
        assert dataset.colormap(1)[3] == (*LEGEND.colors()[3], 255)
    assert tags["LANDCOVER_LICENSE"] == "MIT"
    assert tags["TIFFTAG_SOFTWARE"].startswith("landcover ")
    assert len(tags["LANDCOVER_MODEL_SHA256"]) == 64
    assert len(tags["LANDCOVER_SCENES"].split(",")) == 2
    assert tags["LANDCOVER_DATES"] == "2017-09-03"


def test_days_stand_for_the_year_they_make_and_fill_is_asked_for(
    client: TestClient, two_quads: World
) -> None:
    polygon = star(*middle_of(two_quads))
    of_year = statistics(client, polygon, "?year=2017")
    assert of_year["covered"]["m2"] > 0
    assert statistics(client, polygon, "?datetime=2017-01-01/2017-12-31") == of_year
    later = statistics(client, polygon, "?datetime=2030-01-01/..")
    assert later["covered"]["m2"] == 0
    filled = statistics(client, polygon, "?datetime=2030-01-01/..&fill=older")
    assert filled["classes"] == statistics(client, polygon)["classes"]


@pytest.fixture(scope="module")
def bundle(client: TestClient, two_quads: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of one area, unpacked."""
    folder = tmp_path_factory.mktemp("bundle")
    polygon = star(*middle_of(two_quads), 0.006)
    content = post(client, "/feature.zip?year=2017", feature(polygon, id="creek")).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(folder)
    return folder


def test_the_zip_holds_raster_names_item_and_table(bundle: Path) -> None:
    names = ["clr", "csv", "json", "qml", "tif", "tif.aux.xml"]
    assert sorted(p.name for p in bundle.iterdir()) == [f"landcover-2017.{n}" for n in names]
    item = json.loads((bundle / "landcover-2017.json").read_text())
    asset = item["assets"]["classes"]
    assert asset["href"] == "./landcover-2017.tif"
    assert asset["classification:classes"] == LEGEND.stac()
    assert item["properties"]["proj:code"] == "EPSG:26916"
    assert item["properties"]["datetime"] == "2017-09-03T00:00:00Z"
    with rasterio.open(bundle / "landcover-2017.tif") as dataset:
        assert item["properties"]["proj:shape"] == list(dataset.shape)
        assert item["properties"]["proj:transform"] == list(dataset.transform)[:6]
    rows = list(csv.DictReader((bundle / "landcover-2017.csv").read_text().splitlines()))
    assert {row["feature"] for row in rows} == {"creek"}


def test_the_item_is_one_to_pystac(bundle: Path) -> None:
    pystac = pytest.importorskip("pystac")
    item = pystac.Item.from_file(str(bundle / "landcover-2017.json"))
    assert item.to_dict()["id"] == "landcover-2017"


def test_cog_validators_pass(bundle: Path) -> None:
    valid, errors, warnings = cog_validate(bundle / "landcover-2017.tif", strict=True)
    assert (valid, errors, warnings) == (True, [], [])


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="no gdalinfo (apt install gdal-bin)")
def test_gdal_reads_names_and_colors(bundle: Path) -> None:
    """What QGIS shows comes from here; the GDAL of the distribution, not the one that wrote it."""
    command = ["gdalinfo", "-json", str(bundle / "landcover-2017.tif")]
    # The app's settings of GDAL, made for reading imagery, are not a user's.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GDAL_")}
    text = subprocess.run(command, capture_output=True, check=True, text=True, env=plain).stdout
    found = json.loads(text)
    band = found["bands"][0]
    assert band["colorInterpretation"] == "Palette"
    assert band["noDataValue"] == NODATA
    table = {row["f"][0]: row["f"] for row in found["rat"]["row"]}
    with rasterio.open(bundle / "landcover-2017.tif") as dataset:
        counts = np.bincount(dataset.read(1).ravel(), minlength=256)
    for each in LEGEND.classes:
        assert band["colorTable"]["entries"][each.value][:3] == list(each.rgb)
        assert band["categories"][each.value] == each.title
        expected = [each.value, counts[each.value], each.title, each.name, *each.rgb]
        assert table[each.value] == expected


VECTORS = [("gpkg", "GPKG", 26916), ("geojson", "GeoJSON", 4326), ("fgb", "FlatGeobuf", 26916)]


@pytest.mark.parametrize(("suffix", "driver", "epsg"), VECTORS)
def test_class_polygons_have_the_ground_of_the_raster(
    client: TestClient, two_quads: World, tmp_path: Path, suffix: str, driver: str, epsg: int
) -> None:
    from pyogrio import raw, read_info

    polygon = star(*middle_of(two_quads))
    path = tmp_path / f"classes.{suffix}"
    path.write_bytes(post(client, f"/feature.{suffix}", feature(polygon)).content)
    info = read_info(path, layer=0)
    assert info["driver"] == driver
    assert info["crs"] in (f"EPSG:{epsg}", "OGC:CRS84")
    meta, _, geometries, columns = raw.read(path, layer=0)
    values, names, titles, hectares = columns
    assert list(meta["fields"]) == ["value", "name", "title", "hectares"]
    assert set(zip(values, names, titles, strict=True)) == {
        (each.value, each.name, each.title) for each in LEGEND.classes
    }
    array, _, _ = opened(post(client, "/feature.tif", feature(polygon)).content)
    scale = geodesic(polygon) / (array != NODATA).sum()
    for value in LEGEND.values:
        pixels = (array == value).sum()
        assert hectares[values == value].sum() * 1e4 == pytest.approx(pixels * scale, rel=2e-3)
    assert shapely.is_valid(shapely.from_wkb(geometries)).all()


# --- limits and refusals


@pytest.fixture(scope="module")
def strict(serve: Serve, two_quads: World, pixelwise_model: Path) -> Iterator[TestClient]:
    """A server whose imagery is a whole state, by its own measure."""
    with serve(two_quads.directory, pixelwise_model, area_blocks=8) as running:
        yield running


@pytest.mark.parametrize(("name", "body", "status", "hint"), BAD, ids=[name for name, *_ in BAD])
def test_a_bad_area_is_a_problem_with_a_reason_within_a_second(
    strict: TestClient, name: str, body: bytes, status: int, hint: str
) -> None:
    for path in ("/statistics", "/feature.tif"):
        if path == "/feature.tif" and name.startswith(("a collection", "many parts")):
            continue
        began = time.process_time()
        answer = strict.post(path, content=body)
        assert time.process_time() - began < 1
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["detail"]
        assert hint in problem.get("hint", "")
        assert ("field" in problem) == (status == 422)
        assert len(answer.content) < 2000


def test_too_large_an_area_is_answered_with_the_limit_and_what_it_would_take(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    polygon = star(*middle_of(two_quads), 0.006)
    with serve(two_quads.directory, pixelwise_model, area_blocks=5) as client:
        answers = [
            client.post("/statistics", json=feature(polygon)),
            client.post("/feature.tif", json=feature(polygon)),
            client.post(
                "/statistics",
                json={"type": "FeatureCollection", "features": [feature(polygon)] * 2},
            ),
        ]
        estimate = client.post("/estimate", json=feature(polygon)).json()
        computed = client.app.state.services.landcover.cache.computed  # type: ignore[attr-defined]
    assert estimate["limit_blocks"] == 5
    for answer, times in zip(answers, (1, 1, 2), strict=True):
        assert answer.status_code == 413
        problem = answer.json()
        assert problem["limit"] == 5
        assert problem["estimate"]["blocks"] == times * estimate["blocks"] > 5
        assert problem["estimate"]["bytes"] > 0
        assert "job" in problem["hint"]
    assert computed == 0


@pytest.mark.slow
def test_an_estimate_knows_what_is_cached_and_how_long_the_rest_takes(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    polygon = star(*middle_of(two_quads), 0.004)
    with serve(two_quads.directory, pixelwise_model, infer_workers=1) as client:
        before = client.post("/estimate", json=feature(polygon)).json()
        post(client, "/statistics", feature(polygon))
        after = client.post("/estimate", json=feature(polygon)).json()
        computed = client.app.state.services.landcover.cache.computed  # type: ignore[attr-defined]
    assert before["cached"] == 0
    assert before["seconds"] > 0
    assert before["exact"]
    assert before["blocks"] == computed == after["cached"] == after["blocks"]
    assert after["seconds"] == 0


def test_fine_pixels_of_a_large_area_are_too_many(client: TestClient, two_quads: World) -> None:
    answer = client.post(
        "/feature.tif?crs=EPSG:3857&resolution=0.001", json=feature(star(*middle_of(two_quads)))
    )
    assert answer.status_code == 413
    assert "pixels" in answer.json()["detail"]


QUERIES = [
    ("/statistics?year=1815", 404, "year"),
    ("/statistics?year=soon", 400, "year"),
    ("/statistics?source=/etc/passwd", 404, "source"),
    ("/statistics?model=gpt", 404, "model"),
    ("/statistics?f=xml", 400, "f"),
    ("/feature.png", 404, "format"),
    ("/feature.tif?crs=EPSG:99999", 400, "crs"),
    ("/feature.tif?crs=EPSG:4269", 400, "crs"),
    ("/feature.tif?crs=EPSG:4978", 400, "crs"),
    ("/feature.tif?crs=EPSG:26910", 400, "crs"),
    ("/feature.tif?crs=%2Bproj%3Dutm", 400, "crs"),
    ("/feature.tif?crs=/vsicurl/http://127.0.0.1/a.prj", 400, "crs"),
    ("/feature.tif?resolution=0", 400, "resolution"),
    ("/feature.tif?resolution=-1", 400, "resolution"),
    ("/feature.tif?resolution=nan", 400, "resolution"),
    ("/feature.tif?resolution=inf", 400, "resolution"),
    ("/feature.tif?resolution=1e-200", 400, "resolution"),
    ("/feature.tif?resolution=5e-324", 400, "resolution"),
    ("/feature.tif?resolution=1e200", 400, "resolution"),
    ("/feature.tif?datetime=%D9%A2%D9%A0%D9%A1%D9%A7", 400, "datetime"),
    ("/feature.tif?crs=EPSG:4326&resolution=1e-200", 400, "resolution"),
    ("/change", 400, "from"),
    ("/change?from=2017&to=2017", 400, "to"),
    ("/change?from=1815", 404, "year"),
    ("/change.exe?from=2017", 404, "format"),
]


@pytest.mark.parametrize(("path", "status", "field"), QUERIES)
def test_a_bad_parameter_is_named(
    client: TestClient, two_quads: World, path: str, status: int, field: str
) -> None:
    answer = client.post(path, json=feature(star(*middle_of(two_quads))))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field


RECTANGLES = [
    ("nan,33,-86.9,33.1", 400, "minx"),
    ("-87,33,inf,33.1", 400, "maxx"),
    ("-87,91,-86.9,92", 400, "miny"),
    ("-86.9,33,-87,33.1", 422, "minx"),
    ("-87,33.1,-86.9,33.1", 422, "miny"),
    ("west,33,-86.9,33.1", 400, "minx"),
]


@pytest.mark.parametrize(("bounds", "status", "field"), RECTANGLES)
def test_a_bad_rectangle_is_named(client: TestClient, bounds: str, status: int, field: str) -> None:
    answer = client.get(f"/bbox/{bounds}.tif")
    assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_one_feature_at_a_time_for_a_file(client: TestClient, two_quads: World) -> None:
    one = feature(star(*middle_of(two_quads)))
    answer = client.post("/feature.tif", json={"type": "FeatureCollection", "features": [one, one]})
    assert (answer.status_code, answer.json()["field"]) == (400, "features")
    alone = client.post("/feature.tif", json={"type": "FeatureCollection", "features": [one]})
    assert alone.status_code == 200


@pytest.mark.alone
def test_a_deadline_is_kept_and_ends_the_work(
    serve: Serve, two_quads: World, slow_model: Path
) -> None:
    polygon = star(*middle_of(two_quads), 0.006)
    with serve(two_quads.directory, slow_model, infer_workers=1, deadline_s=1) as client:
        landcover = client.app.state.services.landcover  # type: ignore[attr-defined]
        for path in ("/statistics", "/feature.tif"):
            answer = client.post(path, json=feature(polygon))
            assert answer.status_code == 504
            assert answer.headers["content-type"] == "application/problem+json"
            for _ in range(300):
                if not landcover.gate.inside:
                    break
                time.sleep(0.1)
            assert not landcover.gate.inside
        assert landcover.cache.computed <= 4  # of a dozen, about a second each


def test_unreadable_imagery_is_502_and_never_a_class(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "scenes"
    shutil.copytree(two_quads.directory, copy)
    with serve(copy, pixelwise_model, refresh_s=0) as client:
        for path in copy.glob("*.tif"):
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 3])
        polygon = star(*middle_of(two_quads))
        for path_of in ("/statistics", "/feature.tif", "/feature.gpkg"):
            answer = client.post(path_of, json=feature(polygon))
            assert answer.status_code in (200, 502)
            if answer.status_code == 200:  # the damaged files are refused by now: no imagery
                assert path_of != "/statistics"
            else:
                assert answer.json()["scene"]
