"""One place in two years and two CRSs: the newest imagery shows, whatever its CRS, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from starlette.testclient import TestClient

from app.grid.pixel_grid import NORTH, Block, PixelGrid
from app.landcover.blocks import Selection
from app.sampling.newest import newest_blocks
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.ground import class_at, ground
from tests.world.scenes import write_scene
from tests.world.world import utm_seam

LEFT, TOP, SIDE = 503_000.0, 3_648_000.0, 700
"""Of the older image, in meters of UTM zone 16."""

SHIFT = 200
"""Meters by which the newer image lies to the east: older imagery shows in its west alone."""


def write(path: Path, epsg: int, year: int, left: float) -> None:
    """The made ground of UTM 16 in the pixels of any CRS."""
    if epsg != 5070:
        write_scene(path, epsg=epsg, origin=(left, TOP), cols=SIDE, rows=SIDE, year=year)
        return
    corner = Transformer.from_crs(26916, epsg, always_xy=True).transform(left, TOP)
    affine = Affine(1, 0, round(corner[0]), 0, -1, round(corner[1]))
    steps = np.arange(SIDE) + 0.5
    x, y = Transformer.from_crs(epsg, 26916, always_xy=True).transform(
        *np.meshgrid(affine.c + steps, affine.f - steps)
    )
    size = {"width": SIDE, "height": SIDE, "count": 4, "dtype": "uint8"}
    with rasterio.open(
        path, "w", driver="GTiff", crs=f"EPSG:{epsg}", transform=affine, tiled=True, **size
    ) as file:
        file.write(ground(x, y, year))
        colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        file.colorinterp = colors


@dataclass(frozen=True)
class Place:
    """A service of both images. `older`, `newer`: EPSG codes."""

    client: TestClient
    older: int
    newer: int

    def truth(self, lon: npt.NDArray[Any], lat: npt.NDArray[Any], year: int) -> npt.NDArray[Any]:
        """The classes at points, from the center of the pixel of that year's grid."""
        epsg = self.newer if year == 2021 else self.older
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
        x, y = np.floor(x) + 0.5, np.floor(y) + 0.5
        if epsg == 5070:
            x, y = Transformer.from_crs(epsg, 26916, always_xy=True).transform(x, y)
        return np.asarray(class_at(x, y, year))


