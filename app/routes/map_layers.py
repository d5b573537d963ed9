"""What map clients can add: a layer of classes, of confidence and of imagery for every source.

WMTS, OGC API Tiles and the files for QGIS and GDAL are all written from these layers, whose tiles
are the addresses of app.routes.tiles and app.routes.imagery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from app.errors import UnknownName
from app.grid.pixel_grid import Bounds
from app.grid.tile import TMS, TMS_NAMES
from app.landcover.source import Source
from app.services import Services
from model.legend import COLORMAPS

Kind = Literal["class", "confidence", "imagery"]

PNG, JPEG = "image/png", "image/jpeg"
LATEST = "latest"

_TITLES: dict[Kind, str] = {
    "class": "land cover",
    "confidence": "confidence of the land cover",
    "imagery": "imagery",
}
_STYLES: dict[Kind, dict[str, str]] = {
    "class": {name: f"Colormap {name}" for name in COLORMAPS},
    "confidence": {"confidence": "0 to 100 percent, violet to yellow"},
    "imagery": {"rgb": "True color", "cir": "Color infrared", "ndvi": "Vegetation index (NDVI)"},
}
_FORMATS: dict[Kind, dict[str, str]] = {
    "class": {PNG: "png"},
    "confidence": {PNG: "png"},
    "imagery": {PNG: "png", JPEG: "jpg"},
}
_STYLE_PARAMETER: dict[Kind, str] = {"class": "&colormap_name=", "imagery": "&style="}


@dataclass(frozen=True, slots=True)
class MatrixLimits:
    """The tiles of one zoom that share ground with a source, first and last included."""

    zoom: int
    min_col: int
    max_col: int
    min_row: int
    max_row: int


@dataclass(frozen=True, slots=True)
class MapLayer:
    """One layer of one source."""

    source: Source
    kind: Kind

    @property
    def id(self) -> str:
        """`{source}.{kind}`."""
        return f"{self.source.id}.{self.kind}"

    @property
    def title(self) -> str:
        """A name for people."""
        return f"{self.source.title}: {_TITLES[self.kind]}"

    @property
    def styles(self) -> dict[str, str]:
        """Style id → title; the first one is the default."""
        return _STYLES[self.kind]

    @property
    def default_style(self) -> str:
        """The id of the style that clients get who name none."""
        return next(iter(self.styles))

    @property
    def formats(self) -> dict[str, str]:
        """Media type → suffix of a tile's address; the first one is the default."""
        return _FORMATS[self.kind]

    @property
    def years(self) -> tuple[str, ...]:
        """The values of the dimension `year`, the default first."""
        return (LATEST, *map(str, sorted(self.source.years, reverse=True)))

    def template(
        self, base: str, suffix: str, *, style: str, year: str, place: str = "{z}/{x}/{y}"
    ) -> str:
        """Return a tile's address. `place` is its `{zoom}/{column}/{row}`, and like `style` and
        `year` it may be a client's placeholder; an empty `year` is left out."""
        folder = "imagery/tiles" if self.kind == "imagery" else "tiles"
        return f"{base}{folder}/{TMS_NAMES[0]}/{place}.{suffix}?{self.query(style, year)}"

    def query(self, style: str, year: str) -> str:
        """Return the query of a tile's address."""
        text = f"source={quote(self.source.id)}"
        if year:
            text += f"&year={year}"
        if self.kind != "imagery":
            text += f"&layer={self.kind}"
        if parameter := _STYLE_PARAMETER.get(self.kind):
            text += f"{parameter}{style}"
        return text

    def limits(self) -> list[MatrixLimits]:
        """Return the limits of every zoom from the lowest to the native one."""
        lowest, native = self.source.zooms
        return [limits_of(self.source.bounds, zoom) for zoom in range(lowest, native + 1)]


def layers_of(services: Services) -> list[MapLayer]:
    """Return every layer, the classes of the default source first."""
    kinds: tuple[Kind, ...] = ("class", "confidence", "imagery")
    return [MapLayer(source, kind) for source in services.sources for kind in kinds]


def layer_of(services: Services, layer_id: str) -> MapLayer:
    """Return the layer of that id; UnknownName otherwise."""
    layers = {layer.id: layer for layer in layers_of(services)}
    if layer_id not in layers:
        raise UnknownName("layer", layer_id, layers)
    return layers[layer_id]


def limits_of(bounds: Bounds, zoom: int) -> MatrixLimits:
    """Return the tiles that share ground with `bounds` (west, south, east, north in degrees)."""
    west, south, east, north = bounds
    corners = [TMS.tile(west, north, zoom), TMS.tile(east, south, zoom)]
    (first_col, last_col), (first_row, last_row) = zip(*((c.x, c.y) for c in corners), strict=True)
    # A bound on the edge of two tiles shares ground with the inner one only.
    box = TMS.bounds(corners[1])
    last_col -= int(last_col > first_col and box.left >= east)
    last_row -= int(last_row > first_row and box.top <= south)
    most = 2**zoom - 1
    return MatrixLimits(
        zoom,
        *(min(max(each, 0), most) for each in (first_col, last_col, first_row, last_row)),
    )


def zooms_of(layers: list[MapLayer]) -> Iterator[int]:
    """Yield the zooms from 0 (as a well-known scale set begins) to the finest of the layers."""
    yield from range(max((layer.source.zooms[1] for layer in layers), default=0) + 1)
