"""The WMTS 1.0.0 (OGC 07-057r7) documents: capabilities and exception reports.

ElementTree escapes every text and attribute, so that titles, addresses and their `&` are safe.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from app.grid.tile import CRS, TMS, TMS_NAMES
from app.render.legend_image import legend_size
from app.routes.legend_picture import entries_of, legend_address
from app.routes.map_layers import PNG, MapLayer, zooms_of
from model.legend import Legend

WMTS = "http://www.opengis.net/wmts/1.0"
OWS = "http://www.opengis.net/ows/1.1"
XLINK = "http://www.w3.org/1999/xlink"
INFO_FORMATS = {"application/json": "json", "text/html": "html", "text/plain": "txt"}
"""Media types of GetFeatureInfo and the suffix of each in RESTful addresses."""

_SCHEMA = "http://schemas.opengis.net/wmts/1.0/wmtsGetCapabilities_response.xsd"
_SCALE_SET = "urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TILE = "{TileMatrix}/{TileCol}/{TileRow}"


def capabilities(
    layers: Sequence[MapLayer], legend: Legend, base: str, title: str, abstract: str
) -> bytes:
    """Return the capabilities document; `base` is the service's address and ends in `/`."""
    root = Xml.Element(
        "Capabilities",
        {
            "xmlns": WMTS,
            "xmlns:ows": OWS,
            "xmlns:xlink": XLINK,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{WMTS} {_SCHEMA}",
            "version": "1.0.0",
        },
    )
    _identification(root, title, abstract, layers)
    _operations(root, base)
    contents = Xml.SubElement(root, "Contents")
    for layer in layers:
        _layer(contents, layer, legend, base)
    _matrix_set(contents, list(layers))
    Xml.SubElement(root, "ServiceMetadataURL", {"xlink:href": f"{base}WMTSCapabilities.xml"})
    return _document(root)


def exception_report(code: str, text: str, locator: str = "") -> bytes:
    """Return an OWS 1.1 exception report."""
    root = Xml.Element("ExceptionReport", {"xmlns": OWS, "version": "1.1.0", "xml:lang": "en"})
    where = {"locator": _clean(locator)} if locator else {}
    exception = Xml.SubElement(root, "Exception", {"exceptionCode": code, **where})
    _text(exception, "ExceptionText", text)
    return _document(root)


def info_template(layer: MapLayer, base: str, suffix: str) -> str:
    """Return the RESTful address of GetFeatureInfo, with the placeholders of WMTS."""
    return f"{base}wmts/info/{layer.id}/{{year}}/{TMS_NAMES[0]}/{_TILE}/{{I}}/{{J}}.{suffix}"


def _identification(
    root: Xml.Element, title: str, abstract: str, layers: Sequence[MapLayer]
) -> None:
    service = Xml.SubElement(root, "ows:ServiceIdentification")
    _text(service, "ows:Title", title)
    _text(service, "ows:Abstract", abstract)
    _text(service, "ows:ServiceType", "OGC WMTS")
    _text(service, "ows:ServiceTypeVersion", "1.0.0")
    _text(service, "ows:Fees", "none")
    attributions = dict.fromkeys(layer.source.attribution for layer in layers)
    _text(service, "ows:AccessConstraints", "; ".join(filter(None, attributions)) or "none")


def _operations(root: Xml.Element, base: str) -> None:
    metadata = Xml.SubElement(root, "ows:OperationsMetadata")
    restful = {"GetCapabilities": f"{base}WMTSCapabilities.xml"}
    for name in ("GetCapabilities", "GetTile", "GetFeatureInfo"):
        operation = Xml.SubElement(metadata, "ows:Operation", name=name)
        http = Xml.SubElement(Xml.SubElement(operation, "ows:DCP"), "ows:HTTP")
        for encoding, address in (("KVP", f"{base}wmts?"), ("RESTful", restful.get(name, base))):
            get = Xml.SubElement(http, "ows:Get", {"xlink:href": _clean(address)})
            constraint = Xml.SubElement(get, "ows:Constraint", name="GetEncoding")
            allowed = Xml.SubElement(constraint, "ows:AllowedValues")
            _text(allowed, "ows:Value", encoding)


