"""Catalogs from elsewhere, mutated: what is odd is skipped by name or an error of its source, and
never more. `python -m tests.app.test_mutated SEED COUNT` tries as many more."""

from __future__ import annotations

import copy
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigurationError, SourceUnavailable, TooLarge
from app.grid.pixel_grid import Bounds
from app.imagery import gdal
from app.imagery.catalog import Catalog
from app.imagery.catalog.footprints import cover_by_year, outline_of
from app.imagery.catalog.stac_api import StacApiCatalog
from app.imagery.catalog.stac_items import Query, StacApi
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.catalog.temporal import LATEST
from app.imagery.scene import ReadOptions
from app.imagery.store.reach import Reach
from tests.world.stac import COLLECTION, item_of
from tests.world.world import World, two_quads

AZURE = "https://naipeuwest.blob.core.windows.net/naip/"
NEXT = {"rel": "next", "href": "/search", "method": "POST", "body": {"token": "x"}, "merge": True}


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**400, 1e308, -1e308, 1e-320, float("nan"), float("inf"),
    "", "abcd", "\ud800", "\x00", "a" * 5000, "1e999", "٣", "😀", "..",
    "2017-13-45T99:99:99Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    [], {}, [[]], [None], [1, 2], [1, 2, 3, 4], [1] * 6, [1e308] * 6, [0] * 6, [1e-300] * 6,
    [180, 90, -180, -90], ["\ud800"], {"a": 1}, nested(500), nested(3000),
    "http://[::1", "http://a:99999/x.tif", "s3://", "s3://x", "az://c", "abfss://", "//x",
    "file:///etc/passwd", "/vsicurl/http://a", "http://\x00", f"http://x/{'a' * 70_000}",
    "EPSG:999999", "EPSG:4326", "EPSG:0", "EPSG:32616",
)  # fmt: skip
Place = tuple[Any, ...]


def places(value: object, at: Place = ()) -> Iterator[Place]:
    """Every place in a document, as keys and indices from its root."""
    yield at
    pairs: Any = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else pairs:
        yield from places(inner, (*at, key))


def changed(document: Any, at: Place, draw: random.Random) -> Any:  # noqa: ANN401 - JSON
    """A document with something odd, or nothing, at a place."""
    if not at:
        return draw.choice(ODD)
    document = copy.copy(document)
    if len(at) == 1 and draw.random() < 0.15:
        del document[at[0]]
    else:
        document[at[0]] = changed(document[at[0]], at[1:], draw)
    return document


def mutated(document: Any, at: Sequence[Place], draw: random.Random) -> Any:  # noqa: ANN401
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        try:
            document = changed(document, draw.choice(at), draw)
        except (LookupError, TypeError):
            continue  # the place is gone
    return document


class Service:
    """A STAC service of one page and one collection."""

    def __init__(self, page: Any, collection: Any) -> None:  # noqa: ANN401
        self.page, self.collection = page, collection
        self.content: Any = page
        self.refusal = Reach(["https://a.org"], ["*", "s3://x"]).refusal

    @property
    def brief(self) -> Service:
        return self

    def get(self, url: str, headers: object = None) -> Service:
        answer = copy.copy(self)
        answer.content = self.collection if "/collections" in url else self.page
        return answer

    def post(self, url: str, body: object, headers: object = None) -> Service:
        return self.get(url)


def used(catalog: Catalog, ground: Bounds) -> set[str]:
    """Use a catalog as the server does; the ids of its scenes."""
    catalog.load(ground, LATEST)
    for grid in catalog.grids():
        catalog.search(grid.crs, (490_000, 3_600_000, 520_000, 3_700_000), LATEST)
    scenes = list(catalog.scenes)
    shown = [catalog.years, catalog.lonlat_bounds, [[s.path, s.reason] for s in catalog.skipped]]
    shown += [[scene.feature(), scene.key, scene.id, scene.year] for scene in scenes]
    json.dumps(shown, allow_nan=False, ensure_ascii=False).encode()
    cover_by_year(catalog.within(ground, LATEST), ground)
    outline_of(scenes)
    return {scene.id for scene in scenes}


