"""Files and addresses for GIS programs: GDAL, rio-tiler and QGIS open them with right values."""

from __future__ import annotations

import ast
import html
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree as Xml

import httpx2 as httpx
import numpy as np
import pytest
import rasterio
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import cli
from app.grid.tile import Tile
from app.render.attribute_table import table_of
from app.render.qgis import color_map, polygon_style, raster_style, write_sidecars
from app.render.transition import transition_table
from model.legend import COLORMAPS, LEGEND, NODATA
from tests.app import gis
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.app.running import area_of, until
from tests.world.world import World

TABLE = table_of(LEGEND)
SIX = [[c.value, c.title, "#{:02x}{:02x}{:02x}".format(*c.rgb)] for c in LEGEND.classes]


@pytest.fixture(scope="module")
def client(serve: Serve, two_years: World, pixelwise_model: Path) -> Iterator[TestClient]:
    with serve(two_years.directory, pixelwise_model, title='A "quoted" & <b>bold</b>') as client:
        yield client


def bbox(place: World, shrink: float = 400) -> str:
    ring = area_of(place, shrink)["coordinates"][0]
    lon, lat = zip(*ring, strict=True)
    return f"{min(lon):.6f},{min(lat):.6f},{max(lon):.6f},{max(lat):.6f}"


def feature_of(place: World, shrink: float = 500) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": area_of(place, shrink)}


def middle(place: World, zoom: int = 17) -> tuple[int, int, int]:
    return tiles_around(*place.scenes[0].lonlat, zoom, 0)[0]


def until_exact(get: Callable[[str], Any], path: str) -> bytes:
    """A tile's content once every block behind it is there: until then it may be an estimate."""
    answer = until(lambda: a if (a := get(path)).headers["x-landcover-quality"] == "full" else None)
    return bytes(answer.content)


def entries_in(style: str) -> list[tuple[int, str, str]]:
    root = Xml.fromstring(style.split("\n", 1)[1])  # noqa: S314 - our own, without its doctype
    found = root.findall("pipe/rasterrenderer/colorPalette/paletteEntry")
    return [(int(e.get("value", "")), e.get("label", ""), e.get("color", "")) for e in found]


def test_a_raster_style_has_one_entry_per_class() -> None:
    assert [list(each) for each in entries_in(raster_style(TABLE))] == SIX
    changes = entries_in(raster_style(transition_table(LEGEND)))
    assert len(changes) == 36
    assert (13, "Buildings → Water", "#01b0f1") in changes


def test_a_color_map_is_value_and_color() -> None:
    lines = color_map(TABLE).splitlines()
    assert lines[0] == "1 0 0 0"
    assert [tuple(map(int, line.split())) for line in lines] == [
        (c.value, *c.rgb) for c in LEGEND.classes
    ]


def test_a_style_that_a_user_saved_stays(tmp_path: Path) -> None:
    raster = tmp_path / "classes.tif"
    write_sidecars(raster, TABLE)
    write_sidecars(raster, transition_table(LEGEND))
    assert len(entries_in((tmp_path / "classes.qml").read_text())) == 36
    own = "<qgis>my colors</qgis>"
    (tmp_path / "classes.qml").write_text(own)
    write_sidecars(raster, TABLE)
    assert (tmp_path / "classes.qml").read_text() == own
    assert (tmp_path / "classes.clr").read_text() == color_map(TABLE)


