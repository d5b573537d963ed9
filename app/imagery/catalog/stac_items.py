"""STAC items: searched for in an API page by page, and each one as a scene, no file opened.

pystac reads an item (STAC 1.0 and 1.1, projection extension 1 and 2, on the item or the asset);
bands come from `eo:bands`, `bands` or `raster:bands`. Whatever is wrong with an item, it alone is
skipped, by name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

import pystac
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import ProjError
from pystac.extensions.projection import ProjectionExtension
from rasterio.errors import CRSError

from app.errors import without_query
from app.grid.pixel_grid import Bounds
from app.imagery.catalog.index import SkippedFile
from app.imagery.scene import (
    REMOTE_SCHEMES,
    Bands,
    ImageHeader,
    ReadOptions,
    Scene,
    UnsupportedImage,
    acquired_of,
    inspect,
    local_path,
    scene_of,
)
from app.resilience import ServiceError

PAGE = 250
MOST_PAGES = 200
DEFAULT_ASSET = "image"
NIR = frozenset({"nir", "nir08", "near infrared", "near-infrared", "nearinfrared"})
NAMES = (frozenset({"red"}), frozenset({"green"}), frozenset({"blue"}), NIR)

_PLACE = (
    "proj:code", "proj:epsg", "proj:wkt2", "proj:projjson", "proj:transform", "proj:shape",
    "proj:bbox",
)  # fmt: skip


class JsonAnswer(Protocol):
    """An answer of a JSON service."""

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object."""
        ...


class JsonClient(Protocol):
    """A client of JSON services, as catalogs need it; every call may raise ServiceError."""

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> JsonAnswer:
        """Return the answer to GET."""
        ...

    def post(
        self, url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> JsonAnswer:
        """Return the answer to POST of a JSON body."""
        ...

    def refusal(self, url: str) -> str | None:
        """Return why an address may not be requested and what allows it, None when it may."""
        ...

    @property
    def brief(self) -> JsonClient:
        """A client that asks once and does not wait long: for probes."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """What every search of a source requests, apart from the area. `datetime`: an interval of
    RFC 3339; `filters`: the API's `query` extension, {"naip:state": {"eq": "ga"}}."""

    collection: str = ""
    datetime: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)

    def body(self, bounds: Bounds) -> dict[str, Any]:
        """Return the JSON of a POST."""
        body: dict[str, Any] = {"bbox": list(bounds), "limit": PAGE}
        if self.collection:
            body["collections"] = [self.collection]
        if self.datetime:
            body["datetime"] = self.datetime
        if self.filters:
            body["query"] = dict(self.filters)
        return body

    def address(self, url: str, bounds: Bounds) -> str:
        """Return the address of a GET."""
        fields = {"bbox": ",".join(f"{value:.7f}" for value in bounds), "limit": str(PAGE)}
        if self.collection:
            fields["collections"] = self.collection
        if self.datetime:
            fields["datetime"] = self.datetime
        return f"{url}?{urlencode(fields)}"


