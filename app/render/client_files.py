"""Files that bring a layer into a program: GDAL's WMS description, QGIS connections and layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Xml

from app.grid.pixel_grid import Bounds
from model.legend import NODATA

CRS = "EPSG:3857"


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The tiles of a layer: `bounds` in EPSG:3857 of whole tiles of the lowest zoom."""

    lowest: int
    native: int
    first_col: int
    first_row: int
    cols: int
    rows: int
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class QgisLayer:
    """A layer of a QGIS layer definition; `uri`: what its provider `wms` is given."""

    id: str
    name: str
    uri: str


def gdal_wms(address: str, pyramid: Pyramid, bands: int) -> str:
    """Return the <GDAL_WMS> description of tiles at `address`, which holds ${z}, ${x}, ${y}.

    One band is data with nodata 255, four are a picture.
    """
    levels = pyramid.native - pyramid.lowest
    left, bottom, right, top = pyramid.bounds
    window = {
        "UpperLeftX": repr(left), "UpperLeftY": repr(top),
        "LowerRightX": repr(right), "LowerRightY": repr(bottom),
        "SizeX": str(pyramid.cols * 256 << levels), "SizeY": str(pyramid.rows * 256 << levels),
        "TileLevel": str(pyramid.native),
        "TileX": str(pyramid.first_col << levels), "TileY": str(pyramid.first_row << levels),
        "YOrigin": "top",
    }  # fmt: skip
    root = Xml.Element("GDAL_WMS")
    service = Xml.SubElement(root, "Service", name="TMS")
    Xml.SubElement(service, "ServerUrl").text = address
    data = Xml.SubElement(root, "DataWindow")
    for tag, text in window.items():
        Xml.SubElement(data, tag).text = text
    parts = {
        "Projection": CRS, "OverviewCount": str(levels), "BlockSizeX": "256", "BlockSizeY": "256",
        "BandsCount": str(bands), "DataType": "Byte", "Timeout": "60",
    }  # fmt: skip
    for tag, text in parts.items():
        Xml.SubElement(root, tag).text = text
    if bands == 1:
        Xml.SubElement(root, "DataValues", NoData=str(NODATA))
    return _document(root)


def xyz_connections(layers: Sequence[tuple[str, str, int, int]]) -> str:
    """Return a file for QGIS' "Load connections" of XYZ tiles: (name, address, zooms)."""
    root = Xml.Element("qgsXYZTilesConnections", version="1.0")
    for name, address, lowest, native in layers:
        zooms = {"zmin": str(lowest), "zmax": str(native), "tilePixelRatio": "1"}
        Xml.SubElement(root, "xyztiles", {"name": name, "url": address, **zooms})
    return f"<!DOCTYPE connections>\n{_document(root)}"


def wmts_connection(name: str, address: str) -> str:
    """Return a file for QGIS' "Load connections" of WMS/WMTS."""
    root = Xml.Element("qgsWMSConnections", version="1.0")
    Xml.SubElement(root, "wms", name=name, url=address)
    return f"<!DOCTYPE connections>\n{_document(root)}"


def layer_definition(layers: Sequence[QgisLayer], group: str) -> str:
    """Return a QGIS layer definition (.qlr): the layers in a group, the first one shown."""
    root = Xml.Element("qlr")
    outer = Xml.SubElement(root, "layer-tree-group", name="", checked="Qt::Checked", expanded="1")
    inner = Xml.SubElement(
        outer, "layer-tree-group", name=group, checked="Qt::Checked", expanded="1"
    )
    for number, layer in enumerate(layers):
        checked = "Qt::Unchecked" if number else "Qt::Checked"
        shown = {"checked": checked, "expanded": "0", "providerKey": "wms"}
        names = {"id": layer.id, "name": layer.name, "source": layer.uri}
        Xml.SubElement(inner, "layer-tree-layer", names | shown)
    maplayers = Xml.SubElement(root, "maplayers")
    for layer in layers:
        element = Xml.SubElement(maplayers, "maplayer", type="raster")
        for tag, text in (("id", layer.id), ("datasource", layer.uri), ("layername", layer.name)):
            Xml.SubElement(element, tag).text = text
        system = Xml.SubElement(Xml.SubElement(element, "srs"), "spatialrefsys")
        Xml.SubElement(system, "authid").text = CRS
        Xml.SubElement(element, "provider").text = "wms"
    return f"<!DOCTYPE qgis-layer-definition>\n{_document(root)}"


def _document(root: Xml.Element) -> str:
    Xml.indent(root)
    text: str = Xml.tostring(root, "unicode")
    return f"{text}\n"