@pytest.mark.slow
def test_zip_and_job_and_command_line_bring_the_style(
    client: TestClient, two_years: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    body = feature_of(two_years)
    archive = client.post("/feature.zip?year=2017", json=body).content
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        assert bundle.read("landcover-2017.qml").decode() == raster_style(TABLE)
        assert bundle.read("landcover-2017.clr").decode() == color_map(TABLE)
    archive = client.post("/change.zip?from=2017&to=2019", json=body).content
    with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
        assert len(entries_in(bundle.read("change-2017-2019.qml").decode())) == 36
    request = {"inputs": {"area": body["geometry"], "year": "2017"}, "outputs": {"cog": {}}}
    job = client.post("/processes/classify-area/execution", json=request).json()
    href = job["cog"]["href"].removesuffix(".tif")
    assert client.get(f"{href}.qml").text == raster_style(TABLE)
    assert client.get(f"{href}.clr").text == color_map(TABLE)
    assert client.get(f"{href}.sld").status_code == 404
    output = tmp_path / "out" / "classes.tif"
    scene = sorted(two_years.directory.glob("*.tif"))[0]
    command = ["classify", str(scene), str(output), "--model", str(pixelwise_model)]
    assert CliRunner().invoke(cli, command).exit_code == 0
    assert output.with_suffix(".qml").read_text() == raster_style(TABLE)


def test_a_geopackage_carries_its_style(
    client: TestClient, two_years: World, tmp_path: Path
) -> None:
    path = tmp_path / "a.gpkg"
    path.write_bytes(client.post("/feature.gpkg?year=2017", json=feature_of(two_years)).content)
    with sqlite3.connect(path) as db:
        rows = db.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        ).fetchall()
        (column,) = db.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
        kinds = dict(db.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall())
    assert rows == [("classes", column, polygon_style(TABLE), 1)]
    assert kinds == {"classes": "features", "layer_styles": "attributes"}


RANGES: list[tuple[str, int, slice | None]] = [
    ("bytes=0-99", 206, slice(0, 100)),
    ("bytes=100-", 206, slice(100, None)),
    ("bytes=-50", 206, slice(-50, None)),
    ("bytes=0-0", 206, slice(0, 1)),
    ("bytes=10-999999999", 206, slice(10, None)),
    ("bytes=-999999999", 206, slice(0, None)),
    ("bytes=999999999-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=5-4", 200, slice(None)),
    ("bytes=0-1,5-6", 200, slice(None)),
    ("lines=0-1", 200, slice(None)),
    ("bytes=x-y", 200, slice(None)),
    ("", 200, slice(None)),
]


@pytest.mark.parametrize(("requested", "status", "part"), RANGES)
def test_byte_ranges_of_a_download(
    client: TestClient, two_years: World, requested: str, status: int, part: slice | None
) -> None:
    path = f"/bbox/{bbox(two_years)}.tif?year=2017"
    whole = client.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    answer = client.get(path, headers={"range": requested} if requested else {})
    assert answer.status_code == status
    if part is None:
        assert answer.content == b""
        assert answer.headers["content-range"] == f"bytes */{len(whole.content)}"
        return
    assert answer.content == whole.content[part]
    assert int(answer.headers["content-length"]) == len(answer.content)
    if status == 206:
        first = range(len(whole.content))[part][0]
        last = first + len(answer.content) - 1
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole.content)}"
    for name in ("etag", "content-crs", "content-disposition", "content-type"):
        assert answer.headers[name] == whole.headers[name]


def test_validators_of_a_download(client: TestClient, two_years: World) -> None:
    path = f"/bbox/{bbox(two_years)}.tif?year=2017"
    etag = client.get(path).headers["etag"]
    part = {"range": "bytes=0-9"}
    assert client.get(path, headers={"if-none-match": etag}).status_code == 304
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert client.get(path, headers={**part, "if-range": etag}).status_code == 206
    assert client.get(path, headers={**part, "if-range": '"other"'}).status_code == 200
    other = client.get(path.replace("2017", "2019"))
    assert other.headers["etag"] != etag


def test_the_parts_of_a_download_are_not_computed_one_by_one(
    client: TestClient, two_years: World
) -> None:
    rendered = client.app.state.services.rendered  # type: ignore[attr-defined]
    path = f"/bbox/{bbox(two_years, 450)}.tif?year=2017"
    client.get(path, headers={"range": "bytes=0-9"})
    hits = rendered.hits
    for start in range(0, 50, 10):
        answer = client.get(path, headers={"range": f"bytes={start}-{start + 9}"})
        assert answer.status_code == 206
    assert rendered.hits == hits + 5


