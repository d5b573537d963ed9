"""The model file in QGIS Deepness, by its published steps, answers as the server does.

The double takes the steps from the plugin's published source (PUTvision/qgis-plugin-deepness,
processing/models and processing/map_processor): axes in whole numbers, metadata as JSON, tiles with
overlap in per cent, uint8 / 255, standardized, argmax of the output with a threshold before it.
The last test runs the plugin itself, where it is installed (`deepness_plugin`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import rasterio
from typer.testing import CliRunner

onnx = pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")

from model.segment import segment  # noqa: E402
from model.session import Session  # noqa: E402
from tests.training.deepness_plugin import missing, run_plugin  # noqa: E402
from tests.training.test_esri import ArcGis  # noqa: E402
from tests.world.graphs import Kind, card_of, decided, graph_of, probabilities_by_hand  # noqa: E402
from tests.world.ground import on_grid  # noqa: E402
from tests.world.scenes import write_scene  # noqa: E402
from training.cli import app  # noqa: E402
from training.data.resolution import at_resolution  # noqa: E402
from training.data.scenes import read_chips  # noqa: E402
from training.export import artifact  # noqa: E402
from training.export.deepness import write_deepness  # noqa: E402
from training.export.esri import write_esri  # noqa: E402

Bytes = npt.NDArray[np.uint8]

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "model" / "weights" / "landcover.onnx"
DATA = ROOT.parent / "shared" / "data"


class Deepness:
    """Loads a segmentation model and runs it over an image held in memory."""

    def __init__(self, path: Path) -> None:
        self.run = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (self.input,) = self.run.get_inputs()
        (output,) = self.run.get_outputs()
        assert len(output.shape) == 4
        assert isinstance(self.input.shape[-1], int)  # the panel's tile size is a number
        assert output.shape[2] == output.shape[3]  # "can handle only square output masks"
        text = self.run.get_modelmeta().custom_metadata_map
        read = {key: json.loads(value) for key, value in text.items()}
        assert str(read["model_type"]).capitalize() == "Segmentor"
        self.classes = dict(read["class_names"])
        assert [int(key) for key in self.classes] == list(range(output.shape[1]))
        self.resolution = float(read["resolution"])
        self.tile = int(read["tile_size"])
        self.overlap = int(self.tile * int(read["tiles_overlap"]) / 100 * 2) // 2
        self.mean = np.array(read["standardization_mean"], dtype=np.float32)
        self.std = np.array(read["standardization_std"], dtype=np.float32)
        self.threshold = float(read["seg_thresh"])
        assert int(read["seg_small_segment"]) == 0  # a median filter of one pixel: none

    def classify(self, image: Bytes) -> Bytes:
        """The channel shown at every pixel of uint8 (4, rows, cols); beyond it lies zero."""
        rows, cols = image.shape[1:]
        stride, half = self.tile - self.overlap, self.overlap // 2
        down, right = (self._steps(n, stride) for n in (rows, cols))
        wide = np.zeros(
            (4, self.tile + (down - 1) * stride, self.tile + (right - 1) * stride), "u1"
        )
        wide[:, :rows, :cols] = image
        shown = np.zeros(wide.shape[1:], np.uint8)
        for i in range(down):
            for j in range(right):
                top, left = i * stride, j * stride
                part = wide[:, top : top + self.tile, left : left + self.tile]
                classes = self._tile(part.transpose(1, 2, 0)[None])[0]
                rows_kept = slice(half if i else 0, self.tile - (half if i < down - 1 else 0))
                cols_kept = slice(half if j else 0, self.tile - (half if j < right - 1 else 0))
                shown[top : top + self.tile, left : left + self.tile][rows_kept, cols_kept] = (
                    classes[rows_kept, cols_kept]
                )
        return shown[:rows, :cols]

    def _steps(self, pixels: int, stride: int) -> int:
        return 1 if pixels <= self.tile else 1 + -(-(pixels - self.tile) // stride)

    def _tile(self, batch: Bytes) -> Bytes:
        scaled = np.float32(batch[:, :, :, : self.input.shape[-3]] * 1.0 / 255.0)
        standardized = (scaled - self.mean) / self.std
        (answer,) = self.run.run(None, {self.input.name: np.transpose(standardized, (0, 3, 1, 2))})
        answer[answer < self.threshold] = 0.0
        best: Bytes = np.argmax(answer, axis=1).astype(np.uint8)
        return best


def square(name: Kind) -> Any:  # noqa: ANN401
    """The graph with axes N and S, as a trained network's is exported."""
    graph = graph_of(name)
    for value in (graph.graph.input[0], graph.graph.output[0]):
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = "S"
    return graph


@pytest.mark.parametrize("name", ["pixelwise", "neighborhood"])
@pytest.mark.slow
def test_deepness_shows_the_classes_that_are_served(tmp_path: Path, name: Kind) -> None:
    path, fixed = tmp_path / "net.onnx", tmp_path / "net.deepness.onnx"
    artifact.write(square(name), card_of(name, halo=32), path)
    assert write_deepness(path, fixed) == 640
    image = on_grid(5, 9, 1500, 1300)
    shown = Deepness(fixed).classify(image)
    served = segment(Session.load(path), image, np.ones(image.shape[1:], bool)).classes
    # Beyond the imagery Deepness sees zeros and we see it mirrored: the border is not compared.
    inner = (slice(32, -32), slice(32, -32))
    sure = decided(probabilities_by_hand(name, image), 1e-4)[inner]
    assert (shown[inner] == served[inner])[sure].all()
    assert sure.mean() > 0.99
    assert len(np.unique(shown)) == 6