@pytest.fixture(
    scope="module",
    params=[(26916, 6345), (26916, 32616), (26916, 5070), (6345, 26916), (5070, 26916)],
    ids=lambda pair: "{}-{}".format(*pair),
)
def place(
    request: pytest.FixtureRequest,
    serve: Serve,
    pixelwise_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    older, newer = request.param
    folder = tmp_path_factory.mktemp("years")
    write(folder / "m_3208601_nw_16_1_20170903.tif", older, 2017, LEFT)
    write(folder / "m_3208601_nw_16_1_20210903.tif", newer, 2021, LEFT + SHIFT)
    jobs = tmp_path_factory.mktemp("jobs")
    with serve(folder, pixelwise_model, jobs_dir=jobs) as client:
        yield Place(client, older, newer)


def lonlat(east: float, south: float) -> tuple[float, float]:
    """Degrees of a point, meters from the older image's corner."""
    transform = Transformer.from_crs(26916, 4326, always_xy=True).transform
    lon, lat = transform(LEFT + east, TOP - south)
    return float(lon), float(lat)


def area_around(east: float, south: float, meters: float) -> dict[str, Any]:
    """A square around a point of UTM zone 16."""
    ring = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    corners = [lonlat(east + meters * dx, south + meters * dy) for dx, dy in ring]
    return {"type": "Polygon", "coordinates": [corners]}


BOTH = (450.0, 350.0)
"""A point that both images hold."""

ONE = (60.0, 350.0)
"""A point that only the older image holds."""


def test_a_tile_shows_the_newest_imagery_and_names_it_alone(place: Place) -> None:
    for z, x, y in tiles_around(*lonlat(*BOTH), 19, 0):
        answer = place.client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
        assert answer.headers["x-landcover-dates"] == "2021-09-03"
        assert answer.headers["x-landcover-scenes"] == "m_3208601_nw_16_1_20210903"
        classes = classes_in(answer.content, "npy")
        edge = 2 * 20037508.342789244 / 2**z
        steps = (np.arange(256) + 0.5) / 256
        there = np.meshgrid(
            (x + steps) * edge - 20037508.342789244, 20037508.342789244 - (y + steps) * edge
        )
        lon, lat = Transformer.from_crs(3857, 4326, always_xy=True).transform(*there)
        assert (classes == place.truth(lon, lat, 2021)).mean() > 0.9999


def test_a_tile_of_both_years_shows_each_where_it_is_the_newest(place: Place) -> None:
    lon, lat = lonlat(SHIFT, 350)
    z, x, y = tiles_around(lon, lat, 17, 0)[0]
    answer = place.client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
    assert answer.headers["x-landcover-dates"] == "2017-09-03,2021-09-03"
    old = place.client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy?year=2017")
    new = place.client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy?year=2021")
    shown, older, newer = (classes_in(each.content, "npy") for each in (answer, old, new))
    assert (newer == 255).any()
    assert (newer != 255).any()
    assert (shown == np.where(newer != 255, newer, older)).all()


def test_a_point_is_of_the_newest_imagery(place: Place) -> None:
    for where, year in ((BOTH, 2021), (ONE, 2017)):
        lon, lat = lonlat(*where)
        answer = place.client.get(f"/point/{lon},{lat}").json()
        assert answer["year"] == year
        assert answer["scene"]["date"] == f"{year}-09-03"
        assert answer["class"]["value"] == place.truth(np.array(lon), np.array(lat), year)
        old = place.client.get(f"/point/{lon},{lat}?year=2017").json()
        assert old["year"] == 2017


def test_a_tile_is_the_points_at_its_pixels_on_both_sides_of_the_edge(place: Place) -> None:
    z, x, y = tiles_around(*lonlat(SHIFT, 350), 18, 0)[0]
    classes = classes_in(place.client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy").content, "npy")
    edge, draw = 2 * 20037508.342789244 / 2**z, np.random.default_rng(3)
    back = Transformer.from_crs(3857, 4326, always_xy=True).transform
    for col, row in draw.integers(0, 256, (12, 2)).tolist():
        lon, lat = back(
            (x + (col + 0.5) / 256) * edge - 20037508.342789244,
            20037508.342789244 - (y + (row + 0.5) / 256) * edge,
        )
        point = place.client.get(f"/point/{lon!r},{lat!r}").json()
        assert point["class"]["value"] == classes[row, col]


def test_statistics_and_downloads_are_of_the_newest_imagery(place: Place) -> None:
    area = area_around(*BOTH, 100)
    document = place.client.post("/statistics", json=area).json()["properties"]["statistics"]
    assert document["dates"] == ["2021-09-03"] * 2  # first and last
    assert document["uncovered"]["m2"] == 0
    answer = place.client.post("/feature.tif", json=area)
    with MemoryFile(answer.content) as memory, memory.open() as file:
        classes, crs = file.read(1), file.crs
        rows, cols = np.nonzero(classes != 255)
        x, y = file.xy(rows, cols)
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    assert (classes[rows, cols] == place.truth(np.array(lon), np.array(lat), 2021)).mean() > 0.9999
    total = sum(each["m2"] for each in document["classes"])
    for each in document["classes"]:
        share = (classes == each["value"]).sum() / len(rows)
        assert abs(each["m2"] / total - share) < 2e-3


def test_change_is_from_the_one_to_the_other(place: Place) -> None:
    area = area_around(*BOTH, 100)
    answer = place.client.post("/change.tif?from=2017&to=2021", json=area)
    assert answer.status_code == 200, answer.text
    with MemoryFile(answer.content) as memory, memory.open() as file:
        codes, crs = file.read(1), file.crs
        rows, cols = np.nonzero(codes != 255)
        x, y = file.xy(rows, cols)
    lon, lat = (
        np.array(each) for each in Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    )
    expected = 10 * place.truth(lon, lat, 2017) + place.truth(lon, lat, 2021)
    assert (codes[rows, cols] == expected).mean() > 0.9999


def test_the_imagery_itself_is_the_newest(place: Place) -> None:
    z, x, y = tiles_around(*lonlat(*BOTH), 18, 0)[0]
    address = f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
    latest, new, old = (
        place.client.get(f"{address}{query}").content for query in ("", "?year=2021", "?year=2017")
    )
    assert latest == new
    assert latest != old


def test_the_years_of_a_place_are_of_every_crs(place: Place) -> None:
    west, south = lonlat(BOTH[0] - 50, BOTH[1] + 50)
    east, north = lonlat(BOTH[0] + 50, BOTH[1] - 50)
    source = place.client.get("/sources").json()["sources"][0]["id"]
    answer = place.client.get(f"/sources/{source}/years?bbox={west},{south},{east},{north}").json()
    assert [each["year"] for each in answer["years"]] == [2021, 2017]


def test_a_job_computes_the_blocks_that_show(place: Place) -> None:
    services = place.client.app.state.services  # type: ignore[attr-defined]
    selection: Selection = services.select()
    grids = selection.source.grids()
    by_code = {int(grid.crs.removeprefix("EPSG:")): grid for grid in grids}
    west, east = (
        Block(by_code[26916], int(LEFT + at) // 512, int(NORTH - TOP + 350) // 512)
        for at in (60, 450)
    )
    shown = newest_blocks(selection, east)
    assert by_code[place.newer] in {each.grid for each in shown}
    assert by_code[place.older] in {each.grid for each in newest_blocks(selection, west)}
    for index, year in enumerate(("2017", "2021")):
        only = newest_blocks(services.select(year=year), east)
        assert {each.grid for each in only} == {by_code[(place.older, place.newer)[index]]}


def test_where_zones_meet_the_newer_one_shows_on_both_sides_of_the_meridian(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    seam = utm_seam(tmp_path)
    west, east = (scene.path for scene in seam.scenes)
    lat = seam.scenes[0].lonlat[1]
    east.rename(east.with_name(east.name.replace("20170903", "20190903")))
    # 100 m west of the meridian, where zone 16 is the nearer one.
    with serve(tmp_path, pixelwise_model) as client:
        point = client.get(f"/point/{-84.0 - 0.0011},{lat}").json()
        assert point["scene"]["date"] == "2019-09-03"
        z, x, y = tiles_around(-84.0, lat, 17, 0)[0]
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
        newer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy?year=2019")
        shown, wanted = (classes_in(each.content, "npy") for each in (answer, newer))
        assert (shown[wanted != 255] == wanted[wanted != 255]).all()
        assert (wanted == 255).any() or "2017-09-03" not in answer.headers["x-landcover-dates"]
    assert west.exists()


def test_the_newest_date_of_one_year_and_one_zone_shows_whatever_its_datum(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    write(tmp_path / "m_3208601_nw_16_1_20210603.tif", 26916, 2021, LEFT)
    write(tmp_path / "m_3208601_nw_16_1_20210903.tif", 6345, 2021, LEFT)
    lon, lat = lonlat(*BOTH)
    with serve(tmp_path, pixelwise_model) as client:
        assert client.get(f"/point/{lon},{lat}").json()["scene"]["date"] == "2021-09-03"
        document = client.post("/statistics", json=area_around(*BOTH, 50)).json()
        assert document["properties"]["statistics"]["dates"] == ["2021-09-03"] * 2


def test_a_grid_of_coarser_blocks_keeps_the_rule(place: Place) -> None:
    """Estimates too: the blocks below native zoom are of the newest imagery where it is."""
    lon, lat = lonlat(*BOTH)
    z, x, y = tiles_around(lon, lat, 15, 0)[0]
    address = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy?quality=estimate"
    shown = classes_in(place.client.get(address).content, "npy")
    newer = classes_in(place.client.get(f"{address}&year=2021").content, "npy")
    older = classes_in(place.client.get(f"{address}&year=2017").content, "npy")
    here = newer != 255
    assert here.sum() > 1000
    assert (shown[here] == newer[here]).mean() > 0.98
    assert (shown[~here] == older[~here]).mean() > 0.98
    assert PixelGrid("EPSG:26916") in place.client.app.state.services.select().source.grids()  # type: ignore[attr-defined]
