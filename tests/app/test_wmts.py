"""WMTS 1.0.0: what the document says is true, and GDAL, OWSLib and QGIS read right pixels."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as Xml

import httpx2 as httpx
import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from starlette.testclient import TestClient

from app.grid.tile import Tile
from model.legend import NODATA
from tests.app import gis
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.world import World

WMTS = "{http://www.opengis.net/wmts/1.0}"
OWS = "{http://www.opengis.net/ows/1.1}"
XLINK = "{http://www.w3.org/1999/xlink}"
KVP = "/wmts?service=WMTS&version=1.0.0&"


@pytest.fixture(scope="module")
def client(serve: Serve, two_years: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_years.directory, pixelwise_model, title="Two & two <years>") as client:
        yield client


def document(
    client: TestClient, path: str = "/WMTSCapabilities.xml", **headers: str
) -> Xml.Element:
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")
    return Xml.fromstring(answer.content)  # noqa: S314 - our own


def layer_named(root: Xml.Element, suffix: str) -> Xml.Element:
    layers = root.findall(f"{WMTS}Contents/{WMTS}Layer")
    return next(
        each for each in layers if (each.findtext(f"{OWS}Identifier") or "").endswith(suffix)
    )


def get_tile(z: int, x: int, y: int, **changes: str) -> str:
    wanted = {
        "request": "GetTile", "layer": "two-years0.class", "style": "landcover",
        "format": "image/png", "tilematrixset": "WebMercatorQuad",
        "tilematrix": str(z), "tilecol": str(x), "tilerow": str(y),
    }  # fmt: skip
    query = "&".join(f"{name}={value}" for name, value in (wanted | changes).items() if value)
    return f"{KVP}{query}"


def source_of(client: TestClient) -> str:
    return str(client.get("/sources").json()["sources"][0]["id"])


def middle(place: World, zoom: int = 17) -> tuple[int, int, int]:
    return tiles_around(*place.scenes[0].lonlat, zoom, 0)[0]


def test_capabilities_follow_the_schema_of_ogc(client: TestClient) -> None:
    etree = pytest.importorskip("lxml.etree")
    package = find_spec("mapproxy")
    if package is None or package.origin is None:
        pytest.skip("no OGC schemas (pip install MapProxy: it carries them)")
    schemas = Path(package.origin).parent / "test" / "schemas"

    class Local(etree.Resolver):  # type: ignore[misc,name-defined]
        def resolve(self, url: str, _: object, context: object) -> Any:  # noqa: ANN401
            for path in schemas.rglob(Path(url).name):
                if url.startswith("http"):
                    return self.resolve_filename(str(path), context)
            return None

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Local())
    path = schemas / "wmts" / "1.0" / "wmtsGetCapabilities_response.xsd"
    schema = etree.XMLSchema(etree.parse(str(path), parser))
    content = client.get("/WMTSCapabilities.xml").content
    assert schema.validate(etree.fromstring(content)), schema.error_log
    assert not schema.validate(etree.fromstring(content.replace(b"Layer>", b"Layr>")))


def test_every_source_has_three_layers_with_their_styles_and_years(client: TestClient) -> None:
    root = document(client)
    source = source_of(client)
    seen = {
        each.findtext(f"{OWS}Identifier"): [
            style.findtext(f"{OWS}Identifier") for style in each.findall(f"{WMTS}Style")
        ]
        for each in root.findall(f"{WMTS}Contents/{WMTS}Layer")
    }
    colormaps = list(client.get("/legend").json()["colormaps"])
    assert seen == {
        f"{source}.class": colormaps,
        f"{source}.confidence": ["confidence"],
        f"{source}.imagery": ["rgb", "cir", "ndvi"],
    }
    for layer in root.findall(f"{WMTS}Contents/{WMTS}Layer"):
        dimension = layer.find(f"{WMTS}Dimension")
        assert dimension is not None
        assert dimension.findtext(f"{OWS}Identifier") == "year"
        assert dimension.findtext(f"{WMTS}Default") == "latest"
        years = [each.text for each in dimension.findall(f"{WMTS}Value")]
        assert years == ["latest", "2019", "2017"]


def test_titles_and_the_ampersands_of_templates_are_escaped(client: TestClient) -> None:
    text = client.get("/WMTSCapabilities.xml").text
    assert "Two &amp; two &lt;years&gt;: land cover" in text
    layer = layer_named(document(client), ".class")
    (tile,) = [e for e in layer.findall(f"{WMTS}ResourceURL") if e.get("resourceType") == "tile"]
    template = tile.get("template") or ""
    assert template.endswith("&layer=class&colormap_name={Style}")
    assert template.replace("&", "&amp;") in text


def test_every_resource_address_answers(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    values = {
        "TileMatrixSet": "WebMercatorQuad", "TileMatrix": z, "TileCol": x, "TileRow": y,
        "I": 7, "J": 9, "year": "2017",
    }  # fmt: skip
    kinds = set()
    for layer in document(client).findall(f"{WMTS}Contents/{WMTS}Layer"):
        for style in layer.findall(f"{WMTS}Style"):
            picture = style.find(f"{WMTS}LegendURL")
            if picture is not None:
                answer = client.get(picture.get(f"{XLINK}href", ""))
                assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
            for resource in layer.findall(f"{WMTS}ResourceURL"):
                style_id = style.findtext(f"{OWS}Identifier")
                address = resource.get("template", "").format(**values, Style=style_id)
                answer = client.get(address)
                assert answer.status_code == 200, address
                media = answer.headers["content-type"].split(";")[0]
                assert media == resource.get("format")
                kinds.add((resource.get("resourceType"), media))
    assert kinds == {
        ("tile", "image/png"), ("tile", "image/jpeg"), ("FeatureInfo", "application/json"),
        ("FeatureInfo", "text/html"), ("FeatureInfo", "text/plain"),
    }  # fmt: skip


def test_the_limits_hold_every_tile_with_imagery_and_no_other_row_or_column(
    client: TestClient, two_years: World
) -> None:
    layer = layer_named(document(client), ".class")
    limits = layer.findall(
        f"{WMTS}TileMatrixSetLink/{WMTS}TileMatrixSetLimits/{WMTS}TileMatrixLimits"
    )
    zooms = {int(each.findtext(f"{WMTS}TileMatrix") or -1): each for each in limits}
    described = client.get("/sources").json()["sources"][0]
    assert sorted(zooms) == list(range(described["minzoom"], described["maxzoom"] + 1))
    west, south, east, north = described["bounds"]
    for zoom, each in zooms.items():
        names = ("MinTileCol", "MaxTileCol", "MinTileRow", "MaxTileRow")
        first_col, last_col, first_row, last_row = (
            int(each.findtext(f"{WMTS}{name}") or -1) for name in names
        )

        def shares_ground(x: int, y: int, zoom: int = zoom) -> bool:
            left, bottom, right, top = Tile(zoom, x, y).lonlat_bounds
            return bool(left < east and west < right and bottom < north and south < top)

        for x, y in ((first_col, first_row), (last_col, last_row)):
            assert shares_ground(x, y)
        assert not shares_ground(first_col - 1, first_row)
        assert not shares_ground(last_col + 1, last_row)
        assert not shares_ground(first_col, first_row - 1)
        assert not shares_ground(last_col, last_row + 1)


def test_the_tile_matrix_set_is_the_well_known_one(client: TestClient) -> None:
    matrix_set = document(client).find(f"{WMTS}Contents/{WMTS}TileMatrixSet")
    assert matrix_set is not None
    assert matrix_set.findtext(f"{OWS}Identifier") == "WebMercatorQuad"
    assert matrix_set.findtext(f"{OWS}SupportedCRS") == "urn:ogc:def:crs:EPSG::3857"
    scale_set = "urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible"
    assert matrix_set.findtext(f"{WMTS}WellKnownScaleSet") == scale_set
    for zoom, matrix in enumerate(matrix_set.findall(f"{WMTS}TileMatrix")):
        denominator = float(matrix.findtext(f"{WMTS}ScaleDenominator") or 0)
        # OGC 07-057r7, annex E.4, writes the first as 559082264.0287178.
        assert denominator == pytest.approx(559082264.0287178 / 2**zoom, rel=1e-12)
        assert matrix.findtext(f"{WMTS}MatrixWidth") == str(2**zoom)


@pytest.mark.parametrize(
    "name", ["WebMercatorQuad", "GoogleMapsCompatible", "WholeWorld_WebMercator"]
)
def test_get_tile_is_the_tile_of_the_xyz_address(
    client: TestClient, two_years: World, name: str
) -> None:
    z, x, y = middle(two_years)
    layer = f"{source_of(client)}.class"
    kvp = client.get(get_tile(z, x, y, layer=layer, tilematrixset=name, year="2017"))
    xyz = client.get(
        f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
        f"?source={source_of(client)}&year=2017&layer=class&colormap_name=landcover"
    )
    plain = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?year=2017")
    assert kvp.content == xyz.content == plain.content
    assert kvp.headers["etag"] == xyz.headers["etag"] == plain.headers["etag"]
    again = client.get(
        get_tile(z, x, y, layer=layer, year="2017"), headers={"if-none-match": kvp.headers["etag"]}
    )
    assert again.status_code == 304


def test_get_tile_shares_the_memory_of_the_restful_address(
    client: TestClient, two_years: World
) -> None:
    z, x, y = middle(two_years)
    source = source_of(client)
    rendered = client.app.state.services.rendered  # type: ignore[attr-defined]
    client.get(
        f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
        f"?source={source}&year=2019&layer=class&colormap_name=colorblind"
    )
    before = len(rendered), rendered.hits
    answer = client.get(get_tile(z, x, y, layer=f"{source}.class", style="colorblind", year="2019"))
    assert answer.status_code == 200
    assert (len(rendered), rendered.hits) == (before[0], before[1] + 1)


def test_get_tile_gives_confidence_and_imagery(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    source = source_of(client)
    for layer, style, media, address in (
        ("confidence", "", "image/png", f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png?layer=confidence"),
        (
            "imagery",
            "ndvi",
            "image/jpeg",
            f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.jpg?style=ndvi",
        ),
    ):
        path = get_tile(z, x, y, layer=f"{source}.{layer}", style=style, format=media)
        answer = client.get(path)
        assert answer.headers["content-type"] == media
        assert answer.content == client.get(address).content


def test_get_feature_info_is_the_point_query(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    layer = f"{source_of(client)}.class"
    path = get_tile(z, x, y, layer=layer, request="GetFeatureInfo", i="100", j="200", year="2017")
    answer = client.get(f"{path}&infoformat=application/json").json()
    (feature,) = answer["features"]
    lon, lat = feature["geometry"]["coordinates"]
    point = client.get(f"/point/{lon},{lat}?year=2017").json()
    found = feature["properties"]
    assert found["class"] == point["class"]["title"]
    assert found["value"] == point["class"]["value"]
    assert found["confidence"] == point["confidence"]
    assert found["scene"] == point["scene"]["id"]
    # … of the pixel that the tile shows there.
    tile = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy?year=2017")
    assert classes_in(tile.content, "npy")[200, 100] == found["value"]
    html = client.get(f"{path}&infoformat=text/html")
    assert found["class"] in html.text
    plain = client.get(f"{path}&infoformat=text/plain")
    assert f"scene = {found['scene']}" in plain.text
    empty = get_tile(17, 0, 0, layer=layer, request="GetFeatureInfo", i="0", j="0")
    assert client.get(f"{empty}&infoformat=application/json").json()["features"] == []


WRONG: list[tuple[str, int, str, str]] = [
    ("/wmts", 400, "MissingParameterValue", "service"),
    ("/wmts?service=WMS&request=GetCapabilities", 400, "InvalidParameterValue", "service"),
    ("/wmts?service=WMTS", 400, "MissingParameterValue", "request"),
    ("/wmts?service=WMTS&request=GetMap", 501, "OperationNotSupported", "request"),
    (f"{KVP}request=GetCapabilities&AcceptVersions=2.0.0", 400, "VersionNegotiationFailed",
     "acceptversions"),
    (f"{KVP}request=GetTile", 400, "MissingParameterValue", "layer"),
    (get_tile(17, 1, 1, layer="elsewhere.class"), 400, "InvalidParameterValue", "layer"),
    (get_tile(17, 1, 1, layer="%3Cscript%3E"), 400, "InvalidParameterValue", "layer"),
    (get_tile(17, 1, 1, style="viridis"), 400, "InvalidParameterValue", "style"),
    (get_tile(17, 1, 1, format="image/gif"), 400, "InvalidParameterValue", "format"),
    (get_tile(17, 1, 1, tilematrixset="EPSG:4326"), 400, "InvalidParameterValue", "tilematrixset"),
    (get_tile(17, 1, 1, tilematrix="x"), 400, "InvalidParameterValue", "tilematrix"),
    (get_tile(99, 1, 1), 400, "InvalidParameterValue", "TileMatrix"),
    (get_tile(3, 8, 1), 400, "TileOutOfRange", "TileCol"),
    (get_tile(3, 1, -1), 400, "TileOutOfRange", "TileRow"),
    (get_tile(17, 1, 1, year="1815"), 400, "InvalidParameterValue", "year"),
    (get_tile(17, 1, 1, version="2.0.0"), 400, "InvalidParameterValue", "version"),
    (get_tile(17, 1, 1, request="GetFeatureInfo", i="256", j="0", infoformat="text/plain"), 400,
     "PointIJOutOfRange", "i"),
    (get_tile(17, 1, 1, request="GetFeatureInfo", i="0", j="0", infoformat="text/xml"), 400,
     "InvalidParameterValue", "infoformat"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "status", "code", "locator"), WRONG)
def test_a_wrong_request_is_an_ows_exception_report(
    client: TestClient, path: str, status: int, code: str, locator: str
) -> None:
    answer = client.get(path.replace("two-years0", source_of(client)))
    root = Xml.fromstring(answer.content)  # noqa: S314 - our own
    exception = root.find(f"{OWS}Exception")
    assert exception is not None
    assert answer.headers["content-type"] == "application/xml"
    assert (answer.status_code, exception.get("exceptionCode"), exception.get("locator")) == (
        status, code, locator,
    )  # fmt: skip
    assert exception.findtext(f"{OWS}ExceptionText")


def test_lenient_as_old_clients_need(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    layer = f"{source_of(client)}.class"
    path = (
        get_tile(z, x, y, layer=layer, style="")
        .replace("layer=", "LAYER=")
        .replace("request=", "REQUEST=")
    )
    assert client.get(f"{path}&_=123&acceptformats=x").status_code == 200
    assert client.get(path.replace("version=1.0.0&", "")).status_code == 200
    assert client.get(f"{path}&style=default").status_code == 200


@pytest.mark.slow
def test_gdal_reads_the_pixels_of_xyz(live: str, two_years: World, tmp_path: Path) -> None:
    """By Debian's GDAL, the WMTS driver: every pixel of six tiles equals the XYZ tiles'."""
    layer = httpx.get(f"{live}/sources", timeout=60).json()["sources"][0]["id"]
    dataset = f"WMTS:{live}/WMTSCapabilities.xml,layer={layer}.class,style=landcover"
    listed = gis.gdal("gdalinfo", f"WMTS:{live}/WMTSCapabilities.xml")
    assert listed.count(f"layer={layer}.class,style=") >= 2
    z, x, y = middle(two_years)

    def xyz(col: int, row: int) -> gis.Classes:
        return classes_in(httpx.get(f"{live}/{z}/{col}/{row}.npy", timeout=60).content, "npy")

    last = Tile(z, x + 2, y + 1)
    left, bottom, right, top = gis.box_of(Tile(z, x, y), last)
    out = tmp_path / "wmts.tif"
    size = ["-outsize", "768", "512", "-r", "nearest"]
    window = [str(each) for each in (left, top, right, bottom)]
    gis.gdal("gdal_translate", "-q", "-projwin", *window, *size, dataset, str(out))
    read = gis.classes_of(out)
    expected = np.vstack(
        [np.hstack([xyz(col, row) for col in range(x, x + 3)]) for row in (y, y + 1)]
    )
    assert read.shape == expected.shape
    assert len(np.unique(expected)) >= 6
    assert int((read != expected).sum()) == 0


def test_owslib_reads_the_document_and_tiles(live: str, two_years: World) -> None:
    wmts = pytest.importorskip("owslib.wmts")
    service = wmts.WebMapTileService(f"{live}/WMTSCapabilities.xml")
    source = httpx.get(f"{live}/sources", timeout=60).json()["sources"][0]["id"]
    assert set(service.contents) == {
        f"{source}.{kind}" for kind in ("class", "confidence", "imagery")
    }
    layer = service.contents[f"{source}.class"]
    assert layer.styles["landcover"]["isDefault"]
    assert layer.styles["landcover"]["legend"].startswith(f"{live}/legend.png")
    assert layer.dimensions["year"]["values"] == ["latest", "2019", "2017"]
    limits = layer.tilematrixsetlinks["WebMercatorQuad"].tilematrixlimits
    assert max(map(int, limits)) == 17
    z, x, y = middle(two_years)
    place = {"tilematrixset": "WebMercatorQuad", "tilematrix": str(z), "row": y, "column": x}
    expected = httpx.get(
        f"{live}/tiles/WebMercatorQuad/{z}/{x}/{y}.png?year=2017", timeout=60
    ).content
    restful = service.gettile(
        layer=layer.id, style="landcover", format="image/png", **place, year="2017"
    )
    assert restful.read() == expected
    kvp = wmts.WebMapTileService(f"{live}/wmts")
    kvp_tile = kvp.gettile(
        base_url=f"{live}/wmts?", layer=layer.id, style="landcover", format="image/png", **place,
        year="2017",
    )  # fmt: skip
    assert kvp_tile.read() == expected


@pytest.mark.slow
def test_qgis_shows_only_legend_colors_and_the_values_of_point(
    live: str, two_years: World, tmp_path: Path
) -> None:
    """At native scale, zoomed in and zoomed out: no pixel of any other color (0.00 % blurred); of
    XYZ tiles at native scale alone, and a GeoTIFF's values."""
    source = httpx.get(f"{live}/sources", timeout=60).json()["sources"][0]["id"]
    z, x, y = middle(two_years)
    box = gis.box_of(Tile(z, x, y), Tile(z, x + 1, y + 1))
    uri = (
        f"crs=EPSG:3857&format=image/png&layers={source}.class&styles=landcover&"
        "tileMatrixSet=WebMercatorQuad&tileDimensions=year%3D2017&"
        f"url={live}/WMTSCapabilities.xml"
    )
    pixels = [(col, row) for col in range(20, 512, 80) for row in range(20, 512, 80)]
    maps: list[dict[str, Any]] = [
        {"extent": box, "size": (512, 512), "pixels": pixels},
        {"extent": box, "size": (770, 770)},
        {"extent": box, "size": (300, 300)},
    ]
    left, bottom, right, top = box
    places = [
        (left + (col + 0.5) * (right - left) / 512, top - (row + 0.5) * (top - bottom) / 512)
        for col, row in pixels
    ]
    html = 4
    tiles = quote(f"{live}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png?year=2017", safe="")
    corners = Transformer.from_crs(3857, 4326, always_xy=True).transform_bounds(*box)
    cog = tmp_path / "classes.tif"
    cog.write_bytes(
        httpx.get(f"{live}/bbox/{','.join(map(str, corners))}.tif?year=2017", timeout=60).content
    )
    to_utm = Transformer.from_crs(3857, 26916, always_xy=True).transform
    with rasterio.open(cog) as dataset:
        ground, whole = tuple(dataset.bounds), (dataset.width, dataset.height)
    answer, xyz, raster = gis.qgis(
        [
            {"uri": uri, "maps": maps, "identify": places[:3], "format": html},
            {"uri": f"type=xyz&zmin=12&zmax=17&url={tiles}", "maps": maps},
            {
                "raster": str(cog),
                "maps": [{"extent": ground, "size": whole}],
                "identify": [to_utm(*place) for place in places],
                "format": 1,
            },
        ],
        tmp_path,
    )
    assert answer["valid"]
    assert answer["crs"] == "EPSG:3857"
    known = gis.hex_colors()
    for shown in answer["maps"]:
        assert shown["errors"] == []
        assert set(shown["colors"]) <= {*known, "#000000/0"}
        assert len(set(shown["colors"]) & set(known)) >= 5
    degrees = Transformer.from_crs(3857, 4326, always_xy=True)
    classes = []
    for place in places:
        lon, lat = degrees.transform(*place)
        point = httpx.get(f"{live}/point/{lon},{lat}?year=2017", timeout=60).json()["class"]
        classes.append(point["value"] if point else NODATA)
    for layer in (answer, xyz):
        seen = [known.get(color, NODATA) for color in layer["maps"][0]["at"]]
        assert seen == classes
    assert set(xyz["maps"][0]["colors"]) <= {*known, "#000000/0"}
    # What the page warns of: QGIS smooths tiles of XYZ layers at any other scale.
    assert all(set(each["colors"]) - {*known, "#000000/0"} for each in xyz["maps"][1:])
    assert raster["crs"] == "EPSG:26916"
    assert set(raster["maps"][0]["colors"]) <= {*known, "#000000/0"}
    values = [float(each["1"]) if each["1"] != "None" else NODATA for each in raster["identify"]]
    assert values == classes
    for place, info in zip(classes, answer["identify"], strict=False):
        assert f"<td>{place}</td>" in info["0"]