class StacApi:
    """One STAC API. Searched with POST where its landing page offers it, else with GET; `next`
    links are followed as given: GET addresses, POST bodies, and bodies to be merged into the one
    before. `refusal`: why an address may not be requested."""

    def __init__(self, url: str, api: JsonClient, query: Query) -> None:
        self.url = url.rstrip("/")
        self.query = query
        self.refusal = api.refusal
        self._api = api
        self._posts: bool | None = None

    @property
    def brief(self) -> StacApi:
        """Return the same API, asked once and not waited for long."""
        brief = StacApi(self.url, self._api.brief, self.query)
        brief._posts = self._posts
        return brief

    def collection(self) -> dict[str, Any]:
        """Return the collection's document, without one the landing page; ServiceError."""
        path = f"/collections/{self.query.collection}" if self.query.collection else "/"
        return self._api.get(f"{self.url}{path}").content

    def items(self, bounds: Bounds) -> Iterator[Any]:
        """Yield every item whose footprint meets `bounds` (west, south, east, north).

        ServiceError when a page does not come: a part of an answer is no answer.
        """
        method, url = ("POST" if self._by_post() else "GET"), f"{self.url}/search"
        body: dict[str, Any] | None = self.query.body(bounds) if method == "POST" else None
        headers: dict[str, str] = {}
        if method == "GET":
            url = self.query.address(url, bounds)
        requested: set[str] = set()
        for _ in range(MOST_PAGES):
            requested.add(f"{method} {url} {body}")
            if method == "POST":
                page = self._api.post(url, body or {}, headers).content
            else:
                page = self._api.get(url, headers).content
            features = page.get("features")
            if not isinstance(features, list):
                raise _error(url, "answered a search without `features`")
            yield from features
            links = objects_in(page, "links")
            link = next((each for each in links if each.get("rel") == "next"), {})
            if not link.get("href"):
                return
            method = str(link.get("method", "GET")).upper()
            url = self._next(url, str(link["href"]))
            given = link.get("body")
            given = given if isinstance(given, dict) else {}
            body = ({**(body or {}), **given} if link.get("merge") else given) or body
            more = link.get("headers")
            headers = {str(k): str(v) for k, v in more.items()} if isinstance(more, dict) else {}
            if f"{method} {url} {body}" in requested:
                raise _error(url, "names a page it has already given as the next")
        raise _error(url, f"has more than {MOST_PAGES} pages for one area")

    def _by_post(self) -> bool:
        """Return whether the landing page offers POST; True when it does not say how to search."""
        if self._posts is None:
            links = objects_in(self._api.get(f"{self.url}/").content, "links")
            searches = [link for link in links if link.get("rel") == "search"]
            methods = {str(link.get("method", "GET")).upper() for link in searches}
            self._posts = "POST" in methods or not methods
        return self._posts or bool(self.query.filters)

    def _next(self, base: str, href: str) -> str:
        """Return the address of a next page; ServiceError when the source may not request it."""
        try:
            url = urljoin(base, href)
            if urlsplit(url).netloc == urlsplit(self.url).netloc:
                return url
            refusal = self.refusal(url)
        except ValueError:
            url, refusal = href, "its address is not valid"
        if refusal is None:
            return url
        own = without_query(self.url)
        raise _error(url, f"is named as the next page by {own}: another server; {refusal}")