def _layer(contents: Xml.Element, layer: MapLayer, legend: Legend, base: str) -> None:
    element = Xml.SubElement(contents, "Layer")
    _text(element, "ows:Title", layer.title)
    if layer.source.attribution:
        _text(element, "ows:Abstract", layer.source.attribution)
    west, south, east, north = layer.source.bounds
    box = Xml.SubElement(element, "ows:WGS84BoundingBox")
    _text(box, "ows:LowerCorner", f"{west!r} {south!r}")
    _text(box, "ows:UpperCorner", f"{east!r} {north!r}")
    _text(element, "ows:Identifier", layer.id)
    for style, title in layer.styles.items():
        _style(element, layer, style, title, legend, base)
    for media in layer.formats:
        _text(element, "Format", media)
    queryable = layer.kind != "imagery"
    if queryable:
        for media in INFO_FORMATS:
            _text(element, "InfoFormat", media)
    dimension = Xml.SubElement(element, "Dimension")
    _text(dimension, "ows:Title", "Year of the imagery")
    _text(dimension, "ows:Identifier", "year")
    _text(dimension, "Default", layer.years[0])
    for year in layer.years:
        _text(dimension, "Value", year)
    _limits(element, layer)
    for media, suffix in layer.formats.items():
        address = layer.template(base, suffix, style="{Style}", year="{year}", place=_TILE)
        _resource(
            element, "tile", media, address.replace(f"/{TMS_NAMES[0]}/", "/{TileMatrixSet}/", 1)
        )
    if queryable:
        for media, suffix in INFO_FORMATS.items():
            address = info_template(layer, base, suffix)
            _resource(element, "FeatureInfo", media, address)


def _style(
    element: Xml.Element, layer: MapLayer, style: str, title: str, legend: Legend, base: str
) -> None:
    is_default = "true" if style == layer.default_style else "false"
    node = Xml.SubElement(element, "Style", isDefault=is_default)
    _text(node, "ows:Title", title)
    _text(node, "ows:Identifier", style)
    entries = entries_of(layer.kind, style, legend)
    if entries:
        width, height = legend_size(entries)
        address = _clean(legend_address(base, layer.kind, style))
        size = {"width": str(width), "height": str(height)}
        Xml.SubElement(node, "LegendURL", {"format": PNG, "xlink:href": address, **size})


def _limits(element: Xml.Element, layer: MapLayer) -> None:
    link = Xml.SubElement(element, "TileMatrixSetLink")
    _text(link, "TileMatrixSet", TMS_NAMES[0])
    limits = Xml.SubElement(link, "TileMatrixSetLimits")
    for each in layer.limits():
        matrix = Xml.SubElement(limits, "TileMatrixLimits")
        _text(matrix, "TileMatrix", str(each.zoom))
        _text(matrix, "MinTileRow", str(each.min_row))
        _text(matrix, "MaxTileRow", str(each.max_row))
        _text(matrix, "MinTileCol", str(each.min_col))
        _text(matrix, "MaxTileCol", str(each.max_col))


def _matrix_set(contents: Xml.Element, layers: list[MapLayer]) -> None:
    element = Xml.SubElement(contents, "TileMatrixSet")
    _text(element, "ows:Identifier", TMS_NAMES[0])
    _text(element, "ows:SupportedCRS", f"urn:ogc:def:crs:EPSG::{CRS.removeprefix('EPSG:')}")
    _text(element, "WellKnownScaleSet", _SCALE_SET)
    for zoom in zooms_of(layers):
        each = TMS.matrix(zoom)
        matrix = Xml.SubElement(element, "TileMatrix")
        _text(matrix, "ows:Identifier", str(zoom))
        _text(matrix, "ScaleDenominator", repr(float(each.scaleDenominator)))
        _text(matrix, "TopLeftCorner", " ".join(repr(float(v)) for v in each.pointOfOrigin))
        for name in ("tileWidth", "tileHeight", "matrixWidth", "matrixHeight"):
            _text(matrix, name[0].upper() + name[1:], str(getattr(each, name)))


def _resource(element: Xml.Element, kind: str, media: str, template: str) -> None:
    attributes = {"format": media, "resourceType": kind, "template": _clean(template)}
    Xml.SubElement(element, "ResourceURL", attributes)


def _text(parent: Xml.Element, tag: str, text: str) -> None:
    Xml.SubElement(parent, tag).text = _clean(text)


def _clean(text: str) -> str:
    """The text without the characters that XML 1.0 cannot hold."""
    return _NOT_XML.sub("", text)


def _document(root: Xml.Element) -> bytes:
    Xml.indent(root)
    content: bytes = Xml.tostring(root, "utf-8", xml_declaration=True)
    return content
