"""Web maps on a page of another origin: the scripts of map libraries, the tiles of our server.

The scripts are those of docs/web.md, word for word but for the server and the place. MapLibre comes
with the package `maplibre`. The others are taken from the folder CLIENT_SCRIPTS: leaflet.js,
leaflet.css, ol.js, ol.css and deck.js (its dist.min.js) of `npm pack leaflet ol deck.gl`.
"""

from __future__ import annotations

import io
import os
import re
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
import numpy.typing as npt
import pytest
from PIL import Image
from pyproj import Transformer

from app.grid.tile import TMS, Tile
from model.legend import LEGEND
from tests.app.conftest import tiles_around
from tests.app.running import server
from tests.snippets import snippet, snippets
from tests.world.world import World

pytestmark = [pytest.mark.browser, pytest.mark.alone, pytest.mark.slow]

SCRIPTS = Path(os.environ.get("CLIENT_SCRIPTS", "client-scripts"))
WIDTH, HEIGHT = 800, 600
POINTS = 150
LEAST = 148
Points = tuple[float, float, dict[tuple[int, int], int]]
PAGE = """<!doctype html><html><head><meta charset="utf-8">{head}
<style>{css} body {{ background: #ff00ff; }}</style></head>
<body><div id="map"></div><script>
{script}
</script></body></html>"""

MAPS = {
    "maplibre": ("new maplibregl.Map({\n", ("maplibre-gl.js", "maplibre-gl.css")),
    "leaflet": ("L.tileLayer(", ("leaflet.js", "leaflet.css")),
    "ol": ("new ol.Map(", ("ol.js", "ol.css")),
    "deck": ("new deck.DeckGL(", ("deck.js",)),
}
"""Of every library a part of its script in docs/web.md, and its files."""

ATTRIBUTED = ("maplibre", "leaflet", "ol")


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
        # Beside the controls and the attribution, which lie at the edges of the map.
        col, row = int(random.integers(-165, 190)), int(random.integers(-110, 130))
        lon, lat = degrees.transform(across + (col + 0.5) * unit, down - (row + 0.5) * unit)
        point = httpx.get(f"{live}/point/{lon},{lat}?year=2017").json()
        classes[col, row] = int(point["class"]["value"])
    lon, lat = degrees.transform(across, down)
    return lon, lat, classes


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


def files_into(folder: Path, names: tuple[str, ...]) -> str:
    """Copies a library's files and returns what names them; skips where they are not there."""
    spec = find_spec("maplibre")
    assert spec is not None
    assert spec.origin is not None
    here = Path(spec.origin).parent / "srcjs"
    for name in names:
        path = (here if name.startswith("maplibre") else SCRIPTS) / name
        if not path.exists():
            pytest.skip(f"no {name} in {SCRIPTS} (set CLIENT_SCRIPTS)")
        shutil.copy(path, folder)
    tags = {"js": '<script src="{}"></script>', "css": '<link rel="stylesheet" href="{}">'}
    return "".join(tags[name.rpartition(".")[2]].format(name) for name in names)


def placed(live: str, lon: float, lat: float, zoom: int) -> str:
    """The documented constants with this server and this place."""
    first = snippet("web.md", "js", "const HOST =")
    text, count = re.subn(
        r"^const HOST = .*$",
        f'const HOST = "{live}", CENTER = [{lon!r}, {lat!r}], ZOOM = {zoom};',
        first,
        count=1,
        flags=re.MULTILINE,
    )
    assert count == 1
    return text


def still(page: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401
    """uint8 (rows, cols, 3): the page as soon as nothing is fetched and nothing moves."""
    page.wait_for_load_state("networkidle")
    before = b""
    for _ in range(60):
        shot = page.screenshot()
        if shot == before:
            return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
        before = shot
        page.wait_for_timeout(400)
    raise AssertionError("the page does not come to rest")


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_the_documented_map_on_another_origin_shows_the_classes_of_point(
    chromium: Any,  # noqa: ANN401
    live: str,
    points: Points,
    tmp_path: Path,
    name: str,
) -> None:
    """At twice the native scale: 150 pixels, at least 148 as `/point` says, no other class."""
    part, files = MAPS[name]
    head = files_into(tmp_path, files)
    lon, lat, expected = points
    script = placed(live, lon, lat, 18) + snippet("web.md", "js", part)
    (css,) = snippets("web.md", "css")
    (tmp_path / "index.html").write_text(PAGE.format(head=head, css=css, script=script))
    trouble: list[str] = []
    with website(tmp_path) as origin:
        page = chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
        page.goto(f"{origin}/index.html")
        shot = still(page)
        text = page.locator("body").inner_text()
        page.context.close()
    assert [each for each in trouble if "favicon" not in each and "404" not in each] == []
    assert name not in ATTRIBUTED or "Imagery: USDA NAIP" in text
    known = {rgb: value for value, rgb in LEGEND.colors().items()}
    equal = 0
    for (col, row), value in expected.items():
        red, green, blue = shot[HEIGHT // 2 + 2 * row + 1, WIDTH // 2 + 2 * col + 1].tolist()
        shown = known.get((red, green, blue))
        assert shown in (None, value), (name, col, row)
        equal += shown == value
    assert equal >= LEAST


def test_a_script_of_another_origin_reads_a_point_and_a_tiles_headers(
    chromium: Any,  # noqa: ANN401
    live: str,
    points: Points,
    tmp_path: Path,
) -> None:
    lon, lat, _ = points
    tile = TMS.tile(lon, lat, 15)
    script = placed(live, lon, lat, 15) + snippet("web.md", "js", "fetch(")
    script, count = re.subn(r"15/\d+/\d+", f"15/{tile.x}/{tile.y}", script)
    assert count == 1
    (tmp_path / "index.html").write_text("<!doctype html><title>a page</title>")
    with website(tmp_path) as origin:
        page = chromium.new_context().new_page()
        page.goto(f"{origin}/index.html")
        title, confidence, quality = page.evaluate(f"async () => {{ {script} }}")
        page.context.close()
    point = httpx.get(f"{live}/point/{lon},{lat}?year=2017").json()
    assert (title, confidence) == (point["class"]["title"], point["confidence"])
    assert quality in ("full", "estimate")