def objects_in(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of a list in a document; none when it is no list."""
    listed = document.get(name)
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _error(url: str, reason: str) -> ServiceError:
    return ServiceError(f"{without_query(url)} {reason}", status=200)


Refusal = Callable[[str], str | None]
"""Why an address may not be requested and what allows it, None when it may."""


def scenes_in(
    items: Iterable[tuple[str, object]],
    reading: ReadOptions,
    store: str,
    asset: str,
    refusal: Refusal,
) -> Iterator[Scene | SkippedFile]:
    """Yield the scene of each (base, item), or why it is skipped; see `scene_of_item`."""
    for base, item in items:
        try:
            yield scene_of_item(item, reading, store, asset=asset, base=base, refusal=refusal)
        except UnsupportedImage as reason:
            name = item.get("id") if isinstance(item, dict) else None
            name = name[:100] if isinstance(name, str) and name else f"an item of {base}"
            yield SkippedFile(_printable(name), _printable(str(reason)))


def scene_of_item(
    content: object,
    reading: ReadOptions,
    store: str = "",
    *,
    asset: str = "",
    base: str = "",
    refusal: Refusal,
) -> Scene:
    """Return the scene of an item's image; UnsupportedImage with the reason when it cannot be
    served, whatever the item holds.

    `asset`: which asset is the image; empty: `image`, else the one that has a near infrared band
    or is data by its role. `base`: address or path of the item, for relative hrefs. `store`: the
    source that reads remote images, if `refusal` says nothing against their addresses. A local file
    is opened, as its header tells more than the item.
    """
    try:
        scene = _scene_of_item(content, reading, store, asset, base)
        if not all(map(math.isfinite, (*scene.bounds, *scene.footprint().bounds))):
            raise UnsupportedImage("has its image at no place on Earth")  # noqa: TRY301
        is_remote = urlsplit(scene.href).scheme in REMOTE_SCHEMES
        reason = refusal(scene.href) if is_remote else None
    except UnsupportedImage:
        raise
    except Exception as error:
        # Foreign text all the way: no list of what it may do to a parser is complete.
        reason = f"cannot be understood: {type(error).__name__}: {error}"
        raise UnsupportedImage(reason[:300]) from error
    if reason is not None:
        raise UnsupportedImage(f"has its image where this source may not read: {reason}")
    return scene


def _scene_of_item(
    content: object, reading: ReadOptions, store: str, name: str, base: str
) -> Scene:
    item = _parsed(content, base)
    asset = _image(item, name)
    if asset.href.startswith("/vsi"):
        raise UnsupportedImage("has its image in a virtual file system of GDAL, which is not read")
    href = asset.get_absolute_href() or asset.href
    if not href.isprintable() or urlsplit(href).port == 0:
        raise UnsupportedImage(f"has its image at an address that is none: {href[:200]!r}")
    scheme = urlsplit(href).scheme if "://" in href else "file"
    if scheme == "file":
        if "://" in base and not base.startswith("file:"):
            raise UnsupportedImage("has its image in a local file, and the catalog is on the web")
        scene = inspect(
            local_path(href),
            replace(reading, bands=reading.bands or _order(asset, reading.count)),
            item.id,
        )
        return replace(scene, acquired=_acquired(item) or scene.acquired)
    if scheme not in REMOTE_SCHEMES:
        raise UnsupportedImage(f"has its image at {scheme}://, which is not read")
    header = _header(asset)
    try:
        scene = scene_of(
            header,
            replace(reading, bands=reading.bands or _order(asset, reading.count)),
            item.id,
            href=href,
            identity=_identity(asset),
            acquired=_acquired(item),
        )
    except CRSError as error:
        raise UnsupportedImage(f"has a CRS that is not known: {str(header.crs)[:60]!r}") from error
    return replace(scene, store=store)


def _parsed(content: object, base: str) -> pystac.Item:
    """Return the item without what is not used of it, which may be wrong; no schema is fetched."""
    name = content.get("id") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(name, str):
        raise UnsupportedImage("is not a STAC item: id: a text is needed")
    if not 0 < len(name) <= 300 or not name.isprintable():
        raise UnsupportedImage(f"is not a STAC item: id: {name[:100]!r}")
    try:
        used = {
            "type": content.get("type", "Feature"),
            "stac_version": "1.1.0",
            "id": name,
            # Items of NAIP may have a year only; STAC wants these two of those without a date.
            "properties": {
                "start_datetime": None,
                "end_datetime": None,
                **(content.get("properties") or {}),
            },
            "assets": content.get("assets") or {},
        }
        return pystac.Item.from_dict(used, base or None, migrate=False, preserve_dict=False)
    except Exception as error:
        raise UnsupportedImage(f"is not a STAC item: {error}"[:300]) from error


def _acquired(item: pystac.Item) -> str:
    """Return the day of acquisition, ISO 8601: `datetime`, else `start_datetime`, else the NAIP
    name's, else the year in `naip:year`, which is a string there and the year of the program."""
    stamp = item.datetime or item.common_metadata.start_datetime
    if stamp is not None:
        return str(stamp.date().isoformat())
    if named := acquired_of(item.id):
        return named
    year = str(item.properties.get("naip:year", ""))
    return year if len(year) == 4 and year.isdigit() else ""


def _identity(asset: pystac.Asset) -> str:
    """Return what changes when the image does, as far as the item tells: checksum or size,
    `updated`, and all that places the image. A digest: no foreign text comes into a key."""
    known = {
        "checksum": asset.extra_fields.get("file:checksum"),
        "size": asset.extra_fields.get("file:size"),
        "updated": _property(asset, "updated"),
        "placed": [_property(asset, name) for name in _PLACE],
    }
    text = json.dumps(known, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _image(item: pystac.Item, name: str) -> pystac.Asset:
    listed = ", ".join(item.assets) or "none"
    if name:
        if name not in item.assets:
            raise UnsupportedImage(f"has no asset {name!r}; it has {listed}")
        return item.assets[name]
    if DEFAULT_ASSET in item.assets:
        return item.assets[DEFAULT_ASSET]
    tiffs = [asset for asset in item.assets.values() if _is_tiff(asset)]
    with_nir = [asset for asset in tiffs if any(_names(band) & NIR for band in _bands(asset) or ())]
    candidates = with_nir or [asset for asset in tiffs if asset.has_role("data")]
    if len(candidates) != 1:
        raise UnsupportedImage(
            f"has {len(candidates)} assets that may be its image among {listed}: "
            "name one as the source's `asset`"
        )
    return candidates[0]


def _is_tiff(asset: pystac.Asset) -> bool:
    suffix = urlsplit(asset.href).path.lower().rpartition(".")[2]
    return (asset.media_type or "").startswith("image/tiff") or suffix in ("tif", "tiff")


def _bands(asset: pystac.Asset) -> list[dict[str, Any]] | None:
    """Return `eo:bands` (STAC 1.0) or `bands` (1.1), None when nothing is said of them."""
    for name in ("eo:bands", "bands"):
        value = _property(asset, name)
        if isinstance(value, list) and all(isinstance(band, dict) for band in value):
            return value
    return None


def _names(band: dict[str, Any]) -> set[str]:
    keys = ("common_name", "eo:common_name", "name", "description")
    return {str(band.get(key, "")).lower() for key in keys}


def _order(asset: pystac.Asset, count: int) -> Bands | None:
    """Return which bands, from 1, are the first `count` of red, green, blue and near infrared by
    their names; None when the item does not name each of them once, or a model reads more."""
    if count > len(NAMES):
        return None
    named = [_names(band) for band in _bands(asset) or ()]
    places = [[n for n, each in enumerate(named, 1) if each & wanted] for wanted in NAMES[:count]]
    if any(len(place) != 1 for place in places):
        return None
    return tuple(place[0] for place in places)


def _header(asset: pystac.Asset) -> ImageHeader:
    """Return geometry and bands as the item tells them; UnsupportedImage with what it leaves
    out."""
    projection = ProjectionExtension.ext(asset, add_if_missing=True)
    crs = projection.crs_string
    if crs is None:
        raise UnsupportedImage("does not say its CRS (proj:code, proj:wkt2 or proj:projjson)")
    if crs.startswith("{"):
        crs = _from_projjson(crs)
    shape = _numbers(projection.shape, 2)
    if shape is None or min(shape) < 1:
        raise UnsupportedImage("does not say how many rows and columns its image has (proj:shape)")
    rows, cols = int(shape[0]), int(shape[1])
    transform, bounds = _numbers(projection.transform, 6, 9), _numbers(projection.bbox, 4)
    if transform is not None:
        affine = Affine(*transform[:6])
    elif bounds is not None:
        left, bottom, right, top = bounds
        affine = Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)
    else:
        raise UnsupportedImage("does not say where its image lies (proj:transform or proj:bbox)")
    raster, stated = _property(asset, "raster:bands"), _bands(asset)
    if stated is None and not isinstance(raster, list):
        raise UnsupportedImage(
            "does not say which bands its image has (eo:bands, bands or raster:bands)"
        )
    each = raster if isinstance(raster, list) else stated or []
    described = [band if isinstance(band, dict) else {} for band in each]
    dtypes = [str(band.get("data_type", "uint8")) for band in described]
    dtypes += ["uint8"] * (len(stated or []) - len(dtypes))
    nodata = described[0].get("nodata") if described else None
    return ImageHeader(
        crs=crs,
        transform=affine,
        shape=(rows, cols),
        dtypes=tuple(dtypes),
        nodata=nodata if type(nodata) in (int, float) else None,
    )


def _from_projjson(text: str) -> str:
    try:
        return str(CRS.from_json(text).to_wkt())
    except ProjError as error:
        raise UnsupportedImage("has a proj:projjson that is no CRS") from error


def _property(asset: pystac.Asset, name: str) -> Any:  # noqa: ANN401 - JSON
    """Return what the asset says, else what the item says of all its assets."""
    value = asset.extra_fields.get(name)
    return asset.owner.properties.get(name) if value is None and asset.owner else value


def _numbers(value: object, *counts: int) -> list[float] | None:
    """Return a list of as many finite numbers, None for anything else."""
    if not isinstance(value, list) or len(value) not in counts:
        return None
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
        return None
    try:
        numbers = [float(each) for each in value]
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _printable(text: str) -> str:
    """Return the text with what UTF-8 cannot hold spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