def text_of(document: object) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 100_000


class Trial:
    """Two good scenes, of which one is mutated, in every kind of catalog."""

    def __init__(self, world: World, folder: Path) -> None:
        first, second = world.scenes
        self.item, self.good = item_of(first, f"{AZURE}a.tif"), item_of(second, f"{AZURE}b.tif")
        lon, lat = first.lonlat
        self.ground = lon - 0.001, lat - 0.001, lon + 0.001, lat + 0.001
        self.folder = folder

    def api(self, page: object, collection: object = COLLECTION) -> StacApiCatalog:
        api = StacApi("https://a.org", Service(page, collection), Query("naip"))
        return StacApiCatalog("a", api, ReadOptions())

    def of_item(self, draw: random.Random) -> None:
        item = mutated(self.item, list(places(self.item)), draw)
        ids = used(self.api({"features": [item, self.good]}), self.ground)
        assert self.good["id"] in ids

    def of_page(self, draw: random.Random) -> None:
        page = {"features": [self.item, self.good], "links": [NEXT]}
        at = [each for each in places(page) if each and (each[0] == "links" or len(each) < 3)]
        try:
            used(self.api(mutated(page, at, draw)), self.ground)
        except SourceUnavailable:
            return

    def of_collection(self, draw: random.Random) -> None:
        collection = mutated(COLLECTION, list(places(COLLECTION))[1:], draw)
        catalog = self.api({"features": [self.item, self.good]}, collection)
        try:
            used(catalog, self.ground)
            catalog.refresh()
            catalog.probe()
        except (SourceUnavailable, TooLarge):
            return

    def of_documents(self, draw: random.Random) -> None:
        links = [{"rel": "child", "href": "gone.json"}, {"rel": "item", "href": "item.json"}]
        root = {"type": "Catalog", "links": links, "features": [self.good]}
        at = [each for each in places(root) if each[:1] == ("links",) or len(each) < 3]
        text = text_of(mutated(root, at, draw))
        cut = text if draw.random() < 0.8 else text[: draw.randrange(200)]
        path = self.folder / "root.json"
        path.write_bytes(cut if draw.random() < 0.9 else cut + b"\xff")
        item = mutated(self.item, list(places(self.item)), draw)
        (self.folder / "item.json").write_bytes(text_of(item))
        try:
            catalog = StaticStacCatalog("a", str(path), ReadOptions(), Service({}, {}))
            used(catalog, self.ground)
            catalog.refresh()
        except (ConfigurationError, SourceUnavailable):
            return


KINDS = ("of_item", "of_page", "of_collection", "of_documents")


@pytest.fixture
def trial(two_quads: World, tmp_path: Path) -> Trial:
    gdal.configure()
    return Trial(two_quads, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_catalog_holds_its_source_answers(trial: Trial, kind: str) -> None:
    draw = random.Random(14)
    for _ in range(40):
        getattr(trial, kind)(draw)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_catalog_holds_its_source_answers_a_thousand_times(
    trial: Trial, kind: str
) -> None:
    draw = random.Random(15)
    for _ in range(1000):
        getattr(trial, kind)(draw)


def main() -> None:
    """Print the unhandled exceptions of as many inputs as the command line says."""
    draw, failures = random.Random(int(sys.argv[1])), Counter[str]()
    gdal.configure()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(two_quads(Path(folder) / "naip"), Path(folder))
        for _ in range(int(sys.argv[2])):
            kind = draw.choice(KINDS)
            try:
                getattr(trial, kind)(draw)
            except Exception as error:
                failures[f"{kind}: {type(error).__name__}: {str(error)[:100]}"] += 1
    print(f"{sys.argv[2]} inputs, {failures.total()} unhandled")
    for text, count in failures.most_common():
        print(count, text)


if __name__ == "__main__":
    main()
