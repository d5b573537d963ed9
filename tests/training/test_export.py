"""The file that is served answers as the net does, here and in QGIS Deepness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")
onnx = pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from model.errors import ArtifactError  # noqa: E402
from model.session import Session  # noqa: E402
from training.config import Activation, Preset  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.errors import ExportError  # noqa: E402
from training.export import artifact  # noqa: E402
from training.export.onnx_export import (  # noqa: E402  # noqa: E402
    check_parity,
    export,
    net_of,
    onnx_of,
    probabilities,
    real_windows,
    synthetic_windows,
)
from training.network.build import build, fold  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402
from training.network.unet import PARAMETERS, UNet  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]

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
    assert 0 < check_parity(net, onnx_of(fold(net)), CARD, synthetic_windows(CARD)) <= 1e-4


@pytest.mark.parametrize("shift", [0.01, float("nan")])
def test_a_file_that_answers_otherwise_is_refused(tmp_path: Path, shift: float) -> None:
    net = net_of(Checkpoint.load(checkpoint(tmp_path / "best.pt")))
    other = fold(net)
    with torch.no_grad():
        other.down[0].conv1.bias[3] += shift
    with pytest.raises((ExportError, ArtifactError), match=r"limit 1e-04|background|sum to 1"):
        check_parity(net, onnx_of(other), CARD, synthetic_windows(CARD))


def test_an_export_that_is_refused_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(net: UNet) -> UNet:
        other = fold(net)
        with torch.no_grad():
            other.down[0].conv1.bias[3] += 0.01
        return other

    monkeypatch.setattr("training.export.onnx_export.fold", wrong)
    out = tmp_path / "net.onnx"
    out.write_bytes(b"what was there")
    with pytest.raises(ExportError, match="differs from torch"):
        export(checkpoint(tmp_path / "best.pt"), out)
    assert out.read_bytes() == b"what was there"
    assert not out.with_suffix(".card.json").exists()


def test_parity_is_measured_on_the_scenes_imagery(tmp_path: Path, make_scene: MakeScene) -> None:
    net = net_of(Checkpoint.load(checkpoint(tmp_path / "best.pt")))
    graph = onnx_of(fold(net))
    scenes = [
        make_scene("a", "town"),
        make_scene("b", "town"),
        make_scene("c", "village", size=700),
    ]
    windows = real_windows(scenes, CARD)
    assert [w.shape for w in windows] == [(4, 576, 576)] * 2
    assert (windows[0][:, :96, :96] == scenes[0].image).all()
    assert (windows[0][:, 96, :96] == scenes[0].image[:, 94]).all()  # mirrored beyond the scene
    assert (windows[1] == scenes[2].image[:, :576, :576]).all()
    assert check_parity(net, graph, CARD, windows) <= 1e-4


def test_made_windows_look_like_imagery_and_hold_the_extremes() -> None:
    windows = synthetic_windows(CARD)
    assert [w.shape[1] for w in windows] == [64, 160, 704, 64]
    for band in range(4):
        assert abs(windows[2][band].mean() - 255 * CARD.mean[band]) < 15
    assert set(np.unique(windows[-1]).tolist()) == {0, 255}


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
    assert (read["tile_size"], read["tiles_size"], read["tiles_overlap"]) == (768, 768, 25)
    assert len(read["standardization_mean"]) == len(read["standardization_std"]) == 4
    assert isinstance(read["seg_thresh"], float)
    assert isinstance(read["seg_small_segment"], int)
    ours = {key for key in read if key.startswith("landcover:")}
    assert {"landcover:card", "landcover:license", "landcover:classes"} <= ours
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
    artifact.write(graph, card, tmp_path / "other.onnx")
    other = onnx.load(tmp_path / "other.onnx")
    assert [w.raw_data for w in other.graph.initializer] == [
        w.raw_data for w in graph.graph.initializer
    ]
    assert Session.load(tmp_path / "other.onnx").card.description == "other"
    assert len(other.metadata_props) == len(onnx.load(exported).metadata_props)


@pytest.mark.slow
def test_the_mean_of_two_models_is_between_them(tmp_path: Path) -> None:
    began, went = checkpoint(tmp_path / "began.pt"), tmp_path / "went.pt"
    start = tmp_path / "start.onnx"
    export(began, start)
    state = Checkpoint.load(began)
    bias = state.ema["last.bias"]
    state.ema["last.bias"] = bias + torch.arange(len(bias))
    state.save(went)
    card = export(went, tmp_path / "mean.onnx", average_with=start)
    weights = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(str(tmp_path / "mean.onnx")).graph.initializer
    }
    np.testing.assert_allclose(
        weights["last.bias"][1:], (bias + torch.arange(len(bias)) / 2)[1:], rtol=1e-6
    )
    first = fold(net_of(state)).state_dict()["down.0.conv1.weight"]
    np.testing.assert_allclose(weights["down0.conv1.weight"], first, rtol=1e-5)
    assert card.training.steps == state.step


def test_models_of_other_imagery_are_not_averaged(tmp_path: Path) -> None:
    start, elu = tmp_path / "start.onnx", checkpoint(tmp_path / "elu.pt", "elu")
    export(checkpoint(tmp_path / "relu.pt"), start)
    with pytest.raises(ExportError, match="another activation cannot be averaged: relu, not elu"):
        export(elu, tmp_path / "mean.onnx", average_with=start)
    state = Checkpoint.load(tmp_path / "relu.pt")
    state.card = CARD.model_copy(update={"mean": (0.3, 0.4, 0.4, 0.5)}).embedded()
    state.save(tmp_path / "relu.pt")
    with pytest.raises(ExportError, match="another mean"):
        export(tmp_path / "relu.pt", tmp_path / "mean.onnx", average_with=start)
    assert not (tmp_path / "mean.onnx").exists()


def test_probabilities_by_torch_never_name_background() -> None:
    answer = probabilities(UNet().eval(), np.zeros((1, 4, 16, 16), np.float32))
    assert (answer[:, 0] == 0).all()
