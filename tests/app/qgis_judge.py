"""What QGIS makes of layers, run by the Python that QGIS is installed for: JSON in, JSON out.

Not a test module: tests start it with a task on standard input (see tests.app.gis).
"""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors
import json
import os
import sys
from collections import Counter

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsLayerDefinition,
    QgsLayerTreeGroup,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
    QgsRaster,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage


def layer_of(task):
    """The layer of a task: a data source of the wms provider, a file, or a layer definition."""
    if "uri" in task:
        return QgsRasterLayer(task["uri"], "layer", "wms")
    if "raster" in task:
        return QgsRasterLayer(task["raster"], "layer")
    if "vector" in task:
        return QgsVectorLayer(task["vector"], "layer", "ogr")
    group = QgsLayerTreeGroup()
    project = QgsProject.instance()
    QgsLayerDefinition.loadLayerDefinition(task["qlr"], project, group)
    layers = list(project.mapLayers().values())
    return next(each for each in layers if each.name() == task["name"])


def rendered(layer, extent, size, pixels=()):
    """The colors of a map of `extent`: {"#rrggbb": pixels}, `/alpha` behind those that are not
    opaque, and the colors at `pixels` (column, row)."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(QgsRectangle(*extent))
    settings.setOutputSize(QSize(*size))
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage().convertToFormat(QImage.Format_ARGB32)
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    values = memoryview(bytes(bits)).cast("I")

    def named(argb):
        name, alpha = f"#{argb & 0xFFFFFF:06x}", argb >> 24
        return name if alpha == 255 else f"{name}/{alpha}"

    colors = {named(argb): count for argb, count in Counter(values).items()}
    errors = [error.message for error in job.errors()]
    at = [named(values[row * image.width() + col]) for col, row in pixels]
    return {"colors": colors, "errors": errors, "at": at}


def legend_of(layer):
    """[[value or rule, label, color]] of the layer's renderer."""
    renderer = layer.renderer()
    if renderer.type() == "paletted":
        return [[each.value, each.label, each.color.name()] for each in renderer.classes()]
    if renderer.type() == "categorizedSymbol":
        categories = renderer.categories()
        return [[each.value(), each.label(), each.symbol().color().name()] for each in categories]
    return []


def connections_of(path, kind):
    """[[name, url]] that QGIS' own dialog loads from a file of connections."""
    from qgis.gui import QgsManageConnectionsDialog
    from qgis.PyQt.QtWidgets import QListWidget

    wanted = getattr(QgsManageConnectionsDialog, kind)
    dialog = QgsManageConnectionsDialog(None, QgsManageConnectionsDialog.Import, wanted, path)
    dialog.findChild(QListWidget).selectAll()
    dialog.doExportImport()
    root = {"XyzTiles": "qgis/connections-xyz", "WMS": "qgis/connections-wms"}[kind]
    settings = QgsSettings()
    settings.beginGroup(root)
    return [[name, settings.value(f"{name}/url")] for name in settings.childGroups()]


def evaluated(task):
    """The answer to one task."""
    if "connections" in task:
        return {"connections": connections_of(task["connections"], task["kind"])}
    layer = layer_of(task)
    answer = {"valid": layer.isValid(), "crs": layer.crs().authid()}
    if not layer.isValid():
        return answer
    extent = layer.extent()
    answer["extent"] = [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]
    answer["legend"] = legend_of(layer) if layer.renderer() else []
    answer["maps"] = [rendered(layer, **each) for each in task.get("maps", ())]
    answer["identify"] = []
    for x, y in task.get("identify", ()):
        kind, each = QgsRaster.IdentifyFormat(task["format"]), task["maps"][0]
        place, box = QgsPointXY(x, y), QgsRectangle(*each["extent"])
        found = layer.dataProvider().identify(place, kind, box, *each["size"]).results()
        answer["identify"].append({str(key): str(value) for key, value in found.items()})
    return answer


if __name__ == "__main__":
    application = QgsApplication([], True)
    QgsApplication.initQgis()
    print("QGIS-JUDGE:" + json.dumps([evaluated(task) for task in json.load(sys.stdin)]))
    sys.stdout.flush()
    # Without QGIS' own exit, which may crash without a desktop.
    os._exit(0)
