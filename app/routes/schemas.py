"""What clients may request, and how each value is checked."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InvalidRequest, UnknownName
from app.grid.tile import TMS_NAMES, Tile
from app.render.images import MEDIA_TYPES
from model.legend import COLORMAPS, Rgb, rgb_of

Query = TypeVar("Query", bound=BaseModel)

_ROW = re.compile(r"(?P<y>-?[0-9]{1,10})(?P<scale>@2x)?(?:\.(?P<suffix>[A-Za-z0-9]{1,5}))?")


MOST_QUERY = 4096
"""Bytes of a query that are parsed."""

_REMEMBERED = 256
"""Bytes of a query whose parsed form is kept: long ones are somebody's own."""


class SelectionQuery(BaseModel):
    """Query parameters that name imagery."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    source: str | None = Field(None, description="id of a source; the first one by default")
    year: str = Field("latest", description="`latest`, or a year of four digits")
    datetime: str = Field(
        "", description="instead of a year: days as OGC writes them, `2018-01-01/2020-12-31`"
    )
    fill: str = Field("", description="`older`: fill gaps of these dates from older images")


class ImageryQuery(SelectionQuery):
    """Query parameters that name the imagery of a tile."""

    tilesize: Literal["256", "512"] = Field("256", description="edge of the image in pixels")


class PictureQuery(ImageryQuery):
    """Query parameters of an imagery tile."""

    style: Literal["rgb", "cir", "ndvi"] = Field(
        "rgb", description="true color, color infrared or vegetation index"
    )


class TileQuery(ImageryQuery):
    """Query parameters of a land cover tile."""

    model: str | None = Field(None, description="name of a model; the only one by default")
    layer: Literal["class", "confidence", "change"] = Field(
        "class", description="what the tile shows"
    )
    before: str | None = Field(
        None, alias="from", description="for `layer=change`: the year before, or `latest`"
    )
    after: str = Field(
        "latest", alias="to", description="for `layer=change`: the year after, or `latest`"
    )
    classes: str | None = Field(None, description="class values to show, such as `1,5`; all")
    colormap_name: str = Field(
        "landcover", description="`landcover`, `vivid`, `colorblind` or `nlcd`"
    )
    colormap: str | None = Field(
        None, description='JSON of class value → color, such as `{"1": "#ff0000"}`'
    )
    min_confidence: int = Field(
        0, ge=0, le=100, description="of classes: pixels below this percentage are left out"
    )
    quality: Literal["auto", "exact", "estimate"] = Field(
        "auto",
        description="below native zoom: `auto` answers at once, with an estimate where many exact "
        "blocks are missing; `exact` answers 503 with Retry-After until they are there; "
        "`estimate` never waits for them",
    )

    @property
    def years(self) -> tuple[str, ...]:
        """Return the years shown: one, or for change the one before and the one after."""
        if self.layer != "change":
            return (self.year,)
        if self.before is None:
            raise InvalidRequest("from", "", "the year before, for layer=change,")
        if self.before == self.after:
            raise InvalidRequest("to", self.after, f"another year than from={self.before}")
        return self.before, self.after

    def shown(self, known: tuple[int, ...]) -> frozenset[int] | None:
        """Return the class values to show; None for all. InvalidRequest when one is not known."""
        if self.classes is None:
            return None
        try:
            values = frozenset(int(part) for part in self.classes.split(",") if part.strip())
        except ValueError as error:
            raise InvalidRequest("classes", self.classes, "class values such as 1,5") from error
        if not values <= set(known):
            raise InvalidRequest("classes", self.classes, f"values of {known}")
        return values

    def colors(self, base: dict[int, Rgb]) -> dict[int, Rgb]:
        """Return `base` with the colors of `colormap` put over it; InvalidRequest otherwise."""
        if self.colormap is None:
            return base
        try:
            colors = {int(k): rgb_of(v) for k, v in json.loads(self.colormap).items()}
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise InvalidRequest("colormap", self.colormap, 'JSON {"1": "#RRGGBB"}') from error
        if not set(colors) <= set(base):
            raise InvalidRequest("colormap", self.colormap, f"class values of {sorted(base)}")
        return base | colors


@dataclass(frozen=True, slots=True)
class TileRequest:
    """A land cover tile as requested, every value checked."""

    tile: Tile
    suffix: str
    query: TileQuery


def parse_tile(tms: str, z: str, x: str, y: str, query: bytes) -> TileRequest:
    """Parse path and query; InvalidRequest or UnknownName names the field, value and limit."""
    if len(query) > _REMEMBERED:
        return _parse_tile.__wrapped__(tms, z, x, y, query)
    return _parse_tile(tms, z, x, y, query)


@lru_cache(maxsize=4096)
def _parse_tile(tms: str, z: str, x: str, y: str, query: bytes) -> TileRequest:
    parsed = query_of(TileQuery, query)
    if parsed.colormap_name not in COLORMAPS:
        raise UnknownName("colormap_name", parsed.colormap_name, COLORMAPS)
    if parsed.min_confidence and parsed.layer != "class":
        raise InvalidRequest("min_confidence", parsed.min_confidence, "0 unless layer=class")
    tile, suffix = tile_and_suffix(tms, z, x, y, tuple(MEDIA_TYPES), int(parsed.tilesize))
    return TileRequest(tile, suffix, parsed)


def tile_and_suffix(
    tms: str, z: str, x: str, y: str, suffixes: tuple[str, ...], size: int = 256
) -> tuple[Tile, str]:
    """Return the tile of a path whose last part is `y`, `y@2x`, `y.png` or `y@2x.png`."""
    if tms not in TMS_NAMES:
        raise UnknownName("tileMatrixSetId", tms, TMS_NAMES)
    match = _ROW.fullmatch(y)
    if match is None:
        raise InvalidRequest("y", y, "a row number, then optionally @2x and a format")
    suffix = match["suffix"] or suffixes[0]
    if suffix not in suffixes:
        raise InvalidRequest("format", suffix, f"one of {', '.join(suffixes)}")
    numbers = []
    for field, text in (("z", z), ("x", x)):
        if not re.fullmatch(r"-?[0-9]{1,10}", text):
            raise InvalidRequest(field, text, "a whole number")
        numbers.append(int(text))
    scale = 2 if match["scale"] else 1
    return Tile(numbers[0], numbers[1], int(match["y"]), size * scale), suffix


def query_of(model: type[Query], query: bytes) -> Query:
    """Parse the query string as `model`; InvalidRequest names the first wrong value."""
    if len(query) > MOST_QUERY:
        shown = query.decode("latin-1")
        raise InvalidRequest("query", shown, f"at most {MOST_QUERY} bytes, not {len(query)},")
    pairs = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    try:
        return model.model_validate(pairs)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "query"
        expected = first.get("ctx", {}).get("expected", first["msg"])
        raise InvalidRequest(field, pairs.get(field, ""), str(expected)) from error


def openapi_parameters(model: type[BaseModel]) -> dict[str, Any]:
    """Return `model`'s fields as OpenAPI query parameters, for routes that parse themselves."""
    schema = model.model_json_schema(by_alias=True)
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": field.pop("description", ""),
                "schema": field,
            }
            for name, field in schema["properties"].items()
        ]
    }


def tile_parameters(model: type[BaseModel], *path: str) -> dict[str, Any]:
    """Return the parts of a tile's path, all of them by default, and `model`'s fields as OpenAPI
    parameters."""
    known: dict[str, dict[str, Any]] = {
        "tileMatrixSetId": {"type": "string", "enum": list(TMS_NAMES)},
        "z": {"type": "integer", "minimum": 0},
        "x": {"type": "integer", "minimum": 0},
        "y": {"type": "string", "pattern": r"^\d{1,10}(@2x)?(\.[a-z]{3,4})?$"},
    }
    parts = [
        {"name": name, "in": "path", "required": True, "schema": known[name]}
        for name in path or known
    ]
    return {"parameters": parts + openapi_parameters(model)["parameters"]}


def degrees(field: str, text: str, limit: float) -> float:
    """Parse a client's number within ±limit; InvalidRequest otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -limit <= value <= limit:
        raise InvalidRequest(field, text, f"degrees within ±{limit:g}")
    return value
