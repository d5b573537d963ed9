"""OGC API Tiles, TileJSON and the MapLibre style: every link answers, GDAL and OWSLib read it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import morecantile
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.grid.tile import TMS, Tile
from tests.app import gis
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.world import World

REL = "http://www.opengis.net/def/rel/ogc/1.0/"
TILES = "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/"


@pytest.fixture(scope="module")
def client(serve: Serve, two_years: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_years.directory, pixelwise_model) as client:
        yield client


def links_of(document: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    """Every link in a document, however deep."""
    if isinstance(document, dict):
        if "rel" in document and "href" in document:
            yield document
        for value in document.values():
            yield from links_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from links_of(value)


def href(document: dict[str, Any], rel: str, media: str = "application/json") -> str:
    wanted = (rel, media)
    return str(next(e["href"] for e in document["links"] if (e["rel"], e["type"]) == wanted))


def source_of(client: TestClient) -> str:
    return str(client.get("/sources").json()["sources"][0]["id"])


def middle(place: World, zoom: int = 17) -> tuple[int, int, int]:
    return tiles_around(*place.scenes[0].lonlat, zoom, 0)[0]


@pytest.mark.slow
def test_every_link_from_the_landing_page_answers(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    place = {"tileMatrix": z, "tileCol": x, "tileRow": y}
    start = client.get("/").json()
    waiting = [href(start, "data"), href(start, f"{REL}tilesets-map")]
    waiting.append(href(start, f"{REL}tiling-schemes"))
    seen: set[str] = set()
    tiles = 0
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        for link in links_of(answer.json()):
            if link.get("templated"):
                tile = client.get(link["href"].format(**place))
                assert tile.status_code == 200, link
                assert tile.headers["content-type"] == link["type"]
                tiles += 1
            elif link["type"] == "application/json":
                waiting.append(link["href"])
    assert tiles >= 2 + 2 + 1 + 2
    assert len(seen) > 20


def test_what_is_declared_is_there(client: TestClient) -> None:
    declared = set(client.get("/conformance").json()["conformsTo"])
    assert {
        f"{TILES}{name}"
        for name in ("core", "tileset", "tilesets-list", "geodata-tilesets", "png", "jpeg", "tiff")
    } <= declared
    assert len(declared) == len(client.get("/conformance").json()["conformsTo"])


def test_collections_have_extent_years_and_tilesets(client: TestClient) -> None:
    source = source_of(client)
    listed = client.get("/collections").json()["collections"]
    assert [each["id"] for each in listed] == [
        f"{source}.class", f"{source}.confidence", f"{source}.imagery",
    ]  # fmt: skip
    for each in listed:
        assert client.get(f"/collections/{each['id']}").json() == each
        assert each["extent"]["spatial"]["bbox"] == [
            client.get("/sources").json()["sources"][0]["bounds"]
        ]
        assert each["extent"]["temporal"]["interval"] == [
            ["2017-01-01T00:00:00Z", "2019-12-31T23:59:59Z"]
        ]


def test_a_tileset_has_the_limits_of_its_imagery(client: TestClient) -> None:
    source = client.get("/sources").json()["sources"][0]
    for path in ("/tiles", f"/collections/{source['id']}.imagery/map/tiles"):
        tileset = client.get(f"{path}/WebMercatorQuad").json()
        limits = {int(each["tileMatrix"]): each for each in tileset["tileMatrixSetLimits"]}
        assert sorted(limits) == list(range(source["minzoom"], source["maxzoom"] + 1))
        west, south, east, north = source["bounds"]
        for zoom, each in limits.items():
            first, last = TMS.tile(west, north, zoom), TMS.tile(east, south, zoom)
            assert (each["minTileCol"], each["maxTileCol"]) == (first.x, last.x)
            assert (each["minTileRow"], each["maxTileRow"]) == (first.y, last.y)
        assert tileset["dataType"] == "map"


def test_the_tile_matrix_set_is_the_registered_one(client: TestClient) -> None:
    definition = client.get("/tileMatrixSets/WebMercatorQuad").json()
    assert morecantile.TileMatrixSet.model_validate(definition) == TMS
    for name in ("GoogleMapsCompatible", "WholeWorld_WebMercator"):
        assert client.get(f"/tileMatrixSets/{name}").json() == definition


def test_the_query_is_carried_over_into_the_tiles(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    tileset = client.get("/tiles/WebMercatorQuad?year=2017&classes=1,2").json()
    address = href(tileset, "item", "image/png")
    assert address.endswith("/{tileMatrix}/{tileCol}/{tileRow}.png?year=2017&classes=1,2")
    assert href(tileset, "self").endswith("?year=2017&classes=1,2")
    tile = client.get(address.format(tileMatrix=z, tileCol=x, tileRow=y))
    shown = set(np.unique(classes_in(tile.content, "png")))
    assert shown <= {1, 2, 255}
    assert shown & {1, 2}


def test_styles_lead_to_tiles_in_their_colors(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    source = source_of(client)
    styles = client.get(f"/collections/{source}.class/styles").json()
    assert styles["default"] == "landcover"
    contents = set()
    for style in styles["styles"]:
        tilesets = client.get(href(style, f"{REL}tilesets-map")).json()
        tileset = client.get(href(tilesets["tilesets"][0], "self")).json()
        address = href(tileset, "item", "image/png").format(tileMatrix=z, tileCol=x, tileRow=y)
        expected = client.get(f"/{z}/{x}/{y}.png?colormap_name={style['id']}")
        assert client.get(address).content == expected.content
        contents.add(expected.content)
    assert len(contents) == len(styles["styles"]) >= 2


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/tiles/WorldCRS84Quad", "tileMatrixSetId"),
        ("/tileMatrixSets/UTM31WGS84Quad", "tileMatrixSetId"),
        ("/collections/elsewhere.class", "collectionId"),
        ("/collections/elsewhere.class/map/tiles/WebMercatorQuad", "collectionId"),
        ("/collections/{source}.class/map/tiles/WorldCRS84Quad", "tileMatrixSetId"),
        ("/collections/{source}.class/styles/viridis/map/tiles", "styleId"),
        ("/tiles?source=elsewhere", "source"),
        ("/tiles?year=1815", "year"),
        ("/imagery/WorldCRS84Quad/tilejson.json", "tileMatrixSetId"),
        ("/imagery/WebMercatorQuad/tilejson.json?year=1815", "year"),
        ("/style.json?colormap_name=viridis", "colormap_name"),
        ("/style.json?source=elsewhere", "source"),
        ("/legend.png?colormap_name=viridis", "colormap_name"),
    ],
)
def test_an_unknown_name_is_404(client: TestClient, path: str, field: str) -> None:
    answer = client.get(path.format(source=source_of(client)))
    assert (answer.status_code, answer.json()["field"]) == (404, field)


def test_tilejson_of_the_imagery(client: TestClient, two_years: World) -> None:
    document = client.get("/imagery/WebMercatorQuad/tilejson.json?style=cir&year=2017").json()
    of_classes = client.get("/WebMercatorQuad/tilejson.json?year=2017").json()
    for name in ("tilejson", "minzoom", "maxzoom", "bounds", "center", "attribution", "scheme"):
        assert document[name] == of_classes[name]
    z, x, y = middle(two_years)
    (address,) = document["tiles"]
    tile = client.get(address.format(z=z, x=x, y=y))
    expected = client.get(f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.webp?style=cir&year=2017")
    assert tile.content == expected.content


def test_the_maplibre_style_shows_tiles_that_are_there(
    client: TestClient, two_years: World
) -> None:
    style = client.get("/style.json?year=2017&colormap_name=colorblind").json()
    assert style["version"] == 8
    assert [each["id"] for each in style["layers"]] == ["background", "imagery", "landcover"]
    assert {e["source"] for e in style["layers"] if "source" in e} == set(style["sources"])
    landcover = style["layers"][-1]
    assert landcover["paint"]["raster-resampling"] == "nearest"
    z, x, y = middle(two_years)
    for name, expected in (
        ("landcover", f"/{z}/{x}/{y}.png?year=2017&colormap_name=colorblind"),
        ("imagery", f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.png?year=2017"),
    ):
        source = style["sources"][name]
        assert source["tileSize"] == 256
        (address,) = source["tiles"]
        assert client.get(address.format(z=z, x=x, y=y)).content == client.get(expected).content


def test_the_legend_picture_shows_the_colors_of_the_legend(client: TestClient) -> None:
    for name in client.get("/legend").json()["colormaps"]:
        picture = client.get(f"/legend.png?colormap_name={name}")
        image = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB"))
        for color in gis.hex_colors(name):
            rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert (image == rgb).all(axis=2).sum() > 100, (name, color)


@pytest.mark.slow
def test_gdal_reads_collections_with_the_pixels_of_xyz(
    live: str, two_years: World, tmp_path: Path
) -> None:
    """By the OGCAPI driver of GDAL 3.12 and by its WMTS driver: every pixel of four tiles."""
    source = httpx.get(f"{live}/sources", timeout=60).json()["sources"][0]["id"]
    z, x, y = middle(two_years)
    window = gis.box_of(Tile(z, x, y), Tile(z, x + 1, y + 1))
    shape = (512, 512)
    read = {"window": window, "shape": shape}
    collection = f"{live}/collections/{source}.class"
    tasks: list[dict[str, Any]] = [
        {"open": f"OGCAPI:{live}/"},
        {"open": f"OGCAPI:{collection}", "options": {"CACHE": "NO"}, **read},
        {"open": f"WMTS:{live}/WMTSCapabilities.xml,layer={source}.class", **read},
    ]
    listed, *rasters = gis.newest_gdal(tasks, tmp_path)
    assert f"SUBDATASET_1_NAME=OGCAPI:{collection}" in listed["subdatasets"]
    expected = np.vstack(
        [
            np.hstack(
                [
                    classes_in(httpx.get(f"{live}/{z}/{col}/{row}.npy", timeout=60).content, "npy")
                    for col in (x, x + 1)
                ]
            )
            for row in (y, y + 1)
        ]
    )
    assert len(np.unique(expected)) >= 6
    for answer in rasters:
        classes = gis.classes_in_rgba(gis.bands_of(answer, shape))
        assert int((classes != expected).sum()) == 0


def test_owslib_lists_the_maps(live: str) -> None:
    maps = pytest.importorskip("owslib.ogcapi.maps")
    source = httpx.get(f"{live}/sources", timeout=60).json()["sources"][0]["id"]
    service = maps.Maps(f"{live}/")
    assert service.maps() == [f"{source}.class", f"{source}.confidence", f"{source}.imagery"]
    assert service.collection(f"{source}.class")["dataType"] == "map"
    assert f"{TILES}core" in service.conformance()["conformsTo"]


def test_there_is_no_utm_grid_of_this_country_to_serve() -> None:
    """As docs/clients.md says; when morecantile has more of them, they can be layers too."""
    assert [name for name in morecantile.tms.list() if "UTM" in name] == ["UTM31WGS84Quad"]
