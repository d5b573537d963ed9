"""Change between two years: matrix, file and tiles say the same, and what the made ground did."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyproj import Transformer
from rasterio.io import MemoryFile
from shapely.geometry import mapping
from starlette.testclient import TestClient

from app.errors import InvalidRequest
from app.render.transition import codes, stayed, transition_table
from model.legend import LEGEND, NODATA, LandCoverClass, Legend
from tests.app.conftest import Classes, Serve, classes_in, tiles_around
from tests.world.ground import class_at
from tests.world.world import World

YEARS = "from=2017&to=2019"


@pytest.fixture(scope="module")
def client(serve: Serve, two_years: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_years.directory, pixelwise_model) as running:
        yield running


@pytest.fixture(scope="module")
def place(two_years: World) -> shapely.Polygon:
    lon, lat = two_years.scenes[1].lonlat
    return shapely.Point(lon, lat).buffer(0.002)


@pytest.fixture(scope="module")
def matrix(client: TestClient, place: shapely.Polygon) -> dict[str, Any]:
    answer = client.post(f"/change?{YEARS}", json=mapping(place))
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


classes = st.sampled_from([1, 2, 3, 4, 5, 6, NODATA])


@given(st.lists(st.tuples(classes, classes), min_size=1, max_size=50))
def test_a_code_is_from_times_ten_plus_to_or_nodata(pairs: list[tuple[int, int]]) -> None:
    before, after = (np.array(side, dtype=np.uint8) for side in zip(*pairs, strict=True))
    expected = [NODATA if NODATA in pair else pair[0] * 10 + pair[1] for pair in pairs]
    assert codes(before, after).tolist() == expected


def test_the_table_names_every_transition_once() -> None:
    table = transition_table(LEGEND)
    assert len({entry.value for entry in table}) == len({entry.name for entry in table}) == 36
    by_value = {entry.value: entry for entry in table}
    assert by_value[52].name == "forest-to-roads"
    assert by_value[52].title == "Forest → Roads or parking lots"
    assert by_value[52].rgb == LEGEND[2].rgb
    assert [value for value in by_value if stayed(value)] == [11, 22, 33, 44, 55, 66]


def test_a_legend_that_does_not_fit_a_byte_is_refused() -> None:
    many = tuple(
        LandCoverClass(value=n, name=f"c{n}", title=f"C{n}", color_hint="000000")
        for n in range(1, 11)
    )
    with pytest.raises(InvalidRequest, match="9 classes"):
        transition_table(Legend(classes=many))


def test_the_matrix_is_what_the_made_ground_did(
    matrix: dict[str, Any], place: shapely.Polygon
) -> None:
    project = Transformer.from_crs(4326, 26916, always_xy=True).transform
    shape = shapely.transform(place, project, interleaved=False)
    left, bottom, right, top = (int(value) for value in shape.bounds)
    x, y = np.meshgrid(np.arange(left, right + 1), np.arange(bottom, top + 1))
    boxes = shapely.box(x, y, x + 1, y + 1)
    shares = shapely.contains(shape, boxes).astype(float)
    cut = shapely.intersects(shape.boundary, boxes)
    shares[cut] = shapely.area(shapely.intersection(shape, boxes[cut]))
    before, after = (
        class_at(x.astype(float) + 0.5, y.astype(float) + 0.5, year) for year in (2017, 2019)
    )
    scale = matrix["area"]["m2"] / shape.area
    for i, first in enumerate(LEGEND.values):
        for j, second in enumerate(LEGEND.values):
            expected = shares[(before == first) & (after == second)].sum() * scale / 1e4
            assert matrix["matrix_hectares"][i][j] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_rows_and_columns_add_up(matrix: dict[str, Any]) -> None:
    cells = np.array(matrix["matrix_hectares"])
    assert cells.sum() == pytest.approx(matrix["compared"]["hectares"], abs=1e-4)
    assert matrix["changed"]["hectares"] + matrix["unchanged"]["hectares"] == pytest.approx(
        matrix["compared"]["hectares"], abs=1e-5
    )
    assert matrix["compared"]["m2"] + matrix["uncovered"]["m2"] == pytest.approx(
        matrix["area"]["m2"], rel=1e-4
    )
    for index, entry in enumerate(matrix["classes"]):
        assert entry["before_hectares"] == pytest.approx(cells[index].sum(), abs=1e-5)
        assert entry["after_hectares"] == pytest.approx(cells[:, index].sum(), abs=1e-5)
        assert entry["gained_hectares"] - entry["lost_hectares"] == pytest.approx(
            entry["after_hectares"] - entry["before_hectares"], abs=1e-5
        )
    assert matrix["changed"]["m2"] > 0


def test_the_matrix_agrees_with_the_statistics_of_each_year(
    client: TestClient, matrix: dict[str, Any], place: shapely.Polygon
) -> None:
    for year, side in (("2017", "before"), ("2019", "after")):
        answer = client.post(f"/statistics?year={year}", json=mapping(place)).json()
        found = answer["properties"]["statistics"]["classes"]
        for entry, change in zip(found, matrix["classes"], strict=True):
            assert entry["hectares"] == pytest.approx(change[f"{side}_hectares"], abs=1e-5)


def test_limits_are_named_in_the_answer(matrix: dict[str, Any]) -> None:
    assert "show as change that did not happen" in matrix["limits"][0]
    assert (matrix["from"], matrix["to"]) == ("2017", "2019")


def test_csv_is_the_matrix(
    client: TestClient, matrix: dict[str, Any], place: shapely.Polygon
) -> None:
    answer = client.post(f"/change?{YEARS}&f=csv", json=mapping(place))
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0][1:] == [each.name for each in LEGEND.classes]
    assert [[float(cell) for cell in row[1:]] for row in rows[1:]] == matrix["matrix_hectares"]


def test_ground_that_one_year_lacks_is_uncovered(client: TestClient, two_years: World) -> None:
    older, newer = two_years.scenes
    x = (older.bounds[0] + newer.bounds[0]) / 2  # only the older one reaches here
    to_lonlat = Transformer.from_crs(26916, 4326, always_xy=True).transform
    lon, lat = to_lonlat(x, older.bounds[3] - 600)
    found = client.post(
        f"/change?{YEARS}", json=mapping(shapely.Point(lon, lat).buffer(0.0001))
    ).json()
    assert found["compared"]["m2"] == 0
    assert found["uncovered"]["m2"] == pytest.approx(found["area"]["m2"], rel=1e-4)


def test_the_file_holds_the_pair_of_both_years_files(
    client: TestClient, place: shapely.Polygon
) -> None:
    def array_of(path: str) -> Classes:
        content = client.post(path, json=mapping(place)).content
        with MemoryFile(content) as memory, memory.open(driver="GTiff") as dataset:
            band: Classes = dataset.read(1)
        return band

    pair = array_of(f"/change.tif?{YEARS}")
    before, after = (array_of(f"/feature.tif?year={year}") for year in (2017, 2019))
    assert np.array_equal(pair, codes(before, after))
    assert len(np.unique(pair)) > 10


def test_the_zip_names_the_transitions(
    client: TestClient, place: shapely.Polygon, tmp_path: Path
) -> None:
    content = client.post(f"/change.zip?{YEARS}", json=mapping(place)).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path)
    sidecar = (tmp_path / "change-2017-2019.tif.aux.xml").read_text()
    assert "<F>Forest → Roads or parking lots</F>" in sidecar
    item = json.loads((tmp_path / "change-2017-2019.json").read_text())
    listed = item["assets"]["classes"]["classification:classes"]
    assert {entry["name"] for entry in listed} >= {"forest-to-roads", "water", "nodata"}
    assert item["properties"]["start_datetime"] == "2017-09-03T00:00:00Z"
    assert item["properties"]["end_datetime"] == "2019-09-21T23:59:59Z"
    with rasterio.open(tmp_path / "change-2017-2019.tif") as dataset:
        assert dataset.tags()["LANDCOVER_YEARS"] == "2017,2019"


def exact(client: TestClient, address: str) -> Response:
    """Return the exact tile: below native zoom it comes once its blocks have been computed."""
    for _ in range(400):
        answer = client.get(f"{address}&quality=exact")
        if answer.status_code != 503:
            break
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("zoom", [14, 16, 17, 18])
def test_a_change_tile_is_the_pair_of_the_two_years_tiles(
    client: TestClient, two_years: World, zoom: int
) -> None:
    z, x, y = tiles_around(*two_years.scenes[1].lonlat, zoom, 0)[0]
    path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}"
    before, after = (
        classes_in(exact(client, f"{path}.npy?year={year}").content, "npy") for year in (2017, 2019)
    )
    expected = codes(before, after)
    answer = exact(client, f"{path}.npy?layer=change&{YEARS}")
    assert np.array_equal(classes_in(answer.content, "npy"), expected)
    picture = exact(client, f"{path}.png?layer=change&{YEARS}").content
    rgba = np.asarray(Image.open(io.BytesIO(picture)).convert("RGBA"))
    changed = (expected != NODATA) & (expected // 10 != expected % 10)
    assert np.array_equal(rgba[..., 3] == 255, changed)
    for each in LEGEND.classes:
        became = changed & (expected % 10 == each.value)
        assert (rgba[became][:, :3] == each.rgb).all()


def test_a_change_tile_can_show_what_became_one_class(client: TestClient, two_years: World) -> None:
    z, x, y = tiles_around(*two_years.scenes[1].lonlat, 17, 0)[0]
    query = f"layer=change&{YEARS}"
    everything = classes_in(client.get(f"/{z}/{x}/{y}.npy?{query}").content, "npy")
    roads = classes_in(client.get(f"/{z}/{x}/{y}.npy?{query}&classes=2").content, "npy")
    expected = np.where(everything % 10 == 2, everything, NODATA)
    assert np.array_equal(roads, np.where(everything == NODATA, NODATA, expected))


def test_a_change_tile_has_an_etag_of_both_years(client: TestClient, two_years: World) -> None:
    z, x, y = tiles_around(*two_years.scenes[1].lonlat, 17, 0)[0]
    path = f"/{z}/{x}/{y}.png?layer=change&"
    tags = [
        client.get(path + query).headers["etag"]
        for query in (YEARS, "from=2019&to=2017", "from=2017", "from=2017&to=2019&classes=1")
    ]
    assert tags[0] != tags[1]
    assert tags[0] != tags[3]
    again = client.get(path + YEARS, headers={"if-none-match": tags[0]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("layer=change", 400, "from"),
        ("layer=change&from=2017&to=2017", 400, "to"),
        ("layer=change&from=1815", 404, "year"),
        ("layer=change&from=x", 400, "year"),
    ],
)
def test_a_change_tile_without_two_years_is_refused(
    client: TestClient, query: str, status: int, field: str
) -> None:
    for path in ("/3/1/2.png", "/WebMercatorQuad/tilejson.json"):
        answer = client.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_tilejson_and_legend_name_the_transitions(client: TestClient) -> None:
    tilejson = client.get(f"/WebMercatorQuad/tilejson.json?layer=change&{YEARS}").json()
    assert "layer=change" in tilejson["tiles"][0]
    legend = client.get("/legend?layer=change").json()["classes"]
    assert tilejson["classification:classes"] == legend
    assert {"value": 12, "name": "buildings-to-roads"}.items() <= legend[1].items()