@pytest.mark.slow
def test_gdal_and_rio_tiler_open_a_download_where_it_is(
    live: str, two_years: World, tmp_path: Path
) -> None:
    address = f"{live}/bbox/{bbox(two_years)}.tif"
    content = httpx.get(address, timeout=60).content
    with rasterio.MemoryFile(content) as memory, memory.open() as dataset:
        expected = dataset.read(1)
        box = dataset.bounds
    out = tmp_path / "read.tif"
    gis.gdal("gdal_translate", "-q", f"/vsicurl/{address}", str(out))
    with rasterio.open(out) as dataset:
        assert int((dataset.read(1) != expected).sum()) == 0
    shape = (expected.shape[1], expected.shape[0])
    read: dict[str, Any] = {"window": list(box), "shape": shape}
    (answer,) = gis.newest_gdal([{"open": f"/vsicurl/{address}", **read}], tmp_path)
    assert int((gis.bands_of(answer, shape)[0] != expected).sum()) == 0
    script = (
        "import sys, numpy\nfrom rio_tiler.io import Reader\n"
        "with Reader(sys.argv[1]) as cog:\n"
        "    image = cog.read(indexes=1)\n"
        "numpy.save(sys.argv[2], image.array.filled(255)[0])\n"
    )
    array = tmp_path / "rio.npy"
    ran(script, address, array)
    assert int((np.load(array) != expected).sum()) == 0


XARRAY = """
import sys, numpy, rioxarray
data = rioxarray.open_rasterio(sys.argv[1])
assert data.rio.crs.to_epsg() == 26916, data.rio.crs
assert data.rio.nodata == 255
numpy.save(sys.argv[2], data[0].values)
assert float(data.x[1] - data.x[0]) == 1.0
"""

GEOPANDAS = """
import sys, geopandas
frame = geopandas.read_file(sys.argv[1], **({"layer": "classes"} if ".gpkg" in sys.argv[1] else {}))
areas = frame.to_crs(26916).area.groupby(frame["value"]).sum()
print({int(value): float(area) for value, area in areas.items()})
"""


