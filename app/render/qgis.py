"""Names and colors as desktop programs open them: QGIS styles (.qml) and color maps (.clr).

A TIFF's color table always has 256 entries; the style beside it lists the values there are.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as Xml

from app.render.attribute_table import Table

SIDECARS = {".qml": "application/xml", ".clr": "text/plain; charset=utf-8"}
"""What lies beside a class raster, by suffix in place of `.tif`, and its media types."""

_MARK = "written by landcover"
_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"

# As QGIS creates it: its provider looks for these columns.
_LAYER_STYLES = """
CREATE TABLE IF NOT EXISTS layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256),
  f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
  styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT(30), ui TEXT(30), update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)
"""


def raster_style(table: Table) -> str:
    """Return the QGIS style of a raster of these values."""
    root = _qgis()
    pipe = Xml.SubElement(root, "pipe")
    renderer = Xml.SubElement(
        pipe,
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"},
    )
    Xml.SubElement(renderer, "rasterTransparency")
    palette = Xml.SubElement(renderer, "colorPalette")
    for entry in table:
        color = "#{:02x}{:02x}{:02x}".format(*entry.rgb)
        shown = {"value": str(entry.value), "color": color, "alpha": "255", "label": entry.title}
        Xml.SubElement(palette, "paletteEntry", shown)
    # Class borders stay sharp however far one zooms in.
    Xml.SubElement(pipe, "rasterresampler", maxOversampling="1")
    return _document(root)


def polygon_style(table: Table, field: str = "value") -> str:
    """Return the QGIS style of polygons whose `field` holds these values."""
    root = _qgis()
    renderer = Xml.SubElement(
        root, "renderer-v2", {"type": "categorizedSymbol", "attr": field, "symbollevels": "0"}
    )
    categories = Xml.SubElement(renderer, "categories")
    symbols = Xml.SubElement(renderer, "symbols")
    for number, entry in enumerate(table):
        category = {"value": str(entry.value), "symbol": str(number), "label": entry.title}
        Xml.SubElement(categories, "category", category | {"render": "true", "type": "long"})
        symbol = Xml.SubElement(symbols, "symbol", type="fill", name=str(number), alpha="1")
        layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        options = Xml.SubElement(layer, "Option", type="Map")
        color = ",".join(map(str, (*entry.rgb, 255)))
        for name, value in (("color", color), ("outline_style", "no"), ("style", "solid")):
            Xml.SubElement(options, "Option", {"type": "QString", "name": name, "value": value})
    return _document(root)


def color_map(table: Table) -> str:
    """Return an Esri color map: `value red green blue` a line."""
    return "".join(f"{entry.value} {' '.join(map(str, entry.rgb))}\n" for entry in table)


def write_sidecars(raster: Path, table: Table) -> None:
    """Write `.qml` and `.clr` beside a class raster; a style that a user saved there stays."""
    texts = (raster_style(table), color_map(table))
    for path, text in zip(sidecars_of(raster), texts, strict=True):
        if not _is_users(path):
            path.write_text(text, "utf-8", newline="\n")


def sidecars_of(raster: Path) -> list[Path]:
    """Return the paths of a raster's sidecars."""
    return [raster.with_suffix(suffix) for suffix in SIDECARS]


def move_sidecars(raster: Path, target: Path) -> None:
    """Move a raster's sidecars beside `target`; a style that a user saved there stays."""
    for path, new in zip(sidecars_of(raster), sidecars_of(target), strict=True):
        if not _is_users(new):
            path.replace(new)


def add_layer_style(geopackage: Path, table: Table, layer: str) -> None:
    """Put the style of polygons into a GeoPackage, where QGIS finds it by itself."""
    with closing(sqlite3.connect(geopackage)) as db, db:
        db.execute(_LAYER_STYLES)
        db.execute(
            "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
        query = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
        (column,) = db.execute(query, (layer,)).fetchone()
        db.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description) "
            "VALUES ('', '', ?, ?, 'land cover', ?, '', 1, ?)",
            (layer, column, polygon_style(table), _MARK),
        )


def _is_users(path: Path) -> bool:
    """Whether a style is there that was saved by QGIS, which does not keep our mark."""
    return path.suffix == ".qml" and path.exists() and _MARK not in path.read_text("utf-8")


def _qgis() -> Xml.Element:
    return Xml.Element("qgis", {"version": "3.22.0", "styleCategories": "Symbology"})


def _document(root: Xml.Element) -> str:
    Xml.indent(root)
    text: str = Xml.tostring(root, "unicode")
    return f"{_DOCTYPE}\n<!-- {_MARK} -->\n{text}\n"
