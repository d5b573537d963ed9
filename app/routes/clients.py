"""What brings this server's layers into QGIS, ArcGIS, GDAL and web maps: files, and a page."""

from __future__ import annotations

import html
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.errors import UnknownName
from app.grid.tile import TMS_NAMES, Tile
from app.landcover.source import Source
from app.render.arcgis import layer_file
from app.render.attribute_table import Table, table_of
from app.render.client_files import (
    Pyramid,
    QgisLayer,
    gdal_wms,
    layer_definition,
    wmts_connection,
    xyz_connections,
)
from app.render.qgis import color_map, raster_style
from app.render.transition import transition_table
from app.routes.map_layers import PNG, Kind, MapLayer, layers_of, limits_of
from app.services import Services
from model.legend import COLORMAPS

router = APIRouter(tags=["clients"])

XML = "application/xml"
JSON = "application/json"
_TITLE = "Land cover"
PAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; frame-ancestors 'none'"
_XML_ANSWER: dict[int | str, dict[str, object]] = {200: {"content": {XML: {}}}}

SourceId = Annotated[str | None, Query(description="id of a source; the first one by default")]
Year = Annotated[str, Query(description="`latest`, or a year of four digits")]


@router.get("/gdal_wms.xml", response_class=Response, responses=_XML_ANSWER)
async def gdal_wms_file(
    request: Request,
    source: SourceId = None,
    year: Year = "latest",
    layer: Annotated[Kind, Query(description="what the tiles show")] = "class",
    style: Annotated[str, Query(description="of imagery: `rgb`, `cir`, `ndvi`")] = "",
) -> Response:
    """A GDAL_WMS description: GDAL, rasterio and QGIS open it as a raster. Classes and confidence
    are values (uint8, nodata 255) without any smoothing; imagery is a picture."""
    selected = MapLayer(_source(request, source, year), layer)
    name = style or selected.default_style
    if name not in selected.styles:
        raise UnknownName("style", name, selected.styles)
    suffix, bands = ("png", 4) if layer == "imagery" else ("tif", 1)
    place = "${z}/${x}/${y}"
    address = selected.template(str(request.base_url), suffix, style=name, year=year, place=place)
    content = gdal_wms(address, _pyramid(selected.source), bands)
    return _file(content, XML, f"{selected.source.id}-{layer}.xml")


@router.get("/qgis/xyz.xml", response_class=Response, responses=_XML_ANSWER)
async def qgis_xyz(request: Request) -> Response:
    """Every layer as an XYZ connection of QGIS (Browser → XYZ Tiles → Load Connections)."""
    base = str(request.base_url)
    listed = []
    for layer in _layers(request):
        address = layer.template(base, "png", style=layer.default_style, year="")
        listed.append((layer.title, address, *layer.source.zooms))
    return _file(xyz_connections(listed), XML, "landcover-xyz.xml")


@router.get("/qgis/wmts.xml", response_class=Response, responses=_XML_ANSWER)
async def qgis_wmts(request: Request) -> Response:
    """The WMTS as a connection of QGIS (Browser → WMS/WMTS → Load Connections)."""
    address = f"{request.base_url}WMTSCapabilities.xml"
    return _file(wmts_connection(request.app.title, address), XML, "landcover-wmts.xml")


@router.get("/qgis/layers.qlr", response_class=Response, responses=_XML_ANSWER)
async def qgis_layers(request: Request, source: SourceId = None, year: Year = "latest") -> Response:
    """The layers of a source as a QGIS layer definition: drag it into a map."""
    selected = _source(request, source, year)
    capabilities = f"{request.base_url}WMTSCapabilities.xml"
    layers = []
    kinds: tuple[Kind, ...] = ("class", "confidence", "imagery")
    for kind in kinds:
        layer = MapLayer(selected, kind)
        uri = (
            f"crs=EPSG:3857&dpiMode=7&format={PNG}&layers={layer.id}&styles={layer.default_style}"
            f"&tileMatrixSet={TMS_NAMES[0]}&tileDimensions={quote(f'year={year}', safe='')}"
            f"&url={quote(capabilities, safe=':/')}"
        )
        layers.append(QgisLayer(layer.id.replace(".", "_"), layer.title, uri))
    return _file(layer_definition(layers, selected.title), XML, f"{selected.id}.qlr")


@router.get("/legend.qml", response_class=Response, responses=_XML_ANSWER)
async def legend_qml(
    request: Request,
    layer: Annotated[Literal["class", "change"], Query(description="of which values")] = "class",
    colormap_name: Annotated[str, Query(description="a colormap of /legend")] = "landcover",
) -> Response:
    """The QGIS style of a class raster: names and colors."""
    return _file(raster_style(_table(request, layer, colormap_name)), XML, f"{layer}.qml")


