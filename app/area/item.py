"""A result as a STAC item (1.0.0) with the classification and projection extensions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rasterio
from shapely.geometry import mapping

from app import __version__
from app.area.polygon import AreaOfInterest
from app.grid.classified import SceneRef
from app.render.attribute_table import Table, stac_of
from app.render.geotiff import MEDIA_TYPE
from model.card import ModelCard

EXTENSIONS = [
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
]


def stac_item(
    area: AreaOfInterest,
    raster: Path,
    table: Table,
    card: ModelCard,
    scenes: Mapping[SceneRef, None],
    name: str,
    attribution: str,
) -> dict[str, Any]:
    """Return the item of a class GeoTIFF beside it; `name`: its id and the stem of the file."""
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    with rasterio.open(raster, driver="GTiff") as dataset:
        epsg = dataset.crs.to_epsg()
        projection = {
            "proj:code": f"EPSG:{epsg}" if epsg else None,
            "proj:shape": list(dataset.shape),
            "proj:transform": list(dataset.transform)[:6],
            "proj:bbox": list(dataset.bounds),
        }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": EXTENSIONS,
        "id": name,
        "geometry": mapping(area.geometry),
        "bbox": _bbox(area),
        "properties": {
            **_time(scenes, created),
            "created": created,
            "license": "other",
            "attribution": "; ".join(filter(None, (attribution, card.attribution))),
            "landcover:model": f"{card.name} {card.version}",
            "landcover:model_sha256": card.sha256,
            "landcover:scenes": sorted(scene.id for scene in scenes),
            "landcover:software": f"landcover {__version__}",
            **projection,
        },
        "links": [],
        "assets": {
            "classes": {
                "href": f"./{raster.name}",
                "type": MEDIA_TYPE,
                "roles": ["data"],
                "classification:classes": stac_of(table),
            }
        },
    }


def _bbox(area: AreaOfInterest) -> list[float]:
    """Return the box of an area; west > east where it is split at 180° (RFC 7946 5.2)."""
    first, last = area.boxes[-1], area.boxes[0]
    south = min(box[1] for box in area.boxes)
    return [first[0], south, last[2], max(box[3] for box in area.boxes)]


def _time(scenes: Mapping[SceneRef, None], created: str) -> dict[str, str | None]:
    """Return `datetime`, or null with the range of the scenes' dates; the time of creation where no
    date is known, as STAC requires one."""
    dates = sorted({scene.date for scene in scenes if scene.date})
    if not dates:
        return {"datetime": created}
    first, last = dates[0], dates[-1]
    if first == last and len(first) == 10:
        return {"datetime": f"{first}T00:00:00Z"}
    start = first if len(first) == 10 else f"{first}-01-01"
    end = last if len(last) == 10 else f"{last}-12-31"
    return {
        "datetime": None,
        "start_datetime": f"{start}T00:00:00Z",
        "end_datetime": f"{end}T23:59:59Z",
    }