def ran(script: str, *arguments: object) -> str:
    """The output of a script in a process of its own, with its own GDAL options."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    found = subprocess.run(
        command, check=False, capture_output=True, text=True, env=gis.plain(), timeout=100
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def test_xarray_opens_a_download_where_it_is(live: str, two_years: World, tmp_path: Path) -> None:
    if find_spec("rioxarray") is None:
        pytest.skip("no rioxarray (pip install rioxarray)")
    address = f"{live}/bbox/{bbox(two_years)}.tif?year=2017"
    with (
        rasterio.MemoryFile(httpx.get(address, timeout=60).content) as memory,
        memory.open() as dataset,
    ):
        expected = dataset.read(1)
    ran(XARRAY, address, tmp_path / "x.npy")
    assert int((np.load(tmp_path / "x.npy") != expected).sum()) == 0


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb"])
def test_geopandas_reads_the_polygons(
    live: str, two_years: World, tmp_path: Path, suffix: str
) -> None:
    """The areas of the polygons are those of the pixels."""
    if find_spec("geopandas") is None:
        pytest.skip("no geopandas (pip install geopandas)")
    body = feature_of(two_years)
    (tmp_path / f"a.{suffix}").write_bytes(
        httpx.post(f"{live}/feature.{suffix}?year=2017", json=body, timeout=60).content
    )
    content = httpx.post(f"{live}/feature.tif?year=2017", json=body, timeout=60).content
    with rasterio.MemoryFile(content) as memory, memory.open() as dataset:
        values, counts = np.unique(dataset.read(1), return_counts=True)
    pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    areas = ast.literal_eval(ran(GEOPANDAS, tmp_path / f"a.{suffix}"))
    assert areas.keys() == pixels.keys() - {NODATA}
    assert areas == pytest.approx({value: pixels[value] for value in areas}, rel=1e-3)


@pytest.mark.parametrize("zoom", [17, 15])
@pytest.mark.slow
def test_gdal_wms_reads_the_values_of_the_tiles(
    live: str, two_years: World, tmp_path: Path, zoom: int
) -> None:
    z, x, y = middle(two_years, zoom)
    window, shape = gis.box_of(Tile(z, x, y), Tile(z, x, y)), (256, 256)
    address = f"/vsicurl/{live}/gdal_wms.xml?year=2017"
    content = until_exact(httpx.get, f"{live}/{z}/{x}/{y}.npy?year=2017")
    (answer,) = gis.newest_gdal([{"open": address, "window": window, "shape": shape}], tmp_path)
    expected = classes_in(content, "npy")
    assert len(np.unique(expected)) >= 6
    assert int((gis.bands_of(answer, shape)[0] != expected).sum()) == 0
    if zoom == 17:
        out = tmp_path / "wms.tif"
        left, bottom, right, top = (str(each) for each in window)
        size = ["-outsize", "256", "256"]
        gis.gdal(
            "gdal_translate", "-q", "-projwin", left, top, right, bottom, *size, address, str(out)
        )
        with rasterio.open(out) as dataset:
            assert dataset.nodata == NODATA
            assert int((dataset.read(1) != expected).sum()) == 0


def test_every_address_of_the_page_answers(client: TestClient, two_years: World) -> None:
    page = client.get("/clients")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    z, x, y = middle(two_years)
    text = html.unescape(page.text)
    addresses = set(re.findall(r"http://testserver[^\s\"'<>)]*", text))
    assert len(addresses) >= 9
    for address in addresses:
        assert client.get(address.format(z=z, x=x, y=y)).status_code == 200, address


def test_titles_and_hosts_are_escaped(client: TestClient) -> None:
    page = client.get("/clients", headers={"host": 'a"><script>alert(1)</script>'}).text
    assert "<script" not in page
    assert "<b>bold" not in page
    assert "A &quot;quoted&quot; &amp; &lt;b&gt;bold&lt;/b&gt;" in page
    for path in ("/qgis/layers.qlr", "/qgis/xyz.xml", "/gdal_wms.xml", "/qgis/wmts.xml"):
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/xml"
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        Xml.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", answer.text))  # noqa: S314 - our own


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/gdal_wms.xml?source=elsewhere", "source"),
        ("/gdal_wms.xml?year=1815", "year"),
        ("/gdal_wms.xml?layer=imagery&style=viridis", "style"),
        ("/qgis/layers.qlr?year=1815", "year"),
        ("/legend.qml?colormap_name=viridis", "colormap_name"),
        ("/legend.clr?colormap_name=viridis", "colormap_name"),
    ],
)
def test_an_unknown_name_is_404(client: TestClient, path: str, field: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["field"]) == (404, field)


def test_legend_files_are_those_beside_the_rasters(client: TestClient) -> None:
    assert client.get("/legend.qml").text == raster_style(TABLE)
    assert client.get("/legend.clr").text == color_map(TABLE)
    changes = client.get("/legend.qml?layer=change&colormap_name=nlcd").text
    assert (13, "Buildings → Water", "#466b9f") in entries_in(changes)


def objects_in(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Every JSON object with a `type` in a document."""
    if isinstance(value, dict):
        inner = [each for member in value.values() for each in objects_in(member)]
        return [value, *inner] if "type" in value else inner
    return (
        [each for member in value for each in objects_in(member)] if isinstance(value, list) else []
    )