@router.get(
    "/legend.clr", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
async def legend_clr(
    request: Request,
    layer: Annotated[Literal["class", "change"], Query(description="of which values")] = "class",
    colormap_name: Annotated[str, Query(description="a colormap of /legend")] = "landcover",
) -> Response:
    """The colors of a class raster, one `value red green blue` a line, as ArcGIS reads them."""
    text = color_map(_table(request, layer, colormap_name))
    return _file(text, "text/plain", f"{layer}.clr")


@router.get("/legend.lyrx", response_class=Response, responses={200: {"content": {JSON: {}}}})
async def legend_lyrx(
    request: Request,
    layer: Annotated[Literal["class", "change"], Query(description="of which values")] = "class",
    colormap_name: Annotated[str, Query(description="a colormap of /legend")] = "landcover",
) -> Response:
    """The layer file of a class raster for ArcGIS Pro: names and colors of a `landcover.tif` or
    `change.tif` beside it, and the symbology to apply to others."""
    dataset, title = ("change.tif", "Change") if layer == "change" else ("landcover.tif", _TITLE)
    content = layer_file(_table(request, layer, colormap_name), dataset, title)
    return _file(content, JSON, f"{layer}.lyrx")


@router.get("/clients", response_class=Response, responses={200: {"content": {"text/html": {}}}})
async def clients(request: Request) -> Response:
    """A page with this server's own addresses for QGIS, ArcGIS, GDAL and web maps."""
    base = str(request.base_url)
    parts = [_PAGE_HEAD, _common(base)]
    parts += [_of_source(source, base) for source in _services(request).sources]
    content = "\n".join([*parts, "</main></body></html>\n"])
    headers = {"content-security-policy": PAGE_CSP, "cache-control": "no-cache"}
    return Response(content, 200, headers, "text/html; charset=utf-8")


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _source(request: Request, source: str | None, year: str) -> Source:
    """The source, and its year checked."""
    selected = _services(request).sources.get(source)
    selected.when(year)
    return selected


def _layers(request: Request) -> list[MapLayer]:
    return layers_of(_services(request))


def _table(request: Request, layer: str, colormap_name: str) -> Table:
    if colormap_name not in COLORMAPS:
        raise UnknownName("colormap_name", colormap_name, COLORMAPS)
    legend = _services(request).model(None).card.legend
    colors = legend.colors(colormap_name)
    return transition_table(legend, colors) if layer == "change" else table_of(legend, colors)


def _pyramid(source: Source) -> Pyramid:
    lowest, native = source.zooms
    at = limits_of(source.bounds, lowest)
    left, _, _, top = Tile(lowest, at.min_col, at.min_row).bounds
    _, bottom, right, _ = Tile(lowest, at.max_col, at.max_row).bounds
    cols, rows = at.max_col - at.min_col + 1, at.max_row - at.min_row + 1
    bounds = (left, bottom, right, top)
    return Pyramid(lowest, native, at.min_col, at.min_row, cols, rows, bounds)


def _file(content: str, media_type: str, name: str) -> Response:
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "cache-control": "no-cache",
    }
    return Response(content, 200, headers, media_type)


_PAGE_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Add this map to your program</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #222; background: #fff; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto; }
h2 { border-top: 1px solid #ccc; padding-top: 1rem; }
</style></head><body><main>
<h1>Add this map to your program</h1>"""


def _common(base: str) -> str:
    capabilities = f"{base}WMTSCapabilities.xml"
    return f"""<p><img src="{_safe(base)}legend.png" alt="Legend"></p>
<h2>QGIS</h2>
<p>Best: the WMTS layer. It is never smoothed and answers <em>Identify</em>. Layer → Add Layer →
Add WMS/WMTS Layer → New, with this URL; or load <a href="{_safe(base)}qgis/wmts.xml">this
connection file</a>.</p>
{_code(capabilities)}
<p>As XYZ tiles: load <a href="{_safe(base)}qgis/xyz.xml">this connection file</a> in
Browser → XYZ Tiles.</p>
<h2>ArcGIS</h2>
<p>ArcGIS Pro: Insert → Connections → Server → New WMTS Server. ArcGIS Online: Add → Add Layer from
URL → WMTS (OGC). The URL:</p>
{_code(capabilities)}
<p>Class rasters get names and colors with <a href="{_safe(base)}legend.lyrx">this layer file</a>
(Symbology → Import from layer file).</p>
<h2>OGC API Tiles</h2>
{_code(base)}"""


def _of_source(source: Source, base: str) -> str:
    sid = quote(source.id)
    layer = MapLayer(source, "class")
    tiles = layer.template(base, "png", style=layer.default_style, year="latest")
    lowest, native = source.zooms
    maplibre = (
        f'new maplibregl.Map({{ container: "map", style: "{base}style.json?source={sid}" }});'
    )
    openlayers = (
        "new ol.layer.Tile({ source: new ol.source.XYZ({ interpolate: false, crossOrigin: "
        f'"anonymous",\n  minZoom: {lowest}, maxZoom: {native}, url: "{tiles}" }}) }});'
    )
    leaflet = (
        f'L.tileLayer("{tiles}",\n'
        f"  {{ minZoom: {lowest}, maxNativeZoom: {native}, crossOrigin: true }});"
    )
    gdal = (
        f"gdal_translate -projwin ULX ULY LRX LRY \\\n"
        f'  "/vsicurl/{base}gdal_wms.xml?source={sid}" classes.tif'
    )
    years = ", ".join(map(str, source.years)) or "not known in advance"
    return f"""<h2>{html.escape(source.title)}</h2>
<p>{html.escape(source.attribution)}<br>Years: {years}. Zooms {lowest} to {native}.</p>
<h3>QGIS</h3>
<p><a href="{_safe(base)}qgis/layers.qlr?source={sid}">Layer definition (.qlr)</a> ·
<a href="{_safe(base)}gdal_wms.xml?source={sid}">raster of class values (GDAL_WMS .xml)</a> and
<a href="{_safe(base)}legend.qml">its style (.qml)</a></p>
<h3>XYZ tiles</h3>
{_code(tiles)}
<h3>MapLibre</h3>
{_code(maplibre)}
<h3>OpenLayers</h3>
{_code(openlayers)}
<h3>Leaflet</h3>
{_code(leaflet)}
<h3>GDAL (coordinates in EPSG:3857)</h3>
{_code(gdal)}"""


def _code(text: str) -> str:
    return f"<pre><code>{html.escape(text)}</code></pre>"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
