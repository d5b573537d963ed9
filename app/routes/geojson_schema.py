"""JSON Schemas of the bodies that areas are sent in, for `/api`.

They describe GeoJSON (RFC 7946) as far as polygons need it, so that generated clients have types
and generated tests reach polygons. What a body really has to be is checked by `app.area.geojson`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_POSITION: Schema = {
    "type": "array",
    "description": "longitude, latitude and, dropped, an altitude",
    "items": {"type": "number", "minimum": -180, "maximum": 180},
    "minItems": 2,
    "maxItems": 3,
}
_RING: Schema = {
    "type": "array",
    "description": "a closed ring: the last position is the first one",
    "items": _POSITION,
    "minItems": 4,
}
_RINGS: Schema = {
    "type": "array",
    "description": "the outline, then its holes",
    "items": _RING,
    "minItems": 1,
}


def _geometry(kind: str, coordinates: Schema) -> Schema:
    return {
        "type": "object",
        "title": kind,
        "properties": {"type": {"const": kind}, "coordinates": coordinates},
        "required": ["type", "coordinates"],
    }


_POLYGON = _geometry("Polygon", _RINGS)
_MULTIPOLYGON = _geometry("MultiPolygon", {"type": "array", "items": _RINGS, "minItems": 1})


def _feature(geometry: Schema) -> Schema:
    return {
        "type": "object",
        "title": "Feature",
        "properties": {
            "type": {"const": "Feature"},
            "id": {"type": ["string", "number"]},
            "properties": {"type": ["object", "null"]},
            "geometry": geometry,
        },
        "required": ["type", "properties", "geometry"],
    }


_GEOMETRY: Schema = {"anyOf": [_POLYGON, _MULTIPOLYGON]}
_COLLECTION: Schema = {
    "type": "object",
    "title": "FeatureCollection",
    "description": "a feature whose geometry is null is skipped",
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": _feature({"anyOf": [_POLYGON, _MULTIPOLYGON, {"type": "null"}]}),
            "minItems": 1,
        },
    },
    "required": ["type", "features"],
}

AREA: Schema = {"anyOf": [_POLYGON, _MULTIPOLYGON, _feature(_GEOMETRY), _COLLECTION]}
"""A Polygon, MultiPolygon, Feature or FeatureCollection."""

AREA_EXAMPLE: Schema = {
    "type": "Polygon",
    "coordinates": [[[-86.9, 32.9], [-86.9, 32.901], [-86.901, 32.901], [-86.9, 32.9]]],
}


def execution_body(inputs: Mapping[str, str]) -> Schema:
    """Return what the OpenAPI document says of an execution; `inputs`: name → description."""
    output = {
        "type": "object",
        "properties": {
            "transmissionMode": {"enum": ["value", "reference"]},
            "format": {"type": "object", "properties": {"mediaType": {"type": "string"}}},
        },
    }
    properties: Schema = {
        name: {"type": "string", "description": text} for name, text in inputs.items()
    }
    properties["area"] = AREA
    schema = {
        "type": "object",
        "properties": {
            "inputs": {"type": "object", "properties": properties, "required": ["area"]},
            "outputs": {"type": "object", "additionalProperties": output},
            "response": {"enum": ["raw", "document"], "default": "document"},
        },
        "required": ["inputs"],
    }
    content = {"schema": schema, "example": {"inputs": {"area": AREA_EXAMPLE}}}
    return {
        "requestBody": {
            "required": True,
            "description": "What to execute; `/processes/{processID}` lists the inputs.",
            "content": {"application/json": content},
        }
    }
