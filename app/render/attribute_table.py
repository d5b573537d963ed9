"""What the values of a raster mean, as GDAL and its users read it.

Names travel in a raster attribute table and as category names in `<file>.aux.xml`, GDAL's own
sidecar (GDAL ≥ 3.12 could keep the table inside the TIFF; the sidecar is read by all versions),
colors in the TIFF's color table as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as Xml

from model.legend import NODATA, Legend, Rgb


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One value: its short name, its title and its color."""

    value: int
    name: str
    title: str
    rgb: Rgb
    description: str = ""


Table = tuple[TableEntry, ...]

# GDAL's numbers: GDALRATFieldType and GDALRATFieldUsage.
_INTEGER, _STRING = "0", "2"
_FIELDS = (
    ("Value", _INTEGER, "5"),
    ("Count", _INTEGER, "1"),
    ("Class", _STRING, "2"),
    ("Name", _STRING, "0"),
    ("Red", _INTEGER, "6"),
    ("Green", _INTEGER, "7"),
    ("Blue", _INTEGER, "8"),
)


def table_of(legend: Legend, colors: Mapping[int, Rgb] | None = None) -> Table:
    """Return the classes of a legend in its own colors, or in others."""
    shown = colors or legend.colors()
    return tuple(
        TableEntry(c.value, c.name, c.title, shown[c.value], c.description) for c in legend.classes
    )


def stac_of(table: Table) -> list[dict[str, Any]]:
    """Return the STAC `classification:classes` of a table, nodata entry included."""
    listed: list[dict[str, Any]] = [
        {
            "value": entry.value,
            "name": entry.name,
            "title": entry.title,
            **({"description": entry.description} if entry.description else {}),
            "color_hint": "{:02X}{:02X}{:02X}".format(*entry.rgb),
        }
        for entry in table
    ]
    return [*listed, {"value": NODATA, "name": "nodata", "title": "No data", "nodata": True}]


def aux_xml(table: Table, counts: Sequence[int]) -> bytes:
    """Return GDAL's auxiliary metadata of a one-band raster; `counts`: pixels by value, (256,)."""
    root = Xml.Element("PAMDataset")
    band = Xml.SubElement(root, "PAMRasterBand", band="1")
    names = Xml.SubElement(band, "CategoryNames")
    titles = {entry.value: entry.title for entry in table}
    for value in range(max(titles) + 1):
        Xml.SubElement(names, "Category").text = titles.get(value, "")
    rat = Xml.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_FIELDS):
        definition = Xml.SubElement(rat, "FieldDefn", index=str(index))
        for tag, content in (("Name", name), ("Type", kind), ("Usage", usage)):
            Xml.SubElement(definition, tag).text = content
    for index, entry in enumerate(table):
        row = Xml.SubElement(rat, "Row", index=str(index))
        count = int(counts[entry.value])
        for cell in (entry.value, count, entry.title, entry.name, *entry.rgb):
            Xml.SubElement(row, "F").text = str(cell)
    Xml.indent(root)
    text: str = Xml.tostring(root, "unicode")
    return f"{text}\n".encode()
