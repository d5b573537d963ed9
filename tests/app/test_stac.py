"""STAC: an item is the scene its file is; a search finds what is there, and is remembered."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pystac
import pystac_client
import pytest
import shapely
from pydantic import TypeAdapter, ValidationError
from pyproj import Transformer

from app.errors import ConfigurationError, SourceUnavailable, TooLarge
from app.grid.pixel_grid import Bounds, PixelGrid
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.catalog.index import SkippedFile
from app.imagery.catalog.stac_api import (
    REST_S,
    WORLD,
    SearchResult,
    StacApiCatalog,
    TileIndex,
    bounds_of,
    runs_of,
    tiles_of,
)
from app.imagery.catalog.stac_items import Query, StacApi, scene_of_item, scenes_in
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.config import AnyConfig, catalog_of
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store.json_api import JsonApi
from app.imagery.store.reach import Reach
from app.resilience import RetryPolicy
from tests.app.conftest import HERE
from tests.world.doubles import Doubles, doubles
from tests.world.scenes import SyntheticScene, write_scene
from tests.world.stac import Projection, item_of
from tests.world.world import World

READING = ReadOptions()
CONFIG: TypeAdapter[Any] = TypeAdapter(AnyConfig)
PC = "https://naipeuwest.blob.core.windows.net/naip/v002/al/2017/al_100cm_2017/32086/"
AZURE = Reach([PC])
Change = Callable[[dict[str, Any]], object]


def anywhere(_: str) -> None:
    return None


def scene_from(item: object, **options: Any) -> Scene:  # noqa: ANN401
    return scene_of_item(item, READING, "pc", refusal=anywhere, **options)


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
        assert scene.store == "pc"


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
            if name not in ("etag", "store")
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


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


def _property(**values: object) -> Change:
    return lambda item: item["properties"].update(
        {name.replace("_", ":", 1): value for name, value in values.items()}
    )


def _of_image(**values: object) -> Change:
    return lambda item: item["assets"]["image"].update(values)


ODD: dict[str, Change] = {
    "datetime abcd": lambda i: i["properties"].update(datetime="abcd"),
    "datetime of ten letters": lambda i: i["properties"].update(datetime="abcdefghij"),
    "datetime 5": lambda i: i["properties"].update(datetime=5),
    "start abcd": lambda i: i["properties"].update(datetime=None, start_datetime="abcd"),
    "shape NaN": _property(proj_shape=[math.nan, 1500]),
    "shape 10^400": _property(proj_shape=[10**400, 1500]),
    "shape 10^15": _property(proj_shape=[10**15, 10**15]),
    "shape true": _property(proj_shape=[True, True]),
    "transform 1e308": _property(proj_transform=[1e308, 0, 5e5, 0, -1e308, 4e6]),
    "origin 1e308": _property(proj_transform=[1, 0, 1e308, 0, -1, 4e6]),
    "transform NaN": _property(proj_transform=[math.nan] * 6, proj_bbox=None),
    "transform 10^400": _property(proj_transform=[1, 0, 10**400, 0, -1, 4e6], proj_bbox=None),
    "bbox infinite": _property(proj_transform=None, proj_bbox=[0, 0, math.inf, 1]),
    "epsg true": _property(proj_epsg=True),
    "epsg -1": _property(proj_epsg=-1),
    "epsg 1e999": _property(proj_epsg=math.inf),
    "code 5.5": _property(proj_epsg=None, proj_code=5.5),
    "code list": _property(proj_epsg=None, proj_code=["EPSG:26916"]),
    "wkt": _property(proj_epsg=None, proj_wkt2="PROJCRS["),
    "projjson": _property(proj_epsg=None, proj_projjson={"type": "Nonsense"}),
    "surrogate id": lambda i: i.update(id="a\ud800"),
    "id with a line feed": lambda i: i.update(id="a\r\nSet-Cookie: b"),
    "surrogate href": _of_image(href=PC + "\ud800.tif"),
    "bad port": _of_image(href="https://a.org:port/a.tif"),
    "bad IPv6": _of_image(href="https://[::1/a.tif"),
    "href 5": _of_image(href=5),
    "no href": lambda i: i["assets"]["image"].pop("href"),
    "assets list": lambda i: i.update(assets=[1]),
    "asset text": lambda i: i.update(assets={"image": "x"}),
    "properties list": lambda i: i.update(properties=[1]),
    "type of another kind": lambda i: i.update(type="Collection"),
    "deep id": lambda i: i.update(id=deep(900)),
    "deep transform": _property(proj_transform=deep(900), proj_bbox=deep(900)),
    "deep CRS": _property(proj_epsg=None, proj_projjson=deep(5000)),
    "bands of numbers": _of_image(**{"eo:bands": [1, 2, 3, 4]}),
    "raster numbers": _of_image(**{"raster:bands": [1] * 3, "eo:bands": None}),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_item_is_skipped_by_its_name_and_never_more(
    services: Doubles, two_quads: World, kind: str
) -> None:
    made = listed(services, two_quads)
    ODD[kind](services.items[0])
    odd = services.items[0].get("id")
    (odd_result, good) = scenes_in([("", i) for i in services.items], READING, "pc", "", anywhere)
    assert isinstance(good, Scene)
    assert isinstance(odd_result, SkippedFile)
    if isinstance(odd, str):
        assert odd_result.path == odd.encode("utf-8", "backslashreplace").decode()
    assert len(odd_result.reason) > 10
    json.dumps([odd_result.path, odd_result.reason], ensure_ascii=False).encode()
    assert good.id == f"al_{made[1].path.stem}"


@pytest.mark.parametrize(
    ("nodata", "expected"),
    [
        (-9999, 0),
        (10**400, 0),
        (256, 0),
        (math.nan, 0),
        (0.5, 0),
        ("nan", 0),
        (True, 0),
        (255, 255),
    ],
)
def test_a_nodata_that_no_pixel_can_have_is_none(
    item: dict[str, Any], nodata: object, expected: float
) -> None:
    item["assets"]["image"]["raster:bands"] = [{"data_type": "uint8", "nodata": nodata}] * 4
    assert scene_from(item).nodata == expected
    assert scene_of_item(item, ReadOptions(nodata=7), refusal=anywhere).nodata == 7


@pytest.mark.parametrize("version", ["eo:bands", "bands"])
def test_the_order_of_the_bands_is_the_items(item: dict[str, Any], version: str) -> None:
    image = item["assets"]["image"]
    red, green, blue, nir = image.pop("eo:bands")
    common = "eo:common_name" if version == "bands" else "common_name"
    image[version] = [
        {"name": f"b{n}", common: band["common_name"]}
        for n, band in enumerate((nir, red, green, blue))
    ]
    assert scene_from(item).bands == (2, 3, 4, 1)
    assert scene_of_item(item, ReadOptions(bands=(1, 2, 3, 4)), refusal=anywhere).bands == (
        1,
        2,
        3,
        4,
    )
    image[version][0] = {"name": "b4"}
    assert scene_from(item).bands == (1, 2, 3, 4)
    image[version] = [{common: "pan"}, *({common: c} for c in ("nir08", "blue", "green", "red"))]
    assert scene_from(item).bands == (5, 4, 3, 2)


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
APIS: list[Any] = []


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
    APIS.append(JsonApi(QUICK, Reach([services.stac_url])))
    api = StacApi(services.stac_url, APIS[-1], Query("naip"))
    return StacApiCatalog("pc", api, READING, **options)


def listed(services: Doubles, *worlds: World) -> list[SyntheticScene]:
    made = [scene for world in worlds for scene in world.scenes]
    services.items = [item_of(scene, services.blob(scene.path.name)) for scene in made]
    return made


def around(made: SyntheticScene, reach: float = 0.01) -> Bounds:
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
    assert not catalog.is_loaded(ground, LATEST)
    catalog.load(ground, LATEST)
    assert catalog.is_loaded(ground, LATEST)
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
    catalog.load(ground, LATEST)
    assert {s.crs for s in catalog.within(ground, LATEST)} == {"EPSG:26916", "EPSG:26917"}
    assert catalog.grids() == (PixelGrid("EPSG:26916"), PixelGrid("EPSG:26917"))


def test_an_image_that_reaches_beyond_its_items_outline_into_another_tile_is_found_there(
    services: Doubles, tmp_path: Path
) -> None:
    x, y = Transformer.from_crs(4326, 26916, always_xy=True).transform(-86.95, 33.0)
    made = write_scene(
        tmp_path / "m_3208601_nw_16_1_20170903.tif",
        origin=(float(round(x)), float(round(y) + 400)),
        cols=300,
        rows=600,
        overviews=False,
    )
    item = item_of(made, services.blob(made.path.name))
    # Its frame ends 200 m south of the tiles' edge at 33° N, its outline 100 m north of it.
    outline = shapely.geometry.shape(item["geometry"]).intersection(
        shapely.box(-88, 33.001, -86, 34)
    )
    item |= {"geometry": shapely.geometry.mapping(outline), "bbox": list(outline.bounds)}
    services.items = [item]
    catalog = catalog_at(services)
    catalog.load((-86.951, 32.997, -86.949, 33.001), LATEST)
    left, bottom, right, _ = made.bounds
    south = catalog.search("EPSG:26916", (left, bottom, right, bottom + 100), LATEST)
    assert [scene.id for scene in south] == [item["id"]]


def test_known_ground_is_not_searched_again_for_another_date(
    services: Doubles, two_years: World
) -> None:
    made = listed(services, two_years)
    catalog = catalog_at(services)
    catalog.load(around(made[0]), TemporalFilter.of_year(2017))
    requested = services.count("/search")
    for when in (LATEST, TemporalFilter.of_year(2019), TemporalFilter("2018-01-01", "")):
        assert catalog.is_loaded(around(made[0]), when)
        catalog.load(around(made[0]), when)
    assert services.count("/search") == requested
    assert catalog.generation == 0


def test_many_who_ask_for_the_same_ground_cost_one_search(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    catalog = catalog_at(services)
    services.page = 250
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: catalog.load(around(made[0], 0.001), LATEST), range(24)))
    alone = catalog_at(services)
    before = services.count("/search")
    alone.load(around(made[0], 0.001), LATEST)
    assert before == services.count("/search") - before


def test_empty_ground_is_known_and_empty(services: Doubles) -> None:
    catalog = catalog_at(services)
    ground = (-100.0, 40.0, -99.99, 40.01)
    catalog.load(ground, LATEST)
    assert catalog.is_loaded(ground, LATEST)
    assert catalog.within(ground, LATEST) == []


def test_ground_outside_the_collection_is_known_without_asking(services: Doubles) -> None:
    catalog = catalog_at(services)
    assert catalog.is_loaded((10.0, 47.0, 10.1, 47.1), LATEST)
    assert services.count("/search") == 0


def test_what_cannot_be_served_is_named_and_the_rest_found(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    services.items[1] = item_of(made[1], services.blob("b.tif"), bands=3)
    catalog = catalog_at(services)
    catalog.load(around(made[0]), LATEST)
    assert [s.id for s in catalog.scenes] == [f"al_{made[0].path.stem}"]
    (problem,) = catalog.skipped
    assert problem.path == f"al_{made[1].path.stem}"
    assert problem.reason.startswith("has 3 bands")


def test_an_api_that_is_down_is_an_error_on_new_ground_and_none_on_known_ground(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    clock = Clock()
    catalog = catalog_at(services, clock=clock)
    catalog.load(around(made[0]), LATEST)
    found = catalog.search("EPSG:26916", made[0].bounds, LATEST)
    services.search_status = 503
    elsewhere = (-100.0, 40.0, -99.99, 40.01)
    for _ in range(5):
        with pytest.raises(SourceUnavailable, match="503 Service Unavailable"):
            catalog.load(elsewhere, LATEST)
    assert services.count("/search") <= 3 + 2
    assert "503" in str(catalog.unavailable)
    assert catalog.is_loaded(around(made[0]), LATEST)
    assert catalog.search("EPSG:26916", made[0].bounds, LATEST) == found
    services.search_status = 0
    clock.now += 11
    catalog.load(elsewhere, LATEST)
    assert catalog.unavailable is None


def test_a_page_that_does_not_come_makes_no_ground_known(
    services: Doubles, two_quads: World
) -> None:
    made = listed(services, two_quads)
    services.page = 1
    catalog = catalog_at(services)
    services.searches_answered = 1
    with pytest.raises(SourceUnavailable, match="503"):
        catalog.load(around(made[0], 0.001), LATEST)
    assert services.count("/search") > 1
    assert not catalog.is_loaded(around(made[0], 0.001), LATEST)
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
    options = {"clock": clock, "wall_clock": clock, "tiles": TileIndex(clock=clock)}
    catalog = catalog_at(services, expires_s=3600, **options)
    ground = around(made[0], 0.001)
    catalog.load(ground, LATEST)
    catalog.refresh()
    requested = services.count("/search")
    clock.now += 3500
    assert catalog.is_loaded(ground, LATEST)
    clock.now += 200
    services.items.pop()
    services.search_status = 503
    with pytest.raises(SourceUnavailable):
        catalog.refresh()
    assert len(catalog.search("EPSG:26916", made[1].bounds, LATEST)) == 2
    services.search_status = 0
    with pytest.raises(SourceUnavailable):
        catalog.refresh()  # it failed just now: it is left alone for a while
    clock.now += REST_S
    catalog.refresh()
    assert services.count("/search") > requested
    assert catalog.generation > 0
    assert len(catalog.search("EPSG:26916", made[1].bounds, LATEST)) == 1
    clock.now += 8000
    catalog.refresh()
    assert catalog.scenes == ()


def test_an_area_larger_than_can_be_remembered_is_refused_before_anything_is_asked(
    services: Doubles,
) -> None:
    catalog = catalog_at(services)
    with pytest.raises(TooLarge, match=r"in tiles of 1/8 degree, is .*, the limit is 1024"):
        catalog.load((-120.0, 30.0, -80.0, 45.0), LATEST)
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
            catalog.load(around(made[0], 0.001), LATEST)
        services.url = own
        assert other.requests == []


class Pages:
    """A JSON service that answers every search with the same page."""

    def __init__(self, page: dict[str, Any]) -> None:
        self.content = page

    def get(self, url: str, headers: object = None) -> Pages:
        return self

    def post(self, url: str, body: object, headers: object = None) -> Pages:
        return self

    def refusal(self, url: str) -> str | None:
        return Reach(["https://a.org"]).refusal(url)

    @property
    def brief(self) -> Pages:
        return self


LINKS: dict[str, object] = {
    "no list": {"rel": "next", "href": "https://a.org/search"},
    "text": ["next"],
    "bad IPv6": [{"rel": "next", "href": "https://[::1/search"}],
    "number": [{"rel": "next", "href": 5, "method": 5}],
    "deep": [{"rel": "next", "href": "https://a.org/search", "method": "POST", "body": {"a": 0}}],
    "headers": [{"rel": "next", "href": "/search", "headers": [1], "method": "PATCH", "body": 3}],
    "same": [{"rel": "next", "href": "https://a.org/search"}],
}


@pytest.mark.parametrize("kind", LINKS)
def test_an_odd_link_is_an_error_of_the_source_and_never_more(kind: str) -> None:
    links: Any = copy.deepcopy(LINKS[kind])
    if kind == "deep":
        links[0]["body"]["a"] = deep(5000)
    api = StacApi("https://a.org", Pages({"features": [None, {}], "links": links}), Query())
    catalog = StacApiCatalog("a", api, READING)
    ground = (-87.0, 33.0, -86.99, 33.01)
    if kind in ("no list", "text"):
        catalog.load(ground, LATEST)
        assert len(catalog.skipped) == 1
    else:
        with pytest.raises(SourceUnavailable):
            catalog.load(ground, LATEST)
        assert catalog.unavailable


# ---- pystac-client is the judge ------------------------------------------------------------------

QUERIES = {
    "a quad": Query("naip"),
    "no collection": Query(),
    "another collection": Query("sentinel-2-l2a"),
    "a year": Query("naip", "2017-01-01T00:00:00Z/2017-12-31T23:59:59Z"),
    "since 2018": Query("naip", "2018-01-01T00:00:00Z/.."),
    "a state": Query("naip", filters={"naip:state": {"eq": "al"}}),
    "another state": Query("naip", filters={"naip:state": {"eq": "ga"}}),
}


@pytest.mark.parametrize("page", [1, 2, 250])
@pytest.mark.parametrize(
    ("kind", "paging"),
    [
        (kind, paging)
        for kind, query in QUERIES.items()
        for paging in ("get", "post", "merge")
        if paging != "get" or not query.filters  # the query extension is of POST
    ],
)
@pytest.mark.slow
def test_a_search_is_what_pystac_client_finds(
    services: Doubles,
    two_quads: World,
    two_years: World,
    utm_seam: World,
    paging: Literal["get", "post", "merge"],
    page: int,
    kind: str,
) -> None:
    query = QUERIES[kind]
    made = listed(services, two_quads, two_years, utm_seam)
    services.items = list({item["id"]: item for item in services.items}.values())
    services.paging, services.page = paging, page
    client = pystac_client.Client.open(services.stac_url)
    APIS.append(JsonApi(QUICK, HERE))
    ours = StacApi(services.stac_url, APIS[-1], query)
    found = 0
    for bounds in (around(made[0], 0.001), around(made[-1]), WORLD, (10.0, 47.0, 10.1, 47.1)):
        before = services.count("/search")
        theirs = client.search(
            method="GET" if paging == "get" else "POST",
            bbox=bounds,
            collections=[query.collection] if query.collection else None,
            datetime=query.datetime or None,
            query=dict(query.filters) or None,
            limit=250,
        )
        expected = [item["id"] for item in theirs.items_as_dicts()]
        pages = services.count("/search") - before
        assert pages == max(1, -(-len(expected) // page))
        assert [item["id"] for item in ours.items(bounds)] == expected
        assert services.count("/search") - before == 2 * pages
        found = max(found, len(expected))
    assert (found > 0) == (kind not in ("another collection", "another state"))


@pytest.mark.parametrize("paging", ["get", "merge"])
def test_the_double_is_an_api_that_pystac_client_opens(
    services: Doubles, two_quads: World, paging: Literal["get", "merge"]
) -> None:
    listed(services, two_quads)
    services.paging, services.page = paging, 1
    client = pystac_client.Client.open(services.stac_url)
    for name in ("CORE", "COLLECTIONS", "FEATURES", "ITEM_SEARCH", "QUERY"):
        assert client.conforms_to(name)
    (collection,) = client.get_collections()
    ids = {item["id"] for item in services.items}
    assert {item.id for item in collection.get_items()} == ids
    search = client.search(method="GET" if paging == "get" else "POST")
    assert {item.id for item in search.items()} == ids
    assert collection.get_item(min(ids)).id == min(ids)
    APIS.append(JsonApi(QUICK, HERE))
    ours = StacApi(services.stac_url, APIS[-1], Query("naip")).collection()
    assert ours["extent"] == collection.extent.to_dict()


# ---- tiles ---------------------------------------------------------------------------------------


def test_tiles_cover_the_request_and_touch_it() -> None:
    for bounds in ((-87.01, 32.9, -86.7, 33.13), (-180.0, -90.0, -179.9, -89.9), (10, 10, 10, 10)):
        tiles = tiles_of(bounds)
        west, south, east, north = bounds_of(tiles)
        assert west <= bounds[0] < west + 0.125
        assert south <= bounds[1] < south + 0.125
        assert east - 0.125 <= bounds[2] <= east
        assert north - 0.125 <= bounds[3] <= north
        assert sorted(tile for run in runs_of(tiles) for tile in run) == sorted(tiles)
    assert set(tiles_of((179.95, 0, -179.95, 0.01))) == {(2879, 720), (0, 720)}


def test_the_least_recently_requested_tiles_are_dropped_but_never_within_the_grace() -> None:
    clock = Clock()
    tiles = TileIndex(3, 100, clock)
    empty = SearchResult((), (), 0)
    for column in range(5):
        tiles.put((column, 0), empty)
    assert len(tiles) == 5
    clock.now += 101
    assert tiles.get((0, 0)) is empty
    tiles.put((9, 0), empty)
    assert len(tiles) == 3
    assert tiles.get((0, 0)) is empty
    assert tiles.get((1, 0)) is None


# ---- static catalogs ---------------------------------------------------------------------------


def saved_catalog(folder: Path, made: tuple[SyntheticScene, ...]) -> Path:
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
    catalog = StaticStacCatalog("county", str(path), READING, JsonApi(reach=AZURE))
    directory = DirectoryCatalog(two_quads.directory, READING)
    assert {s.key for s in catalog.scenes} == {s.key for s in directory.scenes}
    assert catalog.years == (2017,)


def test_an_item_collection_on_the_web_is_read_and_its_hrefs_stay_unsigned(
    services: Doubles, two_quads: World, tmp_path: Path
) -> None:
    items = [item_of(made, services.blob(made.path.name)) for made in two_quads.scenes]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    APIS.append(JsonApi(QUICK, HERE))
    catalog = StaticStacCatalog("pc", services.add(path), READING, APIS[-1])
    assert {s.href for s in catalog.scenes} == {
        services.blob(made.path.name) for made in two_quads.scenes
    }


def test_a_static_catalog_is_read_again_when_it_changed_and_kept_when_it_is_gone(
    two_quads: World, tmp_path: Path
) -> None:
    items = [item_of(made, PC + made.path.name) for made in two_quads.scenes]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items[:1]}))
    catalog = StaticStacCatalog("a", str(path), READING, JsonApi(reach=AZURE))
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
    APIS.append(JsonApi(QUICK, HERE))
    services.broken = 503
    with pytest.raises(SourceUnavailable, match="503"):
        StaticStacCatalog("a", services.blob("items.json"), READING, APIS[-1])


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"type": "Feature"}', "\\ud800"])
def test_a_document_that_makes_no_sense_is_skipped_and_the_rest_served(
    two_quads: World, tmp_path: Path, text: str
) -> None:
    path = saved_catalog(tmp_path, two_quads.scenes)
    odd = next(tmp_path.rglob("al_*.json"))
    odd.write_text(text)
    catalog = StaticStacCatalog("county", str(path), READING, JsonApi(reach=AZURE))
    assert len(catalog.scenes) == 1
    (skipped,) = catalog.skipped
    assert str(odd) in skipped.path
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        StaticStacCatalog("county", str(path), READING, JsonApi(reach=AZURE))


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
        StaticStacCatalog("a", str(path), READING, JsonApi(reach=AZURE))


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
    catalog.load(around(made[0]), LATEST)
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
        catalog.load(around(made[3], 0.001), LATEST)
        assert len(catalog.scenes) == 7
        APIS.pop().close()