@pytest.mark.parametrize("halo", [0, 16, 32, 48, 64, 80, 96, 112, 128, 160])
def test_half_of_deepness_overlap_is_the_halo_and_its_tiles_lie_on_the_lattice(halo: int) -> None:
    card = card_of(halo=halo)
    tile, percent = artifact.deepness_tiles(card)
    overlap = int(tile * percent / 100 * 2) // 2
    assert tile >= card.window
    assert tile % 16 == 0
    assert overlap == 2 * halo
    assert (tile - overlap) % 16 == 0


def test_deepness_names_its_layers_as_the_legend_and_reads_meters(tmp_path: Path) -> None:
    path, fixed = tmp_path / "net.onnx", tmp_path / "net.deepness.onnx"
    artifact.write(square("pixelwise"), card_of(ground_resolution=0.6, halo=96), path)
    write_deepness(path, fixed)
    plugin = Deepness(fixed)
    names = ["background", "buildings", "roads", "water", "bare", "forest", "planted"]
    assert list(plugin.classes.values()) == names
    assert plugin.resolution == 60.0


def test_the_command_writes_the_files_of_both_programs(tmp_path: Path) -> None:
    path, fixed, folder = tmp_path / "net.onnx", tmp_path / "a" / "b.onnx", tmp_path / "esri"
    artifact.write(square("pixelwise"), card_of(halo=96), path)
    command = ["export", "--weights", path, "--deepness", fixed, "--esri", folder]
    done = CliRunner().invoke(app, list(map(str, command)))
    assert done.exit_code == 0, done.output
    assert "tiles of 768 x 768 px" in done.output
    assert Deepness(fixed).tile == 768
    assert (folder / "net.dlpk").is_file()


@pytest.mark.slow
@pytest.mark.real
def test_on_real_imagery_deepness_and_arcgis_show_the_shipped_models_classes(
    tmp_path: Path,
) -> None:
    """A mosaic of real chips; the seams between them are the same for all."""
    chips = DATA / "labels" / "chips.csv"
    if not chips.is_file():
        pytest.skip(f"no real imagery at {chips}")
    shipped = SHIPPED.read_bytes()
    card = Session(shipped).embedded_card()
    path = tmp_path / "landcover.onnx"
    artifact.write(onnx.load_model_from_string(shipped), card, path)
    scenes = read_chips(chips, without=["nd", "va_nc_border"])
    tiles = [at_resolution(s, card.ground_resolution)[:, :150, :150] for s in scenes]
    square = [t for t in tiles if t.shape[1:] == (150, 150)][:42]
    bands = np.concatenate(
        [np.concatenate(square[row : row + 7], axis=2) for row in range(0, 42, 7)], axis=1
    )
    there = np.ones(bands.shape[1:], np.uint8)
    served = segment(Session.load(path), bands, there != 0).classes
    inner = (slice(card.halo, -card.halo),) * 2
    fixed = tmp_path / "landcover.deepness.onnx"
    assert write_deepness(path, fixed) == 768
    assert (Deepness(fixed).classify(bands)[inner] == served[inner]).mean() > 0.9999
    values, _ = ArcGis(write_esri(path, tmp_path / "esri").emd, bands, there).classify()
    assert (values == served).all()


@pytest.mark.slow
def test_the_plugins_panel_refuses_named_axes_and_reads_ours(tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    path, fixed = tmp_path / "net.onnx", tmp_path / "net.deepness.onnx"
    artifact.write(square("neighborhood"), card_of("neighborhood", halo=32), path)
    write_deepness(path, fixed)
    scene = write_scene(tmp_path / "m_3208601_nw_16_1_20170903.tif", cols=1500, rows=1300)
    refused = run_plugin(path, scene.path, tmp_path / "no.npy")
    assert "Failed to load the model" in refused["messages"][0]
    answer = run_plugin(fixed, scene.path, tmp_path / "classes.npy")
    assert answer["messages"] == []
    assert answer["result"] == "MapProcessingResultSuccess"
    read = {key: answer[key] for key in ("tile", "overlap", "resolution", "threshold", "channels")}
    assert read == {"tile": 640, "overlap": 64, "resolution": 100, "threshold": 0, "channels": 4}
    names = ["background", "buildings", "roads", "water", "bare", "forest", "planted"]
    assert answer["names"] == [names]
    shown = np.load(tmp_path / "classes.npy")
    with rasterio.open(scene.path) as dataset:
        image = dataset.read()
    served = segment(Session.load(path), image, np.ones(image.shape[1:], bool)).classes
    inner = (slice(32, -32), slice(32, -32))
    sure = decided(probabilities_by_hand("neighborhood", image), 1e-4)[inner]
    assert (shown[inner] == served[inner])[sure].all()
    assert sure.mean() > 0.99
