"""Land cover from NAIP in ArcGIS Pro: a Python raster function for ONNX Runtime.

Used by "Classify Pixels Using Deep Learning" through the .emd file beside it. Needs onnxruntime and
numpy. What the network expects (bands, mean, standard deviation) is read from the .onnx file.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

NODATA = 255
MULTIPLE = 16
CARD_KEY = "landcover:card"

Image = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]
ModelCard = Any
ImageError = ValueError


class LandCover:
    """The functions that ArcGIS calls, in its order: initialize, getParameterInfo,
    getConfiguration, updateRasterInfo, and updatePixels for every tile."""

    def __init__(self) -> None:
        self.name = "Land cover"
        self.description = "1 m land cover of NAIP imagery (red, green, blue, near infrared)"
        self.emd: dict[str, Any] = {}
        self.padding = 0

    def initialize(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Reads the .emd (a path, or its JSON) and opens the .onnx file that it names."""
        if "model" not in kwargs:
            return
        model, folder = kwargs["model"], ""
        if os.path.isfile(model):
            folder = os.path.dirname(os.path.abspath(model))
            with open(model, encoding="utf-8") as file:
                self.emd = json.load(file)
        else:
            self.emd = json.loads(model)
        path = os.path.join(folder, self.emd["ModelFile"])
        self.session = ort.InferenceSession(path, providers=_providers(kwargs))
        card = json.loads(self.session.get_modelmeta().custom_metadata_map[CARD_KEY])
        self.card: Any = SimpleNamespace(bands=card["bands"], mean=card["mean"], std=card["std"])
        self.input = self.session.get_inputs()[0].name

    def getParameterInfo(self) -> list[dict[str, Any]]:  # noqa: N802
        """What the tool asks its user for."""
        return [
            _parameter("raster", "raster", "Raster", required=True),
            _parameter("model", "string", "Input Model Definition (EMD) File", required=True),
            _parameter("device", "numeric", "Device ID"),
            _parameter("padding", "numeric", "Padding", value=int(self.emd.get("Padding", 0))),
        ]

    def getConfiguration(self, **scalars: Any) -> dict[str, Any]:  # noqa: ANN401, N802
        """How tiles are cut: `tx` x `ty` pixels with `padding` of context on every side."""
        side = int(self.emd["ImageWidth"])
        self.padding = int(scalars.get("padding", self.emd.get("Padding", 0)))
        if self.padding % MULTIPLE or not 0 <= 2 * self.padding < side:
            raise ValueError(
                f"padding must be a multiple of {MULTIPLE} from 0 to {side // 2 - MULTIPLE}, "
                f"got {self.padding}"
            )
        return {
            "extractBands": tuple(self.emd["ExtractBands"]),
            "padding": self.padding,
            "tx": side - 2 * self.padding,
            "ty": side - 2 * self.padding,
            "fixedTileSize": 1,
            "inheritProperties": 4 | 8,  # neither pixel type nor NoData of the imagery
            "inputMask": True,
            "maskUpdated": True,
        }

    def updateRasterInfo(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401, N802
        """One band of class values, with their names and colors in an attribute table."""
        out = kwargs["output_info"]
        out["bandCount"] = 1
        out["pixelType"] = "u1"
        out["noData"] = np.array([NODATA], np.uint8)
        out["statistics"] = ()
        out["histogram"] = ()
        out["rasterAttributeTable"] = json.dumps(_attribute_table(self.emd["Classes"]))
        return kwargs

    def updatePixels(  # noqa: N802
        self,
        tlc: Any,  # noqa: ANN401
        shape: Any,  # noqa: ANN401
        props: dict[str, Any],
        **pixelBlocks: Any,  # noqa: ANN401, N803
    ) -> dict[str, Any]:
        """Classes of one tile: `raster_pixels` (bands, rows, cols) with padding in,
        `output_pixels` (1, rows, cols) without padding out."""
        pixels = np.asarray(pixelBlocks["raster_pixels"])
        bands, rows, cols = pixels.shape
        mask = np.asarray(pixelBlocks.get("raster_mask", np.ones((rows, cols), np.uint8)))
        inside = mask != 0 if mask.ndim == 2 else (mask != 0).all(axis=0)
        side = int(self.emd["ImageWidth"])
        if rows > side or cols > side:
            raise ValueError(f"a tile of {rows} x {cols} pixels is larger than the window, {side}")
        if pixels.min(initial=0) < 0 or pixels.max(initial=0) > NODATA:
            raise ValueError("imagery must be 8 bit, 0 to 255")
        image = np.zeros((bands, side, side), np.uint8)
        valid = np.zeros((side, side), np.bool_)
        image[:, :rows, :cols] = pixels
        # Collars hold no imagery: all bands zero.
        valid[:rows, :cols] = inside & (pixels != 0).any(axis=0)
        classes = self.classify(image, valid)
        core = (slice(self.padding, rows - self.padding), slice(self.padding, cols - self.padding))
        out = np.where(valid[core], classes[core], NODATA)
        pixel_type = props.get("pixelType", "u1")
        pixelBlocks["output_pixels"] = out[None].astype(pixel_type, copy=False)
        pixelBlocks["output_mask"] = valid[core][None].astype("u1")
        return pixelBlocks

    def classify(self, image: Image, valid: Valid) -> Image:
        """Best class of every pixel of a window, the lowest value on ties: uint8 (rows, cols)."""
        if not valid.any():
            return np.full(valid.shape, NODATA, np.uint8)
        batch = normalize(reflect_pad_invalid(image, valid), self.card)[None]
        (answer,) = self.session.run(None, {self.input: batch})
        best: Image = (answer[0, 1:].argmax(axis=0) + 1).astype(np.uint8)
        return best


def _providers(kwargs: dict[str, Any]) -> list[str]:
    """CUDA where a device is named and this onnxruntime has it, else the CPU."""
    cuda = "CUDAExecutionProvider"
    wanted = kwargs.get("device") is not None and int(kwargs["device"]) >= 0
    there = wanted and cuda in ort.get_available_providers()
    return [*([cuda] if there else []), "CPUExecutionProvider"]


def _parameter(
    name: str,
    data_type: str,
    title: str,
    required: bool = False,
    value: Any = None,  # noqa: ANN401
) -> dict[str, Any]:
    parameter = {"name": name, "dataType": data_type, "required": required}
    parameter |= {"displayName": title, "description": title}
    return parameter | ({} if value is None else {"value": value})


def _attribute_table(classes: list[dict[str, Any]]) -> dict[str, Any]:
    """An Esri record set: value, name and color of every class."""
    kinds = {"OID": "OID", "Value": "Integer", "Class": "String"}
    kinds |= dict.fromkeys(("Red", "Green", "Blue"), "Integer")
    rows = [
        dict(zip(kinds, (number, c["Value"], c["Name"], *c["Color"]), strict=True))
        for number, c in enumerate(classes, 1)
    ]
    return {
        "displayFieldName": "",
        "fieldAliases": {name: name for name in kinds},
        "fields": [
            {"name": name, "type": f"esriFieldType{kind}", "alias": name}
            for name, kind in kinds.items()
        ],
        "features": [{"attributes": row} for row in rows],
    }


# The code that serves, copied in when this file is written (training/export/esri.py).
from model.edges import reflect_pad_invalid  # noqa: E402
from model.normalize import normalize  # noqa: E402