@pytest.mark.parametrize(("layer", "count"), [("class", 6), ("change", 36)])
def test_the_layer_file_of_arcgis_names_and_colors_every_value(
    client: TestClient, layer: str, count: int
) -> None:
    answer = client.get(f"/legend.lyrx?layer={layer}&colormap_name=nlcd")
    assert answer.headers["content-disposition"] == f'attachment; filename="{layer}.lyrx"'
    document = answer.json()
    (definition,) = document["layerDefinitions"]
    assert document["layers"] == [definition["uRI"]]
    (group,) = definition["colorizer"]["groups"]
    table = entries_in(client.get(f"/legend.qml?layer={layer}&colormap_name=nlcd").text)
    assert len(table) == count
    assert [
        (
            int(*each["values"]),
            each["label"],
            "#{:02x}{:02x}{:02x}".format(*each["color"]["values"]),
        )
        for each in group["classes"]
    ] == table
    assert client.get("/legend.lyrx?colormap_name=viridis").status_code == 404


def test_the_layer_file_holds_what_esris_specification_lists(client: TestClient) -> None:
    """The tables of properties and values in Esri/cim-spec: ESRI_CIM_SPEC=CHECKOUT/docs/v3."""
    folder = os.environ.get("ESRI_CIM_SPEC")
    if not folder:
        pytest.skip("Esri's specification is not here: set ESRI_CIM_SPEC")
    text = "\n".join(path.read_text("utf-8") for path in sorted(Path(folder).glob("CIM*.md")))
    document = client.get("/legend.lyrx").json()
    assert len(objects_in(document)) == 17
    for each in objects_in(document):
        (section,) = re.findall(rf"^## {each['type']}\s*$(.*?)(?=^## |\Z)", text, re.M | re.S)
        # Keys of JSON begin with a small letter, also where the table has URI.
        known = {name[0].lower() + name[1:] for name in re.findall(r"^\| (\w+) \|", section, re.M)}
        assert set(each) - {"type"} <= known, each["type"]
    colorizer = document["layerDefinitions"][0]["colorizer"]
    connection = document["layerDefinitions"][0]["dataConnection"]
    for name, value in (
        ("RasterResamplingType", colorizer["resamplingType"]),
        ("WorkspaceFactory", connection["workspaceFactory"]),
    ):
        listed = re.findall(rf"^### Enumeration: {name}\s*$(.*?)(?=^###? |\Z)", text, re.M | re.S)[
            0
        ]
        assert f"| {value}|" in listed, name


def test_nlcd_colors(client: TestClient, two_years: World) -> None:
    z, x, y = middle(two_years)
    colormap = client.get("/legend").json()["colormaps"]["nlcd"]
    # MRLC's legend: 24, 22, 11, 31, 41, 81.
    assert list(colormap.values()) == [
        "#ab0000", "#d99282", "#466b9f", "#b3ac9f", "#68ab5f", "#dcd939",
    ]  # fmt: skip
    plain = client.get(f"/{z}/{x}/{y}.png")
    nlcd = client.get(f"/{z}/{x}/{y}.png?colormap_name=nlcd")
    assert nlcd.headers["etag"] != plain.headers["etag"]
    assert (classes_in(nlcd.content, "png") == NODATA).all()  # none of the standard colors


