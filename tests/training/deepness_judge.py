"""What the QGIS plugin Deepness makes of a model file, run by QGIS' own Python: JSON in, JSON out.

Not a test module: `test_deepness_plugin` starts it. The plugin's own panel loads the file and its
own MapProcessor classifies a raster; nothing of either is replaced but the message box.
"""

# ruff: noqa: ANN001, ANN201
# mypy: ignore-errors
import json
import os
import sys
from unittest.mock import MagicMock

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import numpy as np
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer
from qgis.gui import QgsMapCanvas
from qgis.PyQt.QtWidgets import QMessageBox


def loaded(model, raster):
    """The plugin's panel with a model file and a layer, and the messages that it showed."""
    from deepness.common.config_entry_key import ConfigEntryKey
    from deepness.common.processing_parameters.map_processing_parameters import ProcessedAreaType
    from deepness.deepness_dockwidget import DeepnessDockWidget

    layer = QgsRasterLayer(raster, "scene")
    assert layer.isValid(), raster
    QgsProject.instance().addMapLayer(layer)
    messages = []
    QMessageBox.critical = lambda *a: messages.append(a[-1])
    ConfigEntryKey.PROCESSED_AREA_TYPE.set(ProcessedAreaType.ENTIRE_LAYER.value)
    panel = DeepnessDockWidget(iface=MagicMock())
    panel.mMapLayerComboBox_inputLayer.setLayer(layer)
    panel.lineEdit_modelPath.setText(model)
    panel._load_model_and_display_info()
    return panel, layer, messages


def evaluated(task):
    """The answer to one task; classes of the raster as uint8 (rows, cols) in the .npy `out`."""
    panel, layer, messages = loaded(task["model"], task["raster"])
    answer = {"messages": messages}
    if messages:
        return answer
    panel.pushButton_loadDefaultModelParameters.click()
    parameters = panel.get_inference_parameters()
    answer |= {
        "tile": parameters.tile_size_px,
        "overlap": parameters.processing_overlap_px,
        "resolution": parameters.resolution_cm_per_px,
        "threshold": parameters.pixel_classification__probability_threshold,
        "small": parameters.postprocessing_dilate_erode_size,
        "model_type": panel.comboBox_modelType.currentText(),
        "names": parameters.model.outputs_names,
        "channels": parameters.input_channels_mapping.get_number_of_model_inputs(),
    }
    from deepness.processing.map_processor.map_processor_segmentation import (
        MapProcessorSegmentation,
    )

    processor = MapProcessorSegmentation(
        rlayer=layer, vlayer_mask=None, map_canvas=QgsMapCanvas(), params=parameters
    )
    processor.run()
    answer["result"] = type(processor._processing_result).__name__
    # The plugin counts channels from 1.
    np.save(task["out"], processor.get_result_img()[0] - 1)
    return answer


if __name__ == "__main__":
    application = QgsApplication([], True)
    QgsApplication.initQgis()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the plugin prints
    out.write("DEEPNESS-JUDGE:" + json.dumps(evaluated(json.load(sys.stdin))) + "\n")
    out.flush()
    os._exit(0)
