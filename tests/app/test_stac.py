"""STAC: an item is the scene its file is; a search finds what is there, and is remembered."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pystac
import pytest
from pydantic import TypeAdapter, ValidationError

from app.errors import ConfigurationError, SourceUnavailable, TooLarge
from app.grid.pixel_grid import Bounds, PixelGrid
from app.imagery.build import catalog_of
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.catalog.stac_api import StacApiCatalog
from app.imagery.catalog.stac_items import scene_of_item
from app.imagery.catalog.stac_search import Query, StacApi
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.catalog.tile_index import Cells, Found, bounds_of, cells_of, runs_of
from app.imagery.config import AnyConfig
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store.json_api import JsonApi
from app.imagery.store.object_store import ObjectStore
from app.resilience import RetryPolicy
from tests.world.doubles import Doubles, doubles
from tests.world.scenes import MadeScene, write_scene
from tests.world.stac import Projection, item_of
from tests.world.world import World

pytestmark = pytest.mark.alone

READING, REMOTE = ReadOptions(), ObjectStore("pc")
CONFIG: TypeAdapter[Any] = TypeAdapter(AnyConfig)
PC = "https://naipeuwest.blob.core.windows.net/naip/v002/al/2017/al_100cm_2017/32086/"
Change = Callable[[dict[str, Any]], object]


def scene_from(item: object, **options: Any) -> Scene:  # noqa: ANN401
    return scene_of_item(item, READING, REMOTE, **options)


def reason_of(item: object, **options: Any) -> str:  # noqa: ANN401
    with pytest.raises(UnsupportedImage) as refusal:
        scene_from(item, **options)
    return str(refusal.value)


@pytest.fixture
def item(two_quads: World) -> dict[str, Any]:
    made = two_quads.scenes[0]
    return item_of(made, PC + made.path.name)


# ---- items ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["proj:epsg", "proj:code"])
@pytest.mark.parametrize("world", ["two_quads", "fine_quads", "two_years", "utm_seam"])
def test_an_item_is_the_scene_that_its_file_is(
    world: str,
    projection: Projection,
    request: pytest.FixtureRequest,
) -> None:
    made_world: World = request.getfixturevalue(world)
    files = {Path(s.href).name: s for s in DirectoryCatalog(made_world.directory, READING).scenes}
    for made in made_world.scenes:
        scene = scene_from(item_of(made, PC + made.path.name, projection=projection))
        file = files[made.path.name]
        for name in ("crs", "bounds", "resolution", "acquired", "nodata", "bands", "resampling"):
            assert getattr(scene, name) == getattr(file, name), name
        assert scene.href == PC + made.path.name
        assert scene.id == f"al_{made.path.stem}"
        assert scene.remote is REMOTE


def test_geometry_comes_from_the_box_where_there_is_no_transform(item: dict[str, Any]) -> None:
    expected = scene_from(item)
    del item["properties"]["proj:transform"]
    assert scene_from(item).bounds == expected.bounds
    item["properties"]["proj:transform"] = [1, 0, 0]
    assert scene_from(item).bounds == expected.bounds


def test_what_an_asset_says_of_itself_goes_before_the_item(item: dict[str, Any]) -> None:
    expected = scene_from(item)
    image, properties = item["assets"]["image"], item["properties"]
    for name in ("proj:epsg", "proj:shape", "proj:transform", "proj:bbox"):
        image[name] = properties.pop(name)
    properties["proj:shape"] = [1, 1]
    assert scene_from(item) == Scene(
        **{
            name: getattr(expected, name)
            for name in expected.__slots__
            if name not in ("etag", "remote")
        }
    )


@pytest.mark.parametrize(
    ("properties", "acquired"),
    [
        ({"datetime": "2021-07-12T16:00:00Z", "naip:year": "2020"}, "2021-07-12"),
        ({"datetime": None, "start_datetime": "2021-07-12T00:00:00Z"}, "2021-07-12"),
        ({"datetime": None, "naip:year": "2021"}, "2021"),
        ({"datetime": None, "naip:year": 2021}, "2021"),
        ({"datetime": None, "naip:year": "soon"}, ""),
    ],
)
def test_the_day_is_the_items_date_else_the_year_of_the_program(
    item: dict[str, Any], properties: dict[str, Any], acquired: str
) -> None:
    item["id"] = "x"
    item["properties"] |= properties
    assert scene_from(item).acquired == acquired


def _rename(item: dict[str, Any], *names: str) -> None:
    image = item["assets"].pop("image")
    for name in names:
        item["assets"][name] = copy.deepcopy(image)


def test_without_an_asset_of_the_usual_name_the_one_with_near_infrared_is_taken(
    item: dict[str, Any],
) -> None:
    _rename(item, "rgb", "rgbir")
    item["assets"]["rgb"]["eo:bands"] = item["assets"]["rgb"]["eo:bands"][:3]
    item["assets"]["rgbir"]["href"] = PC + "right.tif"
    assert scene_from(item).href == PC + "right.tif"


def test_without_bands_the_one_tiff_that_is_data_is_taken_and_two_are_a_question(
    item: dict[str, Any],
) -> None:
    bands = item["assets"]["image"].pop("eo:bands")
    item["properties"]["bands"] = [{"name": band["name"], "data_type": "uint8"} for band in bands]
    item["properties"]["raster:bands"] = [{"data_type": "uint8"}] * 4
    _rename(item, "one")
    item["properties"].pop("bands")
    assert scene_from(item).href.startswith(PC)
    _rename_back = item["assets"].pop("one")
    item["assets"] |= {"one": _rename_back, "two": _rename_back}
    assert "has 2 assets that may be its image" in reason_of(item)
    assert scene_from(item, asset="two").href.startswith(PC)
    assert "has no asset 'three'" in reason_of(item, asset="three")


REFUSED: dict[str, tuple[Change, str]] = {
    "three bands": (
        lambda i: i["assets"]["image"]["eo:bands"].pop(),
        "has 3 bands; red, green, blue and near infrared are needed",
    ),
    "uint16": (
        lambda i: i["assets"]["image"].update({"raster:bands": [{"data_type": "uint16"}] * 4}),
        "is uint16",
    ),
    "no crs": (lambda i: i["properties"].pop("proj:epsg"), "does not say its CRS"),
    "unknown crs": (lambda i: i["properties"].update({"proj:epsg": 999999}), "has a CRS that is"),
    "meters called degrees": (
        lambda i: i["properties"].update({"proj:epsg": 4326}),
        "lies outside of where EPSG:4326",
    ),
    "no shape": (lambda i: i["properties"].pop("proj:shape"), "does not say how many rows"),
    "zero rows": (lambda i: i["properties"].update({"proj:shape": [0, 9]}), "does not say how"),
    "no place": (
        lambda i: [i["properties"].pop(n) for n in ("proj:transform", "proj:bbox")],
        "does not say where its image lies",
    ),
    "flat": (
        lambda i: i["properties"].update({"proj:transform": [1, 1, 5e5, 1, 1, 4e6]}),
        "has pixels of no size",
    ),
    "coarse": (
        lambda i: i["properties"].update({"proj:transform": [5, 0, 5e5, 0, -5, 4e6]}),
        "has pixels of 5 m",
    ),
    "no bands": (lambda i: i["assets"]["image"].pop("eo:bands"), "does not say which bands"),
    "ftp": (
        lambda i: i["assets"]["image"].update({"href": "ftp://a.org/a.tif"}),
        "has its image at ftp://",
    ),
    "vsi": (
        lambda i: i["assets"]["image"].update({"href": "/vsizip//etc/a.tif"}),
        "has its image in a virtual file system",
    ),
    "no id": (lambda i: i.pop("id"), "is not a STAC item: id"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_item_that_cannot_be_served_is_refused_with_its_reason(
    item: dict[str, Any], kind: str
) -> None:
    change, reason = REFUSED[kind]
    change(item)
    assert reason_of(item).startswith(reason)


@pytest.mark.parametrize("content", [None, 3, "x", [], {}, {"id": 3}])
def test_anything_else_is_refused_and_no_error(content: object) -> None:
    assert reason_of(content).startswith("is not a STAC item")


def test_an_item_on_the_web_does_not_lead_to_a_local_file(item: dict[str, Any]) -> None:
    item["assets"]["image"]["href"] = "file:///etc/passwd.tif"
    assert "local file" in reason_of(item, base="https://a.org/items/1.json")
    item["assets"]["image"]["href"] = "/etc/passwd.tif"
    assert (
        scene_from(item, base="https://a.org/items/1.json").href == "https://a.org/etc/passwd.tif"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda i: i["properties"].update({"updated": "2024-01-01T00:00:00Z"}),
        lambda i: i["assets"]["image"].update({"file:checksum": "1220ab"}),
        lambda i: i["assets"]["image"].update({"file:size": 3}),
        lambda i: i["properties"].update({"proj:shape": [1200, 1499]}),
    ],
)
def test_a_changed_item_is_another_identity_and_an_unchanged_one_the_same(
    item: dict[str, Any], change: Change
) -> None:
    before = scene_from(item)
    item["properties"]["eo:cloud_cover"] = 3
    assert scene_from(copy.deepcopy(item)).key == before.key
    change(item)
    assert scene_from(item).identity != before.identity


# ---- the API -------------------------------------------------------------------------------------

QUICK = RetryPolicy(attempts=2, attempt_s=5, total_s=3, first_pause_s=0.01)
APIS: list[JsonApi] = []


@pytest.fixture
def services() -> Iterator[Doubles]:
    with doubles() as running:
        yield running
        while APIS:
            APIS.pop().close()


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def catalog_at(services: Doubles, **options: Any) -> StacApiCatalog:  # noqa: ANN401
    APIS.append(JsonApi(QUICK))
    api = StacApi(services.stac_url, APIS[-1], Query("naip"))
    return StacApiCatalog("pc", api, READING, REMOTE, **options)


def listed(services: Doubles, *worlds: World) -> list[MadeScene]:
    made = [scene for world in worlds for scene in world.scenes]
    services.items = [item_of(scene, services.blob(scene.path.name)) for scene in made]
    return made


def around(made: MadeScene, reach: float = 0.01) -> Bounds:
    lon, lat = made.lonlat
    return lon - reach, lat - reach, lon + reach, lat + reach


@pytest.mark.parametrize("paging", ["get", "post", "merge"])
@pytest.mark.parametrize("page", [1, 2, 250])
def test_a_search_finds_what_a_directory_of_the_same_files_finds(
    services: Doubles,
    two_quads: World,
    two_years: World,
    paging: Literal["get", "post", "merge"],
    page: int,
) -> None:
    services.paging, services.page = paging, page
    made = listed(services, two_quads, two_years)
    services.items = list({item["id"]: item for item in services.items}.values())
    catalog = catalog_at(services)
    ground = around(made[0], 0.02)
    assert not catalog.knows(ground, LATEST)
    catalog.prepare(ground, LATEST)
    assert catalog.knows(ground, LATEST)
    expected = [
        scene
        for world in (two_quads, two_years)
        for scene in DirectoryCatalog(world.directory, READING).scenes
    ]
    for when in (
        LATEST,
        TemporalFilter.of_year(2017),
        TemporalFilter.of_year(2019),
        TemporalFilter.of_year(2020),
    ):
        for window in (made[0].bounds, made[1].bounds, (0.0, 0.0, 1.0, 1.0)):
            ids = {
                f"al_{Path(scene.href).stem}"
                for scene in expected
                if when.accepts(scene.acquired)
                and scene.bounds[0] <= window[2]
                and scene.bounds[2] >= window[0]
                and scene.bounds[1] <= window[3]
                and scene.bounds[3] >= window[1]
            }
            assert {s.id for s in catalog.search("EPSG:26916", window, when)} == ids
    assert catalog.grids() == (PixelGrid("EPSG:26916"),)
    assert catalog.years == tuple(range(2010, 2024))
    assert catalog.lonlat_bounds == (-160.0, 17.0, -67.0, 50.0)


def test_scenes_of_two_zones_are_found_by_degrees(services: Doubles, utm_seam: World) -> None:
    made = listed(services, utm_seam)
    catalog = catalog_at(services)
    ground = around(made[0])
    catalog.prepare(ground, LATEST)
    assert {s.crs for s in catalog.within(ground, LATEST)} == {"EPSG:26916", "EPSG:26917"}
    assert catalog.grids() == (PixelGrid("EPSG:26916"), PixelGrid("EPSG:26917"))


def test_known_ground_is_not_searched_again_for_another_date(
    services: Doubles, two_years: World
) -> None:
    made = listed(services, two_years)
    catalog = catalog_at(services)
    catalog.prepare(around(made[0]), TemporalFilter.of_year(2017))
    asked = services.count("/search")
    for when in (LATEST, TemporalFilter.of_year(2019), TemporalFilter("2018-01-01", "")):
        assert catalog.knows(around(made[0]), when)
        catalog.prepare(around(made[0]), when)
    assert services.count("/search") == asked
    assert catalog.generation == 0


def test_many_who_ask_for_the_same_ground_cost_one_search(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    catalog = catalog_at(services)
    services.page = 250
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: catalog.prepare(around(made[0], 0.001), LATEST), range(24)))
    alone = catalog_at(services)
    before = services.count("/search")
    alone.prepare(around(made[0], 0.001), LATEST)
    assert before == services.count("/search") - before


def test_empty_ground_is_known_and_empty(services: Doubles) -> None:
    catalog = catalog_at(services)
    ground = (-100.0, 40.0, -99.99, 40.01)
    catalog.prepare(ground, LATEST)
    assert catalog.knows(ground, LATEST)
    assert catalog.within(ground, LATEST) == []


def test_ground_outside_the_collection_is_known_without_asking(services: Doubles) -> None:
    catalog = catalog_at(services)
    assert catalog.knows((10.0, 47.0, 10.1, 47.1), LATEST)
    assert services.count("/search") == 0


def test_what_cannot_be_served_is_named_and_the_rest_found(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    services.items[1] = item_of(made[1], services.blob("b.tif"), bands=3)
    catalog = catalog_at(services)
    catalog.prepare(around(made[0]), LATEST)
    assert [s.id for s in catalog.scenes] == [f"al_{made[0].path.stem}"]
    (problem,) = catalog.problems
    assert problem.path == f"al_{made[1].path.stem}"
    assert problem.reason.startswith("has 3 bands")


def test_an_api_that_is_down_is_an_error_on_new_ground_and_none_on_known_ground(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    clock = Clock()
    catalog = catalog_at(services, clock=clock)
    catalog.prepare(around(made[0]), LATEST)
    found = catalog.search("EPSG:26916", made[0].bounds, LATEST)
    services.search_status = 503
    elsewhere = (-100.0, 40.0, -99.99, 40.01)
    for _ in range(5):
        with pytest.raises(SourceUnavailable, match="503 Service Unavailable"):
            catalog.prepare(elsewhere, LATEST)
    assert services.count("/search") <= 3 + 2
    assert "503" in str(catalog.unavailable)
    assert catalog.knows(around(made[0]), LATEST)
    assert catalog.search("EPSG:26916", made[0].bounds, LATEST) == found
    services.search_status = 0
    clock.now += 11
    catalog.prepare(elsewhere, LATEST)
    assert catalog.unavailable is None


def test_a_page_that_does_not_come_makes_no_ground_known(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    services.page = 1
    catalog = catalog_at(services)
    services.searches_answered = 1
    with pytest.raises(SourceUnavailable, match="503"):
        catalog.prepare(around(made[0], 0.001), LATEST)
    assert services.count("/search") > 1
    assert not catalog.knows(around(made[0], 0.001), LATEST)
    assert catalog.scenes == ()


def test_an_api_that_is_down_at_start_is_found_later(services: Doubles) -> None:
    services.search_status = 502
    catalog = catalog_at(services)
    assert "502" in str(catalog.unavailable)
    assert catalog.lonlat_bounds == (-180.0, -90.0, 180.0, 90.0)
    services.search_status = 0
    catalog.refresh()
    assert catalog.unavailable is None
    assert catalog.lonlat_bounds == (-160.0, 17.0, -67.0, 50.0)


def test_expired_ground_is_searched_again_in_the_background_if_somebody_asks_for_it(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    clock = Clock()
    options = {"clock": clock, "wall_clock": clock, "cells": Cells(clock=clock)}
    catalog = catalog_at(services, expires_s=3600, **options)
    ground = around(made[0], 0.001)
    catalog.prepare(ground, LATEST)
    catalog.refresh()
    asked = services.count("/search")
    clock.now += 3500
    assert catalog.knows(ground, LATEST)
    clock.now += 200
    services.items.pop()
    services.search_status = 503
    with pytest.raises(SourceUnavailable):
        catalog.refresh()
    assert len(catalog.search("EPSG:26916", made[1].bounds, LATEST)) == 2
    services.search_status = 0
    catalog.refresh()
    assert services.count("/search") > asked
    assert catalog.generation > 0
    assert len(catalog.search("EPSG:26916", made[1].bounds, LATEST)) == 1
    clock.now += 8000
    catalog.refresh()
    assert catalog.scenes == ()


def test_an_area_larger_than_can_be_remembered_is_refused_before_anything_is_asked(
    services: Doubles,
) -> None:
    catalog = catalog_at(services)
    with pytest.raises(TooLarge, match=r"in cells of 1/8 degree, is .*, the limit is 1024"):
        catalog.prepare((-120.0, 30.0, -80.0, 45.0), LATEST)
    assert services.count("/search") == 0


def test_a_page_that_leads_to_another_server_is_not_followed(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    services.page = 1
    with doubles() as other:
        catalog = catalog_at(services)
        own = services.url
        services.url = other.url
        with pytest.raises(SourceUnavailable, match="another server"):
            catalog.prepare(around(made[0], 0.001), LATEST)
        services.url = own
        assert other.requests == []


# ---- cells ---------------------------------------------------------------------------------------


def test_cells_cover_what_was_asked_and_touch_it() -> None:
    for bounds in ((-87.01, 32.9, -86.7, 33.13), (-180.0, -90.0, -179.9, -89.9), (10, 10, 10, 10)):
        cells = cells_of(bounds)
        west, south, east, north = bounds_of(cells)
        assert west <= bounds[0] < west + 0.125
        assert south <= bounds[1] < south + 0.125
        assert east - 0.125 <= bounds[2] <= east
        assert north - 0.125 <= bounds[3] <= north
        assert sorted(cell for run in runs_of(cells) for cell in run) == sorted(cells)
    assert set(cells_of((179.95, 0, -179.95, 0.01))) == {(2879, 720), (0, 720)}


def test_the_least_recently_asked_for_cells_are_dropped_but_never_within_the_grace() -> None:
    clock = Clock()
    cells = Cells(3, 100, clock)
    empty = Found((), (), 0)
    for column in range(5):
        cells.put((column, 0), empty)
    assert len(cells) == 5
    clock.now += 101
    assert cells.get((0, 0)) is empty
    cells.put((9, 0), empty)
    assert len(cells) == 3
    assert cells.get((0, 0)) is empty
    assert cells.get((1, 0)) is None


# ---- static catalogs ---------------------------------------------------------------------------


def saved_catalog(folder: Path, made: tuple[MadeScene, ...]) -> Path:
    """A self-contained catalog written by pystac, a folder for each item."""
    root = pystac.Catalog("county", "Made imagery")
    child = pystac.Catalog("2017", "One year")
    root.add_child(child)
    for scene in made:
        item = item_of(scene, str(scene.path))
        del item["collection"]
        child.add_item(pystac.Item.from_dict(item))
    root.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def test_a_static_catalog_of_local_files_is_the_directory_of_them(
    two_quads: World, tmp_path: Path
) -> None:
    path = saved_catalog(tmp_path, two_quads.scenes)
    catalog = StaticStacCatalog("county", str(path), READING, REMOTE)
    directory = DirectoryCatalog(two_quads.directory, READING)
    assert {s.key for s in catalog.scenes} == {s.key for s in directory.scenes}
    assert catalog.years == (2017,)


def test_an_item_collection_on_the_web_is_read_and_its_hrefs_stay_unsigned(
    services: Doubles, two_quads: World, tmp_path: Path
) -> None:
    items = [item_of(made, services.blob(made.path.name)) for made in two_quads.scenes]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    APIS.append(JsonApi(QUICK))
    catalog = StaticStacCatalog("pc", services.add(path), READING, REMOTE, api=APIS[-1])
    assert {s.href for s in catalog.scenes} == {
        services.blob(made.path.name) for made in two_quads.scenes
    }


def test_a_static_catalog_is_read_again_when_it_changed_and_kept_when_it_is_gone(
    two_quads: World, tmp_path: Path
) -> None:
    items = [item_of(made, PC + made.path.name) for made in two_quads.scenes]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items[:1]}))
    catalog = StaticStacCatalog("a", str(path), READING, REMOTE)
    catalog.refresh()
    assert (len(catalog.scenes), catalog.generation) == (1, 0)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    catalog.refresh()
    assert (len(catalog.scenes), catalog.generation) == (2, 1)
    path.unlink()
    with pytest.raises(SourceUnavailable, match="No such file"):
        catalog.refresh()
    assert len(catalog.scenes) == 2
    assert catalog.unavailable


def test_a_static_catalog_whose_server_is_away_is_unavailable_and_no_wrong_setting(
    services: Doubles,
) -> None:
    APIS.append(JsonApi(QUICK))
    services.broken = 503
    with pytest.raises(SourceUnavailable, match="503"):
        StaticStacCatalog("a", services.blob("items.json"), READING, REMOTE, api=APIS[-1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no json", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "no item in it"),
        ('{"features": [{"id": "x"}]}', "x: has 0 assets"),
    ],
)
def test_a_document_that_is_no_catalog_cannot_be_served(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=reason):
        StaticStacCatalog("a", str(path), READING, REMOTE)


# ---- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "signing", "region"),
    [("planetary-computer", "auto", "us-east-1"), ("earth-search", "never", "us-west-2")],
)
def test_a_preset_is_a_whole_source_and_nobody_pays_unasked(
    preset: str, signing: str, region: str
) -> None:
    config = CONFIG.validate_python({"id": "naip", "type": "stac-api", "preset": preset})
    assert (config.collection, config.asset) == ("naip", "image")
    assert (config.signing, config.region) == (signing, region)
    assert config.url.startswith("https://")
    assert config.requester_pays is False


def test_what_the_operator_says_goes_before_the_preset() -> None:
    given = {"id": "n", "type": "stac-api", "preset": "planetary-computer", "signing": "always"}
    assert CONFIG.validate_python(given | {"asset": "cog"}).asset == "cog"
    assert CONFIG.validate_python(given).signing == "always"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"type": "stac-api"}, "a url or a preset is needed"),
        ({"type": "stac-api", "preset": "bing"}, "planetary-computer"),
        ({"type": "stac-api", "url": "https://a.org", "signing": "auto"}, "needs a token_url"),
        ({"type": "stac"}, "url"),
    ],
)
def test_an_incomplete_configuration_says_what_is_missing(
    given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        CONFIG.validate_python({"id": "a", **given})


def test_a_configured_source_searches_its_api(services: Doubles, two_quads: World) -> None:
    made = listed(services, two_quads)
    config = CONFIG.validate_python(
        {"id": "a", "type": "stac-api", "url": services.stac_url, "collection": "naip"}
    )
    catalog = catalog_of(config, 1.0, None)
    catalog.prepare(around(made[0]), LATEST)
    assert len(catalog.within(around(made[0], 0.001), LATEST)) >= 1
    assert isinstance(catalog, StacApiCatalog)
    APIS.append(catalog._api._api)


def test_a_search_of_very_much_ground_stays_within_the_page_it_asks(tmp_path: Path) -> None:
    made = [
        write_scene(
            tmp_path / f"m_32086{n:02d}_nw_16_1_20170903.tif",
            origin=(502_700.0 + 40 * n, 3_648_600.0),
            cols=40,
            rows=30,
            overviews=False,
        )
        for n in range(7)
    ]
    with doubles(page=2) as services:
        services.items = [item_of(m, services.blob(m.path.name)) for m in made]
        catalog = catalog_at(services)
        catalog.prepare(around(made[3], 0.001), LATEST)
        assert len(catalog.scenes) == 7
        APIS.pop().close()