@pytest.mark.parametrize("name", COLORMAPS)
def test_a_colormap_is_the_same_in_tiles_styles_and_files(
    client: TestClient, two_years: World, name: str
) -> None:
    z, x, y = middle(two_years)
    source = client.get("/sources").json()["sources"][0]["id"]
    classes = classes_in(client.get(f"/{z}/{x}/{y}.npy?year=2017").content, "npy")
    tile = client.get(f"/{z}/{x}/{y}.png?year=2017&colormap_name={name}").content
    shown = np.asarray(Image.open(io.BytesIO(tile)).convert("RGBA")).transpose(2, 0, 1)
    assert (gis.classes_in_rgba(shown, name) == classes).all()
    wmts = (
        f"/wmts?service=WMTS&version=1.0.0&request=GetTile&layer={source}.class&style={name}"
        f"&format=image/png&tilematrixset=WebMercatorQuad&tilematrix={z}&tilecol={x}&tilerow={y}"
        "&year=2017"
    )
    assert client.get(wmts).content == tile
    ogc = f"/collections/{source}.class/styles/{name}/map/tiles/WebMercatorQuad"
    templates = [link["href"] for link in client.get(ogc).json()["links"] if link.get("templated")]
    place = {"tileMatrix": z, "tileRow": y, "tileCol": x}
    addresses = [template.format_map(place) for template in templates]
    tiles = [client.get(f"{each}{'&' if '?' in each else '?'}year=2017") for each in addresses]
    assert tile in [each.content for each in tiles]
    listed = [[*each] for each in entries_in(client.get(f"/legend.qml?colormap_name={name}").text)]
    colors = {value: color for color, value in gis.hex_colors(name).items()}
    assert listed == [[c.value, c.title, colors[c.value]] for c in LEGEND.classes]
    lines = client.get(f"/legend.clr?colormap_name={name}").text.splitlines()
    rgb = LEGEND.colors(name)
    assert [tuple(map(int, each.split())) for each in lines] == [(v, *rgb[v]) for v in rgb]
    picture = Image.open(io.BytesIO(client.get(f"/legend.png?colormap_name={name}").content))
    seen = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert set(rgb.values()) <= seen


