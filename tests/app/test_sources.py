"""Sources as an operator configures them and clients ask for them, over HTTP."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from rasterio.io import MemoryFile
from shapely.geometry import shape
from starlette.testclient import TestClient

from app.errors import ConfigurationError
from app.imagery import config as sources_file
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import classes_in, tiles_around
from tests.world.range_server import Mode, RangeServer, range_server
from tests.world.scenes import SyntheticScene, lonlat, write_scene
from tests.world.world import World

pytestmark = pytest.mark.alone

Open = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def opened(pixelwise_model: Path, tmp_path: Path) -> Open:
    """opened(toml, **settings): the application over a sources.toml, as a client sees it."""

    @contextmanager
    def serve(toml: str, **settings: object) -> Iterator[TestClient]:
        path = tmp_path / "sources.toml"
        path.write_text(toml)
        quiet = {"refresh_s": 0, "probe_s": 0}
        options = {"sources": path, "model": pixelwise_model, **quiet, **settings}
        app = create_app(Settings.model_validate(options))
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return serve


def cogs(server: RangeServer, scenes: tuple[SyntheticScene, ...], **more: object) -> str:
    options = {"read_s": 2, "request_s": 0.5, "retries": 2, "connections": 4, **more}
    lines = [f"{key} = {str(value).lower()}" for key, value in options.items()]
    urls = ", ".join(f'"{server.url(scene.path)}"' for scene in scenes)
    head = ["[[source]]", 'id = "far"', 'type = "cogs"', f"urls = [{urls}]"]
    return "\n".join([*head, *lines, ""])


def directory(path: Path, source_id: str = "near", more: str = "") -> str:
    return f'[[source]]\nid = "{source_id}"\ntype = "directory"\npath = "{path}"\n{more}\n'


def tile_of(scene: SyntheticScene, zoom: int = 17) -> str:
    z, x, y = tiles_around(*scene.lonlat, zoom, 0)[0]
    return f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png"


def source_of(client: TestClient, name: str) -> Any:  # noqa: ANN401 - its insides are turned
    return client.app.state.services.sources.get(name)  # type: ignore[attr-defined]


# ---- sources.toml --------------------------------------------------------------------------------

MISTAKES = {
    '[[source]]\nid = "a"\ntype = "directory"\npath = "x"\nbandz = [1,2,3,4]': "'bands'",
    '[[source]]\nid = "a"\ntype = "folder"\npath = "x"': "type='folder': one of",
    '[[source]]\nid = "A b"\ntype = "directory"\npath = "x"': "id='A b'",
    '[[source]]\nid = "a"\ntype = "directory"': "path: Field required",
    '[[source]]\nid = "a"\ntype = "cogs"': "give `urls`, or `list`",
    '[[source]]\nid = "a"\ntype = "directory"\npath = "x"\nnodata = 300': "nodata=300",
    '[[source]]\nid = "a"\ntype = "directory"\npath = "x"\nbands = [1,2]': "bands",
    '[[sources]]\nid = "a"': "'sources'; did you mean 'source'?",
    "[[source]\n": "Expected",
    "": "no [[source]]",
    '[[source]]\nid="a"\ntype="directory"\npath="x"\n' * 2: "given twice",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_what_was_meant(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sources.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refusal:
        sources_file.load(path)
    assert str(refusal.value).startswith(str(path))
    assert MISTAKES[text] in str(refusal.value)


def test_a_source_names_as_many_bands_as_the_model_reads(tmp_path: Path) -> None:
    path = tmp_path / "sources.toml"
    path.write_text('[[source]]\nid = "a"\ntype = "directory"\npath = "x"\nbands = [3,2,1]')
    (source,) = sources_file.load(path)
    assert sources_file.reading_of(source, 1.0, 3).bands == (3, 2, 1)
    with pytest.raises(ConfigurationError, match="names 3 bands, the model reads 4"):
        sources_file.reading_of(source, 1.0)


def test_relative_paths_are_told_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sources.toml"
    path.parent.mkdir()
    path.write_text(
        directory(Path("naip")) + '[[source]]\nid="m"\ntype="mosaicjson"\nurl="mosaic.json"\n'
        '[[source]]\nid="w"\ntype="mosaicjson"\nurl="https://a.org/m.json"\n'
    )
    near, mosaic, web = sources_file.load(path)
    assert getattr(near, "path") == str(path.parent / "naip")  # noqa: B009
    assert getattr(mosaic, "url") == str(path.parent / "mosaic.json")  # noqa: B009
    assert getattr(web, "url") == "https://a.org/m.json"  # noqa: B009


@pytest.mark.parametrize(
    "url", ["ftp://a.org/a.tif", "https://a.org/a.vrt", "/vsicurl/https://a.org/a", "a.tif.txt"]
)
def test_an_address_that_is_no_geotiffs_is_refused_at_start(opened: Open, url: str) -> None:
    toml = f'[[source]]\nid = "far"\ntype = "cogs"\nurls = ["{url}"]\n'
    with pytest.raises(ConfigurationError, match="source far"), opened(toml):
        pass


def test_clients_choose_among_sources_by_id(opened: Open, two_quads: World, tmp_path: Path) -> None:
    other = write_scene(tmp_path / "o" / "m_3208601_nw_16_1_20190903.tif", year=2019, cols=700)
    toml = directory(two_quads.directory, "old") + directory(tmp_path / "o", "new", 'title = "N"')
    with opened(toml) as client:
        listed = client.get("/sources").json()["sources"]
        assert [(each["id"], each["title"]) for each in listed] == [("old", "old"), ("new", "N")]
        tile = tile_of(other)
        old, new = (client.get(f"{tile}?source={name}").content for name in ("old", "new"))
        assert client.get(tile).content == old != new
        assert client.get(f"{tile}?source=none").status_code == 404


def test_bands_in_another_order_give_the_same_classes(
    opened: Open, two_quads: World, tmp_path: Path
) -> None:
    import rasterio

    folder = tmp_path / "turned"
    folder.mkdir()
    for scene in two_quads.scenes:
        with rasterio.open(scene.path) as source:
            profile = source.profile
            turned = source.read()[[3, 2, 1, 0]]
        with rasterio.open(folder / scene.path.name, "w", **profile) as target:
            target.write(turned)
    toml = directory(two_quads.directory, "straight")
    toml += directory(folder, "turned", "bands = [4, 3, 2, 1]") + directory(folder, "wrong")
    with opened(toml) as client:
        tile = tile_of(two_quads.scenes[0])
        straight, turned_, wrong = (
            client.get(f"{tile}?source={name}").content for name in ("straight", "turned", "wrong")
        )
        assert straight == turned_ != wrong


def test_a_mosaicjson_serves_what_its_files_serve(
    opened: Open, two_quads: World, tmp_path: Path
) -> None:
    text = '{"mosaicjson": "0.0.3", "tiles": {"0": [%s]}}'
    local = tmp_path / "mosaic.json"
    local.write_text(text % ", ".join(f'"{scene.path}"' for scene in two_quads.scenes))
    far = two_quads.directory / "mosaic.json"
    far.write_text(text % ", ".join(f'"{scene.path.name}"' for scene in two_quads.scenes))
    try:
        with range_server(two_quads.directory) as server:
            toml = directory(two_quads.directory)
            for name, url in (("local", local), ("web", server.url("mosaic.json"))):
                toml += f'[[source]]\nid = "{name}"\ntype = "mosaicjson"\nurl = "{url}"\n'
            with opened(toml) as client:
                tile = tile_of(two_quads.scenes[0])
                tiles = {
                    client.get(f"{tile}?source={name}").content for name in ("near", "local", "web")
                }
                assert len(tiles) == 1
    finally:
        far.unlink()


# ---- faults --------------------------------------------------------------------------------------


@pytest.fixture
def server(two_quads: World) -> Iterator[RangeServer]:
    with range_server(two_quads.directory) as running:
        yield running


def test_remote_imagery_gives_the_classes_of_local_imagery(
    opened: Open, server: RangeServer, two_quads: World
) -> None:
    with opened(cogs(server, two_quads.scenes) + directory(two_quads.directory)) as client:
        for z, x, y in tiles_around(*two_quads.scenes[0].lonlat, 17):
            address = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
            far, near = (client.get(f"{address}?source={name}") for name in ("far", "near"))
            assert far.status_code == near.status_code == 200
            assert (classes_in(far.content, "npy") == classes_in(near.content, "npy")).all()
            picture = f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
            assert client.get(f"{picture}?source=far").content == (
                client.get(f"{picture}?source=near").content
            )


def test_f1_two_503_and_then_an_answer_is_a_tile(
    opened: Open, server: RangeServer, two_quads: World
) -> None:
    with opened(cogs(server, two_quads.scenes[:1])) as client:
        server.fault("503", times=2)
        assert client.get(tile_of(two_quads.scenes[0])).status_code == 200
        source = source_of(client, "far")
        assert source.store.stats.retries >= 2


def test_f2_what_is_cached_is_served_while_the_source_is_down_and_says_so(
    opened: Open, server: RangeServer, two_quads: World, tmp_path: Path
) -> None:
    toml = cogs(server, two_quads.scenes[:1], retries=0)
    with opened(toml, cache_dir=tmp_path / "cache") as client:
        tile = tile_of(two_quads.scenes[0])
        before = client.get(tile)
        assert "x-landcover-stale" not in before.headers
        server.fault("503")
        source = source_of(client, "far")
        source.refresh()
        for address in (tile, tile.replace(".png", ".webp")):
            after = client.get(address)
            assert after.status_code == 200
            assert after.headers["x-landcover-stale"] == "true"
        assert client.get(tile).content == before.content
        assert client.get("/readyz").status_code == 503
        server.repair()
        source.refresh()
        assert "x-landcover-stale" not in client.get(tile).headers
        assert client.get("/readyz").status_code == 200
    server.fault("503")
    with opened(toml, cache_dir=tmp_path / "cache") as client:
        assert client.get(tile).content == before.content


def test_f3_a_source_that_is_down_is_an_error_soon_and_is_left_alone(
    opened: Open, server: RangeServer, two_quads: World
) -> None:
    with opened(cogs(server, two_quads.scenes[:1], retries=0)) as client:
        server.fault("503")
        tile = tile_of(two_quads.scenes[0])
        for _ in range(6):
            answer = client.get(tile)
            assert answer.status_code == 502
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["cache-control"] == "no-store"
        requested = len(server.requested)
        assert "left alone" in client.get(tile).json()["detail"]
        assert len(server.requested) == requested
        server.repair()
        source = source_of(client, "far")
        source.store.circuit._opened_at -= 60
        assert client.get(tile).status_code == 200


def test_f4_a_source_that_hangs_is_504_in_time_and_holds_up_no_other(
    opened: Open, server: RangeServer, two_quads: World
) -> None:
    toml = cogs(server, two_quads.scenes[:1], retries=0) + directory(two_quads.directory)
    with opened(toml, read_workers=1, queue_blocks=8) as client:
        (z, x, y) = tiles_around(*two_quads.scenes[0].lonlat, 17, 0)[0]
        hanging: list[int] = []
        server.fault("hang")

        def ask(number: int) -> None:
            address = f"/tiles/WebMercatorQuad/{z}/{x}/{y + number % 3}.png?source=far"
            hanging.append(client.get(address).status_code)

        began = time.monotonic()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        slowest = 0.0
        for dx in (-1, 0, 1):
            sent_at = time.monotonic()
            near = client.get(f"/tiles/WebMercatorQuad/{z}/{x + dx}/{y}.png?source=near")
            slowest = max(slowest, time.monotonic() - sent_at)
            assert near.status_code == 200
            assert client.get("/healthz").status_code == 200
        for thread in threads:
            thread.join(30)
        assert len(hanging) == 12
        assert set(hanging) <= {502, 503, 504}
        assert 504 in hanging
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("mode", ["truncate", "corrupt"])
@pytest.mark.slow
def test_f5_a_damaged_answer_is_an_error_and_nothing_is_kept(
    opened: Open, server: RangeServer, two_quads: World, tmp_path: Path, mode: Mode
) -> None:
    toml = cogs(server, two_quads.scenes, retries=0) + directory(two_quads.directory)
    with opened(toml, cache_dir=tmp_path / "cache") as client:
        tile = tile_of(two_quads.scenes[0])
        server.fault(mode)
        for _ in range(4):
            assert client.get(f"{tile}?source=far").status_code == 502
        assert not list((tmp_path / "cache").glob("*/*"))
        server.repair()
        source_of(client, "far").store.circuit.succeeded()
        far, near = (client.get(f"{tile}?source={name}") for name in ("far", "near"))
        assert far.status_code == 200
        assert far.content == near.content


@pytest.mark.slow
def test_f6_a_file_that_changes_gets_a_new_key_and_no_mixed_tile(
    opened: Open, tmp_path: Path
) -> None:
    name = "m_3208601_nw_16_1_20170903.tif"
    folder, truth = tmp_path / "far", tmp_path / "truth"
    made = write_scene(folder / name, cols=1300, rows=1000)
    new = write_scene(truth / name, cols=1300, rows=1000, year=2019)
    with range_server(folder) as server:
        toml = cogs(server, (made,)) + directory(truth)
        with opened(toml, rendered_memory_mb=0) as client:
            tile = tile_of(made)
            before = client.get(f"{tile}?source=far")
            shutil.copy(new.path, made.path)
            source = source_of(client, "far")
            source.refresh()
            after, expected = (client.get(f"{tile}?source={each}") for each in ("far", "near"))
            assert after.content == expected.content != before.content
            assert after.headers["etag"] != before.headers["etag"]


def test_a_source_that_is_away_at_start_comes_back_by_itself(
    opened: Open, server: RangeServer, two_quads: World
) -> None:
    server.fault("503")
    toml = directory(two_quads.directory) + cogs(server, two_quads.scenes, retries=0)
    with opened(toml) as client:
        tile = tile_of(two_quads.scenes[0])
        assert client.get(tile).status_code == 200
        assert client.get(f"{tile}?source=far").status_code == 502
        assert client.get("/readyz").json()["sources_unavailable"] == ["far"]
        assert client.get("/readyz").status_code == 200
        server.repair()
        far = source_of(client, "far")
        far.catalog._circuit._opened_at -= 60
        far.store.circuit.succeeded()
        assert client.get(f"{tile}?source=far").content == client.get(tile).content


# ---- years ---------------------------------------------------------------------------------------


@pytest.fixture
def years(tmp_path: Path) -> World:
    """2015 everywhere, 2017 in the west half, 2019-05 in the west quarter."""
    scenes = []
    for name, cols, year in (
        ("m_3208601_nw_16_1_20150903", 1200, 2015),
        ("m_3208601_ne_16_1_20170610", 600, 2017),
        ("m_3208601_sw_16_1_20190501", 300, 2019),
    ):
        path = tmp_path / "years" / f"{name}.tif"
        scenes.append(write_scene(path, cols=cols, rows=600, year=year, overviews=False))
    return World(tmp_path / "years", tuple(scenes))


def lonlat_box(scene: SyntheticScene) -> tuple[float, float, float, float]:
    """The largest box of degrees within a scene."""
    left, bottom, right, top = scene.bounds
    project = Transformer.from_crs(scene.epsg, 4326, always_xy=True).transform
    corners = {(x, y): project(x, y) for x in (left, right) for y in (bottom, top)}
    west = max(corners[left, y][0] for y in (bottom, top))
    east = min(corners[right, y][0] for y in (bottom, top))
    south = max(corners[x, bottom][1] for x in (left, right))
    north = min(corners[x, top][1] for x in (left, right))
    return west, south, east, north


def test_years_say_how_fully_they_cover_an_area(opened: Open, years: World) -> None:
    west, south, east, north = lonlat_box(years.scenes[0])
    with opened(directory(years.directory)) as client:
        bbox = f"{west},{south},{east},{north}"
        answer = client.get(f"/sources/near/years?bbox={bbox}").json()
        found = {each["year"]: each for each in answer["years"]}
        assert list(found) == [2019, 2017, 2015]
        assert found[2015]["covered"] == pytest.approx(1, abs=0.001)
        assert found[2017]["covered"] == pytest.approx(0.5, abs=0.01)
        assert found[2019]["covered"] == pytest.approx(0.25, abs=0.01)
        assert found[2017]["first"] == found[2017]["last"] == "2017-06-10"
        assert answer["latest"]["covered"] == pytest.approx(1, abs=0.001)
        elsewhere = client.get("/sources/near/years?bbox=10,10,11,11").json()
        assert elsewhere["years"] == []
        assert elsewhere["latest"]["covered"] == 0
        for bad in ("1,2,3", "1,2,a,3", "3,2,1,4", "-181,0,0,1", "nan,0,1,1", "0,0,inf,1"):
            assert client.get(f"/sources/near/years?bbox={bad}").status_code == 400


def test_the_boundary_is_the_ground_of_all_footprints(opened: Open, years: World) -> None:
    with opened(directory(years.directory)) as client:
        outline = shape(client.get("/sources/near/boundary").json()["geometry"])
        features = client.get("/sources/near/footprints").json()["features"]
        union = shapely.union_all([shape(each["geometry"]) for each in features])
        assert outline.symmetric_difference(union).area < 0.01 * union.area
        of_year = client.get("/sources/near/footprints?year=2017").json()["features"]
        assert [each["properties"]["year"] for each in of_year] == [2017]
        small = client.get("/sources/near/boundary?datetime=2019-05").json()["geometry"]
        assert shape(small).area < 0.3 * union.area


def at(client: TestClient, scene: SyntheticScene, share: float, query: str) -> dict[str, object]:
    """The point that far from the west edge of a scene."""
    left, bottom, right, top = scene.bounds
    project = Transformer.from_crs(scene.epsg, 4326, always_xy=True).transform
    lon, lat = project(left + share * (right - left), (bottom + top) / 2)
    answer = client.get(f"/point/{lon},{lat}?{query}")
    assert answer.status_code == 200, answer.text
    content: dict[str, object] = answer.json()
    return content


REQUESTS = {
    # share of the width from the west, query → year
    (0.1, ""): 2019,
    (0.4, ""): 2017,
    (0.9, ""): 2015,
    (0.1, "year=2017"): 2017,
    (0.9, "year=2017"): None,
    (0.9, "year=2017&fill=older"): 2015,
    (0.4, "year=2019&fill=older"): 2017,
    (0.1, "year=2018&fill=older"): 2017,
    (0.1, "datetime=2017-01-01/2018-12-31"): 2017,
    (0.1, "datetime=../2016"): 2015,
    (0.1, "datetime=2018/.."): 2019,
    (0.4, "datetime=2018/.."): None,
    (0.4, "datetime=2018/..&fill=older"): 2017,
    (0.4, "datetime=2017-06-10"): 2017,
    (0.4, "datetime=2017-06-11/2017-12-31"): None,
    (0.4, "datetime=2017-06-10T00:00:00Z"): 2017,
}


def test_each_place_shows_the_dates_that_are_asked_for(opened: Open, years: World) -> None:
    with opened(directory(years.directory)) as client:
        for (share, query), year in REQUESTS.items():
            found = at(client, years.scenes[0], share, query)
            assert found["year"] == year, (share, query)
            if year is not None:
                (name,) = [s.path.stem for s in years.scenes if s.year == year]
                assert found["scene"]["id"] == name  # type: ignore[index]
            assert (found["class"] is None) == (year is None)


def test_a_tile_of_a_year_and_what_fills_it_is_pixel_by_pixel_one_or_the_other(
    opened: Open, years: World
) -> None:
    _, bottom, right, top = years.scenes[1].bounds
    z, x, y = tiles_around(*lonlat(26916, right, (bottom + top) / 2), 17, 0)[0]
    address = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
    with opened(directory(years.directory)) as client:
        plain, old, filled = (
            classes_in(client.get(f"{address}?{query}").content, "npy")
            for query in ("year=2017", "year=2015", "year=2017&fill=older")
        )
        assert 0 < (plain == 255).mean() < 1
        assert (filled == np.where(plain != 255, plain, old)).mean() > 0.995
        names = client.get(f"{address}?year=2017&fill=older").headers["x-landcover-scenes"]
        assert set(names.split(",")) == {scene.path.stem for scene in years.scenes[:2]}
        content = client.get(f"{address.replace('npy', 'tif')}?year=2017&fill=older")
        assert content.headers["x-landcover-dates"] == "2015-09-03,2017-06-10"
        with MemoryFile(content.content) as memory, memory.open() as dataset:
            tags = dataset.tags()
        assert set(tags["LANDCOVER_SCENES"].split(",")) == set(names.split(","))
        assert tags["LANDCOVER_DATES"] == "2015-09-03,2017-06-10"


@pytest.mark.parametrize(
    "query",
    [
        "datetime=soon",
        "datetime=2019-13",
        "datetime=2019/2018",
        "datetime=../..",
        "datetime=2019/2020/2021",
        "year=2017&datetime=2017",
        "fill=newer",
        "year=17",
    ],
)
def test_dates_that_make_no_sense_are_named(opened: Open, years: World, query: str) -> None:
    with opened(directory(years.directory)) as client:
        answer = client.get(f"{tile_of(years.scenes[0])}?{query}")
        assert answer.status_code == 400
        assert answer.json()["field"] in ("datetime", "fill", "year")
