"""STAC items of made scenes, as the Planetary Computer's `naip` collection has them."""

from __future__ import annotations

from typing import Any, Literal

import shapely

from tests.world.scenes import MadeScene, lonlat

Projection = Literal["proj:epsg", "proj:code"]

EO_BANDS = [
    {"name": "Red", "common_name": "red"},
    {"name": "Green", "common_name": "green"},
    {"name": "Blue", "common_name": "blue"},
    {"name": "NIR", "common_name": "nir", "description": "near-infrared"},
]


def outline(scene: MadeScene) -> shapely.Polygon:
    """The scene's corners in degrees."""
    left, bottom, right, top = scene.bounds
    corners = ((left, bottom), (right, bottom), (right, top), (left, top))
    return shapely.Polygon([lonlat(scene.epsg, x, y) for x, y in corners])


def item_of(
    scene: MadeScene, href: str, *, projection: Projection = "proj:epsg", bands: int = 4
) -> dict[str, Any]:
    """The item of a scene whose image is at `href`."""
    date = scene.path.stem.rpartition("_")[2]
    left, bottom, right, top = scene.bounds
    footprint = outline(scene)
    size = scene.resolution
    placed: dict[str, Any] = {"proj:epsg": scene.epsg}
    if projection == "proj:code":
        placed = {"proj:code": f"EPSG:{scene.epsg}"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"al_{scene.path.stem}",
        "collection": "naip",
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": {
            "gsd": round(size, 1),
            "datetime": f"{date[:4]}-{date[4:6]}-{date[6:8]}T16:00:00Z",
            "naip:year": date[:4],
            "naip:state": "al",
            **placed,
            "proj:bbox": [left, bottom, right, top],
            "proj:shape": [scene.rows, scene.cols],
            "proj:transform": [size, 0.0, left, 0.0, -size, top],
        },
        "links": [],
        "assets": {
            "image": {
                "href": href,
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "title": "RGBIR COG tile",
                "eo:bands": EO_BANDS[:bands],
            },
            "metadata": {"href": f"{href}.txt", "type": "text/plain", "roles": ["metadata"]},
            "thumbnail": {"href": f"{href}.200.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
            "rendered_preview": {"href": "https://example.org/p.png", "type": "image/png"},
        },
    }