@pytest.mark.slow
def test_a_scene_may_have_any_name(
    serve: Serve, two_years: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    """A header holds it percent-encoded; JSON and every file as it is."""
    name = r"航空写真, 50% \n_20170903"  # a control character of the file's name is spelled out
    shutil.copy(two_years.scenes[0].path, tmp_path / "航空写真, 50% \n_20170903.tif")
    z, x, y = middle(two_years)
    lon, lat = two_years.scenes[0].lonlat
    with serve(tmp_path, pixelwise_model) as client:
        for suffix in ("png", "webp", "tif", "npy"):
            answer = client.get(f"/{z}/{x}/{y}.{suffix}")
            assert answer.status_code == 200
            assert unquote(answer.headers["x-landcover-scenes"]) == name
            assert "," not in answer.headers["x-landcover-scenes"]
        assert client.get(f"/point/{lon},{lat}").json()["scene"]["id"] == name
        body = feature_of(two_years)
        for suffix in ("tif", "zip", "gpkg", "geojson"):
            assert client.post(f"/feature.{suffix}", json=body).status_code == 200, suffix
        for path in ("/WMTSCapabilities.xml", "/clients", "/style.json", "/collections"):
            assert client.get(path).status_code == 200


@pytest.mark.parametrize("zoom", [17, 14])
def test_min_confidence_leaves_out_exactly_the_pixels_below(
    client: TestClient, two_years: World, zoom: int
) -> None:
    z, x, y = middle(two_years, zoom)
    path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy?year=2017"
    classes = classes_in(until_exact(client.get, path), "npy")
    confidence = classes_in(client.get(f"{path}&layer=confidence").content, "npy")
    least = int(np.median(confidence[confidence != NODATA]))
    answer = client.get(f"{path}&min_confidence={least}")
    expected = np.where((confidence != NODATA) & (confidence >= least), classes, NODATA)
    assert (classes_in(answer.content, "npy") == expected).all()
    assert 0 < (expected != NODATA).sum() < (classes != NODATA).sum()
    png = client.get(f"{path.replace('.npy', '.png')}&min_confidence={least}")
    assert (classes_in(png.content, "png") == expected).all()
    etags = {client.get(f"{path}&min_confidence={n}").headers["etag"] for n in (0, least, 100)}
    assert len(etags) == 3
    assert client.get(path).headers["etag"] in etags


@pytest.mark.parametrize("value", ["-1", "101", "1e3", "x", "nan", ""])
def test_min_confidence_is_a_percentage(client: TestClient, value: str) -> None:
    answer = client.get(f"/tiles/WebMercatorQuad/17/0/0.png?min_confidence={value}")
    assert (answer.status_code, answer.json()["field"]) == (400, "min_confidence")


@pytest.mark.parametrize("layer", ["confidence", "change&from=2017&to=2019"])
def test_min_confidence_is_of_class_tiles(client: TestClient, layer: str) -> None:
    answer = client.get(f"/tiles/WebMercatorQuad/17/0/0.png?min_confidence=50&layer={layer}")
    assert (answer.status_code, answer.json()["field"]) == (400, "min_confidence")


@pytest.mark.slow
def test_qgis_opens_everything_with_names_and_colors(
    live: str, two_years: World, tmp_path: Path
) -> None:
    """Six entries, not 256; the layer definition and both connection files; values of the GDAL_WMS
    raster as `/point` gives them."""
    body = feature_of(two_years)
    for name, path in (
        ("zip", "feature.zip?year=2017"),
        ("change", "change.zip?from=2017&to=2019"),
    ):
        content = httpx.post(f"{live}/{path}", json=body, timeout=60).content
        with zipfile.ZipFile(io.BytesIO(content)) as bundle:
            bundle.extractall(tmp_path / name)
    polygons = httpx.post(f"{live}/feature.gpkg?year=2017", json=body, timeout=60).content
    (tmp_path / "polygons.gpkg").write_bytes(polygons)
    for name, path in (
        ("layers.qlr", "qgis/layers.qlr?year=2017"),
        ("wms.xml", "gdal_wms.xml?year=2017"),
        ("wms.qml", "legend.qml"),
        ("xyz.xml", "qgis/xyz.xml"),
        ("wmts.xml", "qgis/wmts.xml"),
    ):
        (tmp_path / name).write_bytes(httpx.get(f"{live}/{path}", timeout=60).content)
    source = httpx.get(f"{live}/sources", timeout=60).json()["sources"][0]
    z, x, y = middle(two_years)
    tile = Tile(z, x, y)
    place = {"extent": tile.bounds, "size": (256, 256)}
    left, _, right, top = tile.bounds
    pixel = (right - left) / 256
    spots = [(left + (n + 0.5) * pixel, top - (n + 0.5) * pixel) for n in (10, 90, 170, 250)]
    values = 1
    answers = gis.qgis(
        [
            {"raster": str(tmp_path / "zip" / "landcover-2017.tif")},
            {"raster": str(tmp_path / "change" / "change-2017-2019.tif")},
            {"vector": str(tmp_path / "polygons.gpkg")},
            {"raster": str(tmp_path / "wms.xml"), "maps": [place], "identify": spots,
             "format": values},
            {"qlr": str(tmp_path / "layers.qlr"), "name": f"{source['title']}: land cover",
             "maps": [place]},
            {"connections": str(tmp_path / "xyz.xml"), "kind": "XyzTiles"},
            {"connections": str(tmp_path / "wmts.xml"), "kind": "WMS"},
        ],
        tmp_path,
    )  # fmt: skip
    raster, change, vector, wms, layer, xyz, wmts = answers
    assert raster["legend"] == SIX
    assert len(change["legend"]) == 36
    assert [[int(value), *rest] for value, *rest in vector["legend"]] == SIX
    assert wms["legend"] == SIX
    tiles = classes_in(httpx.get(f"{live}/{z}/{x}/{y}.npy?year=2017", timeout=60).content, "npy")
    seen = [float(each["1"]) for each in wms["identify"]]
    assert seen == [float(tiles[n, n]) for n in (10, 90, 170, 250)]
    for answer in (wms, layer):
        assert set(answer["maps"][0]["colors"]) <= {*gis.hex_colors(), "#000000/0"}
    assert layer["valid"]
    listed = json.dumps(xyz["connections"])
    assert f"{live}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png" in listed
    assert len(xyz["connections"]) == 3
    assert wmts["connections"][0][1] == f"{live}/WMTSCapabilities.xml"
