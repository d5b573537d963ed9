"""A STAC item → a scene, no file opened: what is served of it, or why it is not.

Accepted are items of STAC 1.0 and 1.1 with the projection extension 1 (`proj:epsg`) or 2
(`proj:code`), on the item or on the asset; `eo:bands` or `bands`; `raster:bands`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from affine import Affine
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rasterio.errors import CRSError

from app.imagery.inspection import acquired_of, inspect, scene_of
from app.imagery.scene import ImageHeader, ReadOptions, Scene, UnsupportedImage
from app.imagery.store.object_store import ObjectStore

NIR = frozenset({"nir", "nir08", "near infrared", "near-infrared", "nearinfrared"})
DEFAULT_ASSET = "image"


class Asset(BaseModel):
    """An asset; what the item says of all its assets holds where the asset itself is silent."""

    model_config = ConfigDict(extra="allow", frozen=True)

    href: str
    type: str | None = None
    roles: tuple[str, ...] = ()


class Item(BaseModel):
    """What is used of an item."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=1, max_length=300)
    collection: str | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    assets: dict[str, Asset] = Field(default_factory=dict)


def scene_of_item(
    content: object, reading: ReadOptions, remote: ObjectStore, *, asset: str = "", base: str = ""
) -> Scene:
    """The scene of an item's image; Refused with the reason when it cannot be served.

    `asset`: which asset is the image; empty: `image`, else the one that has a near infrared band
    or is data by its role. `base`: address or path of the item, for relative hrefs. A local file
    is opened, as its header tells more than the item.
    """
    try:
        item = Item.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnsupportedImage(f"is not a STAC item: {where}: {first['msg']}") from error
    chosen = _chosen(item, asset)
    href = _absolute(chosen.href, base)
    if "://" not in href:
        return _of_file(Path(href), item, reading)
    if urlsplit(href).scheme not in ("https", "http", "s3", "gs", "az", "abfs", "abfss"):
        raise UnsupportedImage(f"has its image at {urlsplit(href).scheme}://, which is not read")
    facts = _facts(item, chosen)
    try:
        scene = scene_of(
            facts,
            reading,
            item.id,
            href=href,
            identity=identity_of_item(item, chosen),
            acquired=acquired_in(item),
        )
    except CRSError as error:
        raise UnsupportedImage(f"has a CRS that is not known: {str(facts.crs)[:60]!r}") from error
    return replace(scene, remote=remote)


def acquired_in(item: Item) -> str:
    """Day of acquisition, ISO 8601: `datetime`, else `start_datetime`, else the NAIP name's, else
    the year in `naip:year`, which is a string there and the year of the program."""
    for name in ("datetime", "start_datetime"):
        value = item.properties.get(name)
        if isinstance(value, str) and len(value) >= 10:
            return value[:10]
    if named := acquired_of(item.id):
        return named
    year = str(item.properties.get("naip:year", ""))
    return year if len(year) == 4 and year.isdigit() else ""


