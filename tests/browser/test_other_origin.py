"""Web maps on a page of another origin: the scripts of map libraries, the tiles of our server.

MapLibre comes with the package `maplibre`. The others are taken from the folder CLIENT_SCRIPTS:
leaflet.js, leaflet.css, ol.js and deck.js (its dist.min.js) of `npm pack leaflet ol deck.gl`.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image
from pyproj import Transformer

from app.grid.tile import Tile
from model.legend import LEGEND
from tests.app.conftest import tiles_around
from tests.app.running import server
from tests.world.world import World

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

SCRIPTS = Path(os.environ.get("CLIENT_SCRIPTS", "client-scripts"))
WIDTH, HEIGHT = 800, 600
POINTS = 150
LEAST = 148
Points = tuple[float, float, dict[tuple[int, int], int]]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]

PAGE = """<!doctype html><html><head><meta charset="utf-8">{head}
<style>html, body, #map {{ margin: 0; width: 100%; height: 100%; background: #ff00ff; }}
.leaflet-tile {{ image-rendering: pixelated; }}</style></head>
<body><div id="map"></div><script>
const done = () => setTimeout(() => document.body.dataset.state = "idle", 300);
{script}
</script></body></html>"""

MAPS = {
    "maplibre": (
        '<script src="maplibre-gl.js"></script>',
        """const map = new maplibregl.Map({{ container: "map", style: "{base}/style.json?year=2017",
             center: [{lon}, {lat}], zoom: 17, attributionControl: false }});
           map.once("idle", done);""",
    ),
    "leaflet": (
        '<link rel="stylesheet" href="leaflet.css"><script src="leaflet.js"></script>',
        """const map = L.map("map", {{ center: [{lat}, {lon}], zoom: 18, zoomControl: false,
             attributionControl: false, fadeAnimation: false }});
           L.tileLayer("{tiles}", {{ minZoom: 12, maxNativeZoom: 17, maxZoom: 20,
             crossOrigin: true }}).on("load", done).addTo(map);""",
    ),
    "ol": (
        '<script src="ol.js"></script>',
        """const map = new ol.Map({{ target: "map", controls: [], layers: [
             new ol.layer.Tile({{ source: new ol.source.XYZ({{ interpolate: false, transition: 0,
               crossOrigin: "anonymous", minZoom: 12, maxZoom: 17, url: "{tiles}" }}) }})],
             view: new ol.View({{ center: ol.proj.fromLonLat([{lon}, {lat}]), zoom: 18 }}) }});
           map.once("rendercomplete", done);""",
    ),
    "deck": (
        '<script src="deck.js"></script>',
        """new deck.DeckGL({{ container: "map",
             initialViewState: {{ longitude: {lon}, latitude: {lat}, zoom: 17 }},
             layers: [new deck.TileLayer({{ data: "{tiles}", minZoom: 12, maxZoom: 17,
               tileSize: 256, onViewportLoad: done, renderSubLayers: (props) => {{
                 const {{ west, south, east, north }} = props.tile.bbox;
                 return new deck.BitmapLayer(props, {{ data: null, image: props.data,
                   bounds: [west, south, east, north],
                   textureParameters: {{ minFilter: "nearest", magFilter: "nearest" }} }}); }}
             }})] }});""",
    ),
}


@pytest.fixture(scope="module")
def live(
    two_years: World, pixelwise_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a running server over `two_years`."""
    with server(two_years, pixelwise_model, tmp_path_factory.mktemp("jobs")) as (base, _):
        yield base


@pytest.fixture(scope="module")
def points(live: str, two_years: World) -> Points:
    """The map's center, a corner of four pixels of zoom 17, and (column, row) of pixels around it
    with their classes by `/point`."""
    z, x, y = tiles_around(*two_years.scenes[0].lonlat, 17, 0)[0]
    left, _, right, top = Tile(z, x, y).bounds
    unit = (right - left) / 256
    across, down = left + 100 * unit, top - 130 * unit
    degrees = Transformer.from_crs(3857, 4326, always_xy=True)
    random = np.random.default_rng(15)
    classes: dict[tuple[int, int], int] = {}
    while len(classes) < POINTS:
        col, row = int(random.integers(-190, 190)), int(random.integers(-140, 140))
        lon, lat = degrees.transform(across + (col + 0.5) * unit, down - (row + 0.5) * unit)
        point = httpx.get(f"{live}/point/{lon},{lat}?year=2017").json()
        classes[col, row] = int(point["class"]["value"])
    lon, lat = degrees.transform(across, down)
    return lon, lat, classes


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no `chromium` on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a log."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def website(folder: Path) -> Iterator[str]:
    """The address of a server of another origin."""
    site = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=site.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{site.server_address[1]}"
    finally:
        site.shutdown()
        site.server_close()
        thread.join()


def scripts_into(folder: Path, name: str) -> None:
    """Copies the library's files; skips where they are not there."""
    if name == "maplibre":
        spec = find_spec("maplibre")
        assert spec is not None
        assert spec.origin is not None
        files = [Path(spec.origin).parent / "srcjs" / "maplibre-gl.js"]
    else:
        files = [
            SCRIPTS / each for each in (f"{name}.js", *(["leaflet.css"] * (name == "leaflet")))
        ]
    for path in files:
        if not path.exists():
            pytest.skip(f"no {path.name} in {SCRIPTS} (set CLIENT_SCRIPTS)")
        shutil.copy(path, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_another_origin_shows_the_classes_of_point(
    chromium: Any,  # noqa: ANN401
    live: str,
    points: Points,
    tmp_path: Path,
    name: str,
) -> None:
    """At twice the native scale: 150 pixels, at least 148 as `/point` says, no other class."""
    scripts_into(tmp_path, name)
    lon, lat, expected = points
    head, script = MAPS[name]
    tiles = f"{live}/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.png?year=2017"
    filled = script.format(base=live, lon=repr(lon), lat=repr(lat), tiles=tiles)
    (tmp_path / "index.html").write_text(PAGE.format(head=head, script=filled))
    trouble: list[str] = []
    with website(tmp_path) as origin:
        page = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
        page.goto(f"{origin}/index.html")
        page.locator("body[data-state=idle]").wait_for(timeout=60_000)
        shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        page.context.close()
    assert [each for each in trouble if "favicon" not in each and "404" not in each] == []
    known = {rgb: value for value, rgb in LEGEND.colors().items()}
    equal = 0
    for (col, row), value in expected.items():
        red, green, blue = shot[HEIGHT // 2 + 2 * row + 1, WIDTH // 2 + 2 * col + 1].tolist()
        shown = known.get((red, green, blue))
        assert shown in (None, value), (name, col, row)
        equal += shown == value
    assert equal >= LEAST
