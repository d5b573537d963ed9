"""Names and colors as ArcGIS Pro opens them: a layer file (.lyrx).

The format is Esri's Cartographic Information Model, version 3 (Esri/cim-spec, docs/v3).
"""

from __future__ import annotations

import json
from typing import Any

from app.render.attribute_table import Table

_LAYER = "CIMPATH=map/landcover.xml"


def layer_file(table: Table, dataset: str, title: str) -> str:
    """Return the layer file of a raster of these values, the file `dataset` beside it.

    Classes are drawn without smoothing. For other rasters it serves as a source of symbology.
    """
    classes = [
        {
            "type": "CIMRasterUniqueValueClass",
            "values": [str(entry.value)],
            "label": entry.title,
            "color": {"type": "CIMRGBColor", "values": [*entry.rgb, 100]},
            "visible": True,
        }
        for entry in table
    ]
    colorizer = {
        "type": "CIMRasterUniqueValueColorizer",
        "resamplingType": "NearestNeighbor",
        "fieldName": "Value",
        "groups": [{"type": "CIMRasterUniqueValueGroup", "classes": classes, "heading": "Value"}],
        "useDefaultColor": False,
    }
    layer: dict[str, Any] = {
        "type": "CIMRasterLayer",
        "name": title,
        "uRI": _LAYER,
        "showLegends": True,
        "visibility": True,
        "expanded": True,
        "dataConnection": {
            "type": "CIMStandardDataConnection",
            "workspaceConnectionString": "DATABASE=.",
            "workspaceFactory": "Raster",
            "dataset": dataset,
            "datasetType": "esriDTRasterDataset",
        },
        "colorizer": colorizer,
    }
    document = {
        "type": "CIMLayerDocument",
        "version": "3.0.0",
        "layers": [_LAYER],
        "layerDefinitions": [layer],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
