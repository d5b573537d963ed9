"""The file that is served answers as the net does, here and in QGIS Deepness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")
onnx = pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from model.session import Session  # noqa: E402
from training import artefact  # noqa: E402
from training.checkpoint import Checkpoint  # noqa: E402
from training.config import Activation, Preset  # noqa: E402
from training.errors import ExportError  # noqa: E402
from training.export import check_parity, export, net_of  # noqa: E402
from training.graph import onnx_of, probabilities  # noqa: E402
from training.unet import PARAMETERS, UNet, build, fold  # noqa: E402

pytestmark = pytest.mark.torch

CARD = ModelCard(
    name="test", version="1", mean=(0.4, 0.4, 0.4, 0.5), std=(0.2, 0.2, 0.2, 0.2), halo=32
)


def checkpoint(path: Path, activation: Activation = "relu") -> Path:
    """A checkpoint of a net with random weights and worn batch norms."""
    torch.manual_seed(0)
    preset = Preset(name="test", activation=activation, steps=7, warmup=1)
    net = build(preset)
    net.train()
    for _ in range(3):
        net(torch.randn(2, 4, 32, 32))
    state = Checkpoint(
        preset.model_dump(mode="json"), "data", 7, {}, net.state_dict(), {}, card=CARD.embedded()
    )
    state.save(path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    export(checkpoint(folder / "best.pt"), folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_the_file_answers_as_torch_does(tmp_path: Path, activation: Activation) -> None:
    state = Checkpoint.load(checkpoint(tmp_path / "best.pt", activation))
    net = net_of(state)
    assert check_parity(net, onnx_of(fold(net)), CARD) <= 1e-4


def test_a_file_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    net = net_of(Checkpoint.load(checkpoint(tmp_path / "best.pt")))
    other = fold(net)
    with torch.no_grad():
        other.last.bias[3] += 0.01
    with pytest.raises(ExportError, match="limit 1e-04"):
        check_parity(net, onnx_of(other), CARD)


@pytest.mark.parametrize("shape", [(1, 64), (3, 32), (2, 112)])
def test_batch_and_size_are_free_and_background_is_exactly_0(
    exported: Path, shape: tuple[int, int]
) -> None:
    count, side = shape
    batch = np.random.default_rng(0).normal(0, 5, (count, 4, side, side)).astype(np.float32)
    answer = Session.load(exported).predict(batch)
    assert answer.shape == (count, 7, side, side)
    assert (answer[:, 0] == 0).all()
    assert np.allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_the_graph_holds_the_articles_parameters_in_one_file(exported: Path) -> None:
    graph = onnx.load(exported).graph
    assert sum(int(np.prod(w.dims)) for w in graph.initializer) == PARAMETERS
    assert exported.stat().st_size < 8_000_000


def test_deepness_finds_its_keys_with_its_types(exported: Path) -> None:
    props = {p.key: p.value for p in onnx.load(exported).metadata_props}
    read = {key: json.loads(value) for key, value in props.items()}
    assert read["model_type"] == "Segmentor"
    assert list(read["class_names"]) == [str(i) for i in range(7)]
    assert all(isinstance(name, str) for name in read["class_names"].values())
    assert float(read["resolution"]) == 100.0
    assert read["tile_size"] == read["tiles_size"] == 704
    assert 0 < read["tiles_overlap"] < 50
    assert len(read["standardization_mean"]) == len(read["standardization_std"]) == 4
    assert isinstance(read["seg_thresh"], float)
    assert isinstance(read["seg_small_segment"], int)
    ours = {key for key in read if key.startswith("landcover:")}
    assert {"landcover:card", "landcover:licence", "landcover:classes"} <= ours
    assert len(read) == len(ours) + 10


def test_the_card_travels_inside_and_the_digest_beside(exported: Path) -> None:
    session = Session.load(exported)
    assert session.card.sha256 == session.sha256
    assert session.embedded_card().sha256 is None
    assert session.card.training.steps == 7


def test_the_same_weights_give_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.onnx"
    export(exported.parent / "best.pt", again)
    assert again.read_bytes() == exported.read_bytes()


def test_a_file_is_restamped_without_touching_its_weights(exported: Path, tmp_path: Path) -> None:
    graph = onnx.load(exported)
    card = CARD.model_copy(update={"description": "other"})
    artefact.write(graph, card, tmp_path / "other.onnx")
    other = onnx.load(tmp_path / "other.onnx")
    assert [w.raw_data for w in other.graph.initializer] == [
        w.raw_data for w in graph.graph.initializer
    ]
    assert Session.load(tmp_path / "other.onnx").card.description == "other"
    assert len(other.metadata_props) == len(onnx.load(exported).metadata_props)


def test_probabilities_by_torch_never_name_background() -> None:
    answer = probabilities(UNet().eval(), np.zeros((1, 4, 16, 16), np.float32))
    assert (answer[:, 0] == 0).all()
