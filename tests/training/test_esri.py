"""The files for ArcGIS Pro, run by a double of its calling convention, answer as the server does.

There is no ArcGIS here. The double follows the convention as published ("Anatomy of a Python Raster
Function" in the wiki of Esri/raster-functions; Esri/raster-deep-learning): the class is called as
its module; initialize, getParameterInfo, getConfiguration and updateRasterInfo come once,
updatePixels for every tile of tx x ty pixels with `padding` more on every side.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model.legend import LEGEND
from model.segment import segment
from model.session import Session
from tests.world.graphs import Kind, card_of, write_model
from tests.world.ground import on_grid
from training.export.esri import write_esri

Bytes = npt.NDArray[np.uint8]


class ArcGis:
    """Runs a model definition over a raster held in memory: uint8 (bands, rows, cols)."""

    def __init__(self, emd: Path, bands: Bytes, mask: Bytes, **scalars: int) -> None:
        self.definition = json.loads(emd.read_text())
        script = emd.parent / self.definition["InferenceFunction"]
        spec = importlib.util.spec_from_file_location(script.stem, script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.function = getattr(module, script.stem)()
        self.bands, self.mask = bands, mask
        self.function.initialize(model=str(emd), device=-1)
        self.parameters = {p["name"]: p for p in self.function.getParameterInfo()}
        selected = {n: p["value"] for n, p in self.parameters.items() if "value" in p} | scalars
        self.configuration = self.function.getConfiguration(**selected)
        info = {"bandCount": bands.shape[0], "pixelType": "u1", "cellSize": (1.0, 1.0)}
        self.info = self.function.updateRasterInfo(raster_info=dict(info), output_info=dict(info))

    def classify(self, whole_tiles: bool = True) -> tuple[Bytes, Bytes]:
        """Values and mask of the output raster; border tiles are whole and masked, or cut."""
        rows, cols = self.mask.shape
        values, valid = np.zeros((rows, cols), np.uint8), np.zeros((rows, cols), np.uint8)
        pad, tx, ty = (self.configuration[key] for key in ("padding", "tx", "ty"))
        bands = self.bands[list(self.configuration["extractBands"])]
        around = ((pad, pad + ty), (pad, pad + tx))
        wide = np.pad(bands, ((0, 0), *around), constant_values=77)  # what lies there is not data
        there = np.pad(self.mask, around)
        for top in range(0, rows, ty):
            for left in range(0, cols, tx):
                height = ty if whole_tiles else min(ty, rows - top)
                width = tx if whole_tiles else min(tx, cols - left)
                part = (slice(top, top + height + 2 * pad), slice(left, left + width + 2 * pad))
                blocks = self.function.updatePixels(
                    (left, top),
                    (height + 2 * pad, width + 2 * pad),
                    {"pixelType": self.info["output_info"]["pixelType"]},
                    raster_pixels=wide[:, *part].copy(),
                    raster_mask=np.broadcast_to(there[part], (len(bands), *there[part].shape)),
                )
                pixels, mask = blocks["output_pixels"], blocks["output_mask"]
                assert pixels.shape == mask.shape == (1, height, width)
                assert pixels.dtype == np.uint8
                h, w = min(height, rows - top), min(width, cols - left)
                values[top : top + h, left : left + w] = pixels[0, :h, :w]
                valid[top : top + h, left : left + w] = mask[0, :h, :w]
        return values, valid


def scene(rows: int, cols: int) -> tuple[Bytes, Bytes]:
    """Made ground with a fifth band, a slanted collar of zeros, and nodata in a corner."""
    bands = on_grid(3, 7, cols, rows)
    bands[:, np.arange(rows)[:, None] < 40 + np.arange(cols)[None] // 16] = 0
    mask = np.ones((rows, cols), np.uint8)
    mask[-60:, -90:] = 0
    fifth = np.full((1, rows, cols), 200, np.uint8)
    return np.concatenate([bands, fifth]), mask


@pytest.mark.parametrize("kind", ["pixelwise", "neighborhood"])
@pytest.mark.parametrize("whole_tiles", [True, False])
def test_arcgis_classifies_every_pixel_as_the_server_does(
    tmp_path: Path, kind: Kind, whole_tiles: bool
) -> None:
    weights = write_model(tmp_path / "model" / "landcover.onnx", kind, card_of(kind, halo=32))
    files = write_esri(weights, tmp_path / "esri")
    bands, mask = scene(700, 1100)
    values, valid = ArcGis(files.emd, bands, mask).classify(whole_tiles)
    there = (mask != 0) & bands[:4].any(axis=0)
    expected = segment(Session.load(weights), bands[:4], there).classes
    assert (values == expected).all()
    assert ((valid != 0) == there).all()
    assert len(np.unique(values)) == 7  # every class, and nodata


def test_the_definition_holds_the_rasters_values_and_the_cards_halo(tmp_path: Path) -> None:
    weights = write_model(tmp_path / "landcover.onnx", "pixelwise", card_of(halo=48))
    files = write_esri(weights, tmp_path)
    emd = json.loads(files.emd.read_text())
    assert emd["ExtractBands"] == [0, 1, 2, 3]
    assert [c["Value"] for c in emd["Classes"]] == [1, 2, 3, 4, 5, 6]
    assert [tuple(c["Color"]) for c in emd["Classes"]] == [c.rgb for c in LEGEND.classes]
    assert (emd["ImageWidth"], emd["ImageHeight"], emd["Padding"]) == (608, 608, 48)
    assert emd["ModelType"] == "ImageClassification"
    assert (tmp_path / emd["ModelFile"]).read_bytes() == weights.read_bytes()
    # Where a range is named, ArcGIS stretches the raster's actual range to it.
    assert "DataRange" not in emd
    arcgis = ArcGis(files.emd, *scene(16, 16))
    assert arcgis.configuration["padding"] == 48
    assert "dataRange" not in arcgis.configuration
    assert (arcgis.configuration["tx"], arcgis.configuration["ty"]) == (512, 512)
    assert arcgis.parameters["raster"]["required"]
    assert arcgis.parameters["model"]["required"]
    table = json.loads(arcgis.info["output_info"]["rasterAttributeTable"])
    rows = [feature["attributes"] for feature in table["features"]]
    assert [(r["Value"], r["Class"]) for r in rows] == [(c.value, c.title) for c in LEGEND.classes]
    assert arcgis.info["output_info"]["bandCount"] == 1


def test_the_package_holds_the_definition_and_all_that_it_names(tmp_path: Path) -> None:
    """A .dlpk is unpacked by ArcGIS into a folder; the definition is used from there."""
    weights = write_model(tmp_path / "landcover.onnx", "pixelwise", card_of(halo=32))
    files = write_esri(weights, tmp_path / "esri")
    assert files.package.name == "landcover.dlpk"
    with zipfile.ZipFile(files.package) as archive:
        archive.extractall(tmp_path / "unpacked")
    (emd,) = (tmp_path / "unpacked").glob("*.emd")
    named = json.loads(emd.read_text())
    names = {emd.name, named["ModelFile"], named["InferenceFunction"]}
    assert {path.name for path in emd.parent.iterdir()} == names
    bands, mask = scene(600, 600)
    values, _ = ArcGis(emd, bands, mask).classify()
    expected, _ = ArcGis(files.emd, bands, mask).classify()
    assert (values == expected).all()
    assert len(np.unique(values)) == 7


def test_the_raster_function_needs_onnxruntime_and_numpy_only(tmp_path: Path) -> None:
    weights = write_model(tmp_path / "my-net 2.onnx", "pixelwise", card_of(halo=32))
    files = write_esri(weights, tmp_path / "esri")
    assert files.function.stem == "my_net_2_raster_function"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "for name in ('model', 'training', 'torch', 'onnx', 'rasterio', 'pydantic'):\n"
        "    sys.modules[name] = None\n"
        "import my_net_2_raster_function as m, numpy as np\n"
        "f = m.my_net_2_raster_function()\n"
        "f.initialize(model=sys.argv[2])\n"
        "f.getConfiguration(); print(f.updatePixels(None, None, {}, raster_pixels="
        "np.full((4, 576, 576), 90, 'u1'))['output_pixels'].shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(files.emd.parent), str(files.emd)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.strip() == "(1, 512, 512)", done.stderr


@pytest.mark.parametrize("padding", [8, -16, 288, 320])
def test_a_padding_that_cannot_be_is_refused(tmp_path: Path, padding: int) -> None:
    weights = write_model(tmp_path / "landcover.onnx", "pixelwise", card_of(halo=32))
    files = write_esri(weights, tmp_path)
    with pytest.raises(ValueError, match=f"got {padding}"):
        ArcGis(files.emd, *scene(16, 16), padding=padding)


@pytest.mark.parametrize("change", ["too deep", "too large"])
def test_imagery_that_is_not_8_bit_or_a_tile_beyond_the_window_is_refused(
    tmp_path: Path, change: str
) -> None:
    weights = write_model(tmp_path / "landcover.onnx", "pixelwise", card_of(halo=32))
    function: Any = ArcGis(write_esri(weights, tmp_path).emd, *scene(16, 16)).function
    side = 592 if change == "too large" else 576
    pixels = np.full((4, side, side), 4000 if change == "too deep" else 40, np.uint16)
    with pytest.raises(ValueError, match="8 bit" if change == "too deep" else "larger than"):
        function.updatePixels(None, None, {}, raster_pixels=pixels)