def identity_of_item(item: Item, asset: Asset) -> str:
    """What changes when the image does, as far as the item tells: checksum or size, `updated`,
    and all that places the image. A digest, so that no foreign text comes into a key."""
    own = asset.model_extra or {}
    known = {
        "checksum": own.get("file:checksum"),
        "size": own.get("file:size"),
        "updated": own.get("updated", item.properties.get("updated")),
        "placed": [_property(item, asset, name) for name in _PLACING],
    }
    text = json.dumps(known, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


_PLACING = ("proj:code", "proj:epsg", "proj:wkt2", "proj:transform", "proj:shape", "proj:bbox")


def _chosen(item: Item, name: str) -> Asset:
    if name:
        if name not in item.assets:
            raise UnsupportedImage(
                f"has no asset {name!r}; it has {', '.join(item.assets) or 'none'}"
            )
        return item.assets[name]
    if DEFAULT_ASSET in item.assets:
        return item.assets[DEFAULT_ASSET]
    tiffs = [asset for asset in item.assets.values() if _is_tiff(asset)]
    with_nir = [asset for asset in tiffs if _has_nir(_bands(item, asset))]
    data = [asset for asset in tiffs if "data" in asset.roles]
    candidates = with_nir or data
    if len(candidates) != 1:
        raise UnsupportedImage(
            f"has {len(candidates)} assets that may be its image among "
            f"{', '.join(item.assets) or 'none'}: name one as the source's `asset`"
        )
    return candidates[0]


def _is_tiff(asset: Asset) -> bool:
    suffix = urlsplit(asset.href).path.lower().rpartition(".")[2]
    return (asset.type or "").startswith("image/tiff") or suffix in ("tif", "tiff")


def _bands(item: Item, asset: Asset) -> list[dict[str, Any]] | None:
    """`eo:bands` (STAC 1.0) or `bands` (1.1), None when nothing is said of them."""
    for name in ("eo:bands", "bands"):
        value = _property(item, asset, name)
        if isinstance(value, list) and all(isinstance(band, dict) for band in value):
            return value
    return None


def _has_nir(bands: list[dict[str, Any]] | None) -> bool:
    names = {
        str(band.get(key, "")).lower()
        for band in bands or []
        for key in ("common_name", "eo:common_name", "name", "description")
    }
    return bool(names & NIR)


def _facts(item: Item, asset: Asset) -> ImageHeader:
    """Geometry and bands as the item tells them; Refused with what it leaves out."""
    code = _property(item, asset, "proj:code") or _property(item, asset, "proj:wkt2")
    epsg = _property(item, asset, "proj:epsg")
    crs = code or (f"EPSG:{epsg}" if epsg else None)
    if crs is None:
        raise UnsupportedImage("does not say its CRS (proj:code or proj:epsg)")
    shape = _numbers(item, asset, "proj:shape", 2)
    transform = _numbers(item, asset, "proj:transform", 6, 9)
    bounds = _numbers(item, asset, "proj:bbox", 4)
    if shape is None or min(shape) < 1:
        raise UnsupportedImage("does not say how many rows and columns its image has (proj:shape)")
    rows, cols = int(shape[0]), int(shape[1])
    if transform is not None:
        affine = Affine(*transform[:6])
    elif bounds is not None:
        left, bottom, right, top = bounds
        affine = Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)
    else:
        raise UnsupportedImage("does not say where its image lies (proj:transform or proj:bbox)")
    raster = _property(item, asset, "raster:bands")
    stated = _bands(item, asset)
    if stated is None and not isinstance(raster, list):
        raise UnsupportedImage(
            "does not say which bands its image has (eo:bands, bands or raster:bands)"
        )
    each = raster if isinstance(raster, list) else stated or []
    of_band = [band if isinstance(band, dict) else {} for band in each]
    count = max(len(stated or []), len(of_band))
    dtypes = [str(band.get("data_type", "uint8")) for band in of_band]
    nodata = of_band[0].get("nodata") if of_band else None
    return ImageHeader(
        crs=crs,
        transform=affine,
        shape=(rows, cols),
        dtypes=tuple(dtypes + ["uint8"] * (count - len(dtypes))),
        nodata=float(nodata) if isinstance(nodata, int | float) else None,
    )


def _of_file(path: Path, item: Item, reading: ReadOptions) -> Scene:
    scene = inspect(path, reading, item.id)
    return replace(scene, acquired=acquired_in(item) or scene.acquired)


def _property(item: Item, asset: Asset, name: str) -> Any:  # noqa: ANN401 - JSON
    own = asset.model_extra or {}
    return own[name] if own.get(name) is not None else item.properties.get(name)


def _numbers(item: Item, asset: Asset, name: str, *counts: int) -> list[float] | None:
    value = _property(item, asset, name)
    if not isinstance(value, list) or len(value) not in counts:
        return None
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in value):
        return None
    return [float(each) for each in value]


def _absolute(href: str, base: str) -> str:
    """The href seen from the item: a local path, or an address. GDAL's own are refused."""
    if href.startswith("/vsi"):
        raise UnsupportedImage("has its image in a virtual file system of GDAL, which is not read")
    if "://" in base:
        joined = urljoin(base, href)
        if joined.startswith("file:"):
            raise UnsupportedImage("has its image in a local file, and the catalog is on the web")
        return joined
    if href.startswith("file://"):
        return urlsplit(href).path
    if "://" in href or href.startswith("/"):
        return href
    return str((Path(base).parent / href).resolve())
