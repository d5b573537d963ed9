"""What the inputs are thrown at. A target returns how the input was answered; anything undeclared
(status 500, an exception that is not the room's own) is raised as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import morecantile
from starlette.testclient import TestClient

from app.errors import ConfigurationError, LandcoverError
from app.imagery import config
from app.imagery.catalog.files import in_mosaic
from app.imagery.catalog.stac_items import scenes_in
from app.imagery.scene import ReadOptions, Scene
from model.card import ModelCard
from model.errors import CardError
from tests.world import graphs
from tests.world.stac import item_of
from tests.world.world import World

TMS = morecantile.tms.get("WebMercatorQuad")
AREA_PATHS = ("/statistics", "/estimate", "/feature.tif", "/feature.geojson", "/change?from=2017")
OTHER_PATHS = (
    "/", "/sources", "/legend", "/legend.png", "/model", "/processes", "/jobs", "/tiles",
    "/collections", "/conformance", "/style.json", "/gdal_wms.xml", "/qgis/layers.qlr",
    "/legend.qml", "/tileMatrixSets", "/WMTSCapabilities.xml", "/WebMercatorQuad/tilejson.json",
    "/wmts",
)  # fmt: skip
FAILED = (500, 501)

MOSAIC: dict[str, Any] = {
    "mosaicjson": "0.0.3", "version": "1.0.0", "minzoom": 12, "maxzoom": 17, "quadkey_zoom": 12,
    "asset_prefix": "", "bounds": [-87.0, 32.9, -86.9, 33.0], "center": [-86.95, 32.95, 12],
    "tiles": {"032010110132": ["a.tif", "sub/b.tif"], "032010110133": ["https://a.org/c.tif"]},
}  # fmt: skip
SOURCES: dict[str, Any] = {
    "source": [
        {"id": "a", "type": "directory", "path": "naip", "bands": [1, 2, 3, 4], "nodata": 0},
        {"id": "b", "type": "cogs", "urls": ["https://a.org/a.tif"], "list": "l.txt", "retries": 2},
        {"id": "c", "type": "mosaicjson", "url": "https://a.org/m.json", "read_s": 5.5},
        {"id": "d", "type": "stac", "url": "catalog.json", "asset": "image", "expires_s": 60},
        {
            "id": "e", "type": "stac-api", "preset": "planetary-computer", "signing": "auto",
            "token_hosts": [".a.net"], "filters": {"naip:state": {"eq": "ga"}},
            "bounds": [-87.0, 32.0, -86.0, 33.0],
        },
    ]
}  # fmt: skip


class Answered(Exception):
    """An answer that no client may get."""


def middle_of(world: World) -> Callable[[int], tuple[int, int]]:
    """Return z → (x, y) of the tile in the middle of the first scene."""

    def middle(z: int) -> tuple[int, int]:
        tile = TMS.tile(*world.scenes[0].lonlat, z)
        return tile.x, tile.y

    return middle


def get(client: TestClient, path: str) -> str:
    """GET a path."""
    return _evaluated(client.get(path), path)


def post(client: TestClient, path: str, body: str) -> str:
    """POST a body."""
    headers = {"content-type": "application/json"}
    return _evaluated(client.post(path, content=body.encode(), headers=headers), f"{path} {body}")


def _evaluated(answer: Any, what: str) -> str:  # noqa: ANN401 - an answer of the client's
    status = int(answer.status_code)
    if status in FAILED:
        raise Answered(f"{status} for {what[:2000]}: {answer.text[:500]}")
    if status >= 400 and not answer.headers.get("content-type", "").startswith(
        ("application/problem+json", "application/xml", "text/xml")
    ):
        raise Answered(f"{status} without a reason for {what[:2000]}")
    return str(status)


def sources_file(folder: Path, document: Any) -> str:  # noqa: ANN401 - any TOML
    """Load a sources.toml; only ConfigurationError is declared."""
    path = folder / "sources.toml"
    try:
        text = to_toml(document)
    except RecursionError:
        text = f"source = {'[' * 5000}"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        config.load(path)
    except ConfigurationError as error:
        _check_text(error)
        return "refused"
    return "accepted"


def to_toml(document: Any) -> str:  # noqa: ANN401 - any TOML
    """Return a document as TOML as far as TOML has words for it, else as text that is none."""
    if isinstance(document, dict):
        lines = [
            f"{json.dumps(str(key))} = {_toml_value(value)}" for key, value in document.items()
        ]
        return "\n".join(lines) + "\n"
    return repr(document)


def _toml_value(value: Any) -> str:  # noqa: ANN401 - any TOML
    if isinstance(value, dict):
        inner = (f"{json.dumps(str(k))} = {_toml_value(v)}" for k, v in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def mosaic_file(folder: Path, content: bytes) -> str:
    """List the assets of a local MosaicJSON; only ConfigurationError is declared."""
    path = folder / "mosaic.json"
    path.write_bytes(content)

    def fetch(address: str, name: str) -> NoReturn:
        raise Answered(f"{address} of {name} was requested")

    try:
        in_mosaic(str(path), "fuzz", fetch)
    except LandcoverError as error:
        _check_text(error)
        return "refused"
    return "accepted"


def card(text: str) -> str:
    """Parse a model card; only CardError is declared."""
    try:
        ModelCard.parse(text, "fuzz")
    except CardError:
        return "refused"
    return "accepted"


def good_card() -> dict[str, Any]:
    """Return a card to start from."""
    document: dict[str, Any] = json.loads(graphs.card_of().model_dump_json())
    return document


def good_item(world: World, href: str = "https://imagery.example.org/a.tif") -> dict[str, Any]:
    """Return a STAC item to start from."""
    return item_of(world.scenes[0], href)


def stac_items(world: World, items: list[Any]) -> Mapping[str, int]:
    """Read a page of items; the good one at its end has to come through, and no name of a skipped
    one may spoil a line of a log."""
    reading = ReadOptions(1.0)
    named = [("https://stac.example.org/", item) for item in [*items, good_item(world)]]
    found = list(scenes_in(named, reading, "fuzz", "", lambda _: None))
    if len(found) != len(named) or not isinstance(found[-1], Scene):
        raise Answered(f"an item takes another one with it: {items}")
    accepted = sum(isinstance(each, Scene) for each in found[:-1])
    return {"accepted": accepted, "refused": len(items) - accepted}


def _check_text(error: Exception) -> None:
    """A message that cannot be written to a log is as bad as none."""
    str(error).encode("utf-8", "surrogatepass")
