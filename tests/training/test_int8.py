"""The 8-bit file answers as the 32-bit one, or is not written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")
pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")

import onnx  # noqa: E402

from model.card import ModelCard  # noqa: E402
from model.normalize import normalize  # noqa: E402
from model.session import Session  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.errors import ExportError  # noqa: E402
from training.evaluate.evaluation import classify  # noqa: E402
from training.export import artifact, int8  # noqa: E402
from training.export.int8 import Comparison, check, compare, quantize, quantized, spread  # noqa: E402
from training.export.onnx_export import onnx_of  # noqa: E402
from training.network.build import fold  # noqa: E402
from training.network.unet import UNet  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]


def quiet(line: str) -> None:
    """Not listened to."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with random weights and plain answers: its last layer is sharp."""
    torch.manual_seed(1)
    net = UNet().eval()
    with torch.no_grad():
        net.last.weight *= 30
    card = ModelCard(
        name="test", version="1", mean=(0.4,) * 4, std=(0.2,) * 4, description="A net.", halo=32
    )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    artifact.write(onnx_of(fold(net)), card, path)
    return path


def graph_of(weights: Path, scene: Scene, exact: int) -> onnx.ModelProto:
    window = normalize(scene.image, Session.load(weights).card)
    return quantized(onnx.load(weights), [window], exact)


def weights_of(graph: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {w.name: onnx.numpy_helper.to_array(w) for w in graph.graph.initializer}


@pytest.mark.parametrize("exact", [1, 2])
def test_inner_levels_are_in_8_bits_and_outer_ones_as_they_were(
    weights: Path, make_scene: MakeScene, exact: int
) -> None:
    before, after = weights_of(onnx.load(weights)), graph_of(weights, make_scene(), exact)
    held = weights_of(after)
    for name, values in before.items():
        if not name.endswith(".weight"):
            continue
        outer = name.startswith("last") or name.split(".")[0][-1] in "01"[:exact]
        enters = name == f"down{exact}.conv1.weight"  # what enters the first 8-bit level
        if outer or enters or name.startswith("up"):  # a transposed convolution has no 8-bit kernel
            assert (held[name] == values).all(), name
        else:
            small = held[f"{name}_quantized"]
            assert small.dtype == np.int8
            assert np.abs(small.astype(int)).max() <= 64  # 7 bits: no pair of products overflows
            assert held[f"{name}_scale"].shape == (values.shape[0],)  # one scale per channel


def test_activations_are_unsigned(weights: Path, make_scene: MakeScene) -> None:
    graph = graph_of(weights, make_scene(), 1)
    held = weights_of(graph)
    points = [n.input[2] for n in graph.graph.node if n.op_type == "QuantizeLinear"]
    assert points
    assert {held[p].dtype for p in points} == {np.dtype(np.uint8)}


def test_the_8_bit_file_carries_the_card_its_own_digest_and_how_far_it_agrees(
    weights: Path, make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "MIN_AGREEMENT", 0.9)  # random weights have many near ties
    scenes = [make_scene("a", seed=1), make_scene("b", seed=2)]
    out = tmp_path / "net.int8.onnx"
    card, result = quantize(weights, scenes[:1], scenes[1:], out, quiet)
    served = Session.load(out)
    fp32 = Session.load(weights)
    assert served.card == card
    assert card.sha256 == served.sha256 != fp32.sha256
    same = {"description": "", "sha256": None}
    assert card.model_copy(update=same) == fp32.card.model_copy(update=same)
    assert card.description == f"A net. {result.fact}"
    one, other = (classify(s, scenes[1]).classes for s in (fp32, served))
    assert result.pixels == one.size
    assert result.agreement == (one == other).mean()
    assert out.stat().st_size < 0.5 * weights.stat().st_size


def test_more_levels_stay_in_32_bits_until_the_file_agrees(
    weights: Path, make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def result(fp32: Session, small: Session, scenes: object, exact: int) -> Comparison:
        tried.append(exact)
        return Comparison(100, (0.98, 0.996, 1.0)[exact - 1], 0.8, 0.8, exact)

    monkeypatch.setattr(int8, "compare", result)
    _, selected = quantize(weights, [make_scene()], [make_scene()], tmp_path / "x.onnx", quiet)
    assert tried == [1, 2]
    assert selected.exact == 2


def test_a_file_that_disagrees_is_refused_and_not_written(
    weights: Path, make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured on imagery that is black, activations are cut where imagery is."""
    black = make_scene("black")
    black.image[:] = 1
    out = tmp_path / "net.int8.onnx"
    monkeypatch.setattr(int8, "EXACT_LEVELS", (1,))
    with pytest.raises(ExportError, match=r"8-bit file gives .* \(limit 99\.5 %\)"):
        quantize(weights, [black], [make_scene(seed=3)], out, quiet)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("agreement", "overall", "refused"),
    [
        (0.995, 0.795, ""),
        (0.9949, 0.8, "99.5 %"),
        (float("nan"), 0.8, "99.5 %"),
        (0.999, 0.7949, "0.5 points"),
        (0.999, float("nan"), "0.5 points"),
        (0.999, 0.9, ""),
    ],
)
def test_the_limits_are_99_5_per_cent_and_half_a_point(
    agreement: float, overall: float, refused: str
) -> None:
    result = Comparison(1000, agreement, overall, 0.8, 1)
    if refused:
        with pytest.raises(ExportError, match=refused):
            check(result)
    else:
        check(result)


def test_without_scenes_on_either_side_nothing_is_written(
    weights: Path, make_scene: MakeScene, tmp_path: Path
) -> None:
    blank = make_scene()
    blank.label[:] = 0
    for training, validation in (([], [make_scene()]), ([make_scene()], []), ([blank], [blank])):
        with pytest.raises(ExportError, match="8 bits need"):
            quantize(weights, training, validation, tmp_path / "x.onnx", quiet)


def test_a_file_agrees_with_itself(weights: Path, make_scene: MakeScene) -> None:
    session = Session.load(weights)
    result = compare(session, session, [make_scene()])
    assert result.agreement == 1
    assert result.overall == result.overall_fp32


def test_activations_are_measured_on_every_place(make_scene: MakeScene) -> None:
    scenes = [make_scene(f"{p}{i}", p) for p in ("x", "y") for i in range(3)]
    assert [s.name for s in spread(scenes, 5)] == ["x0", "y0", "x1", "y1", "x2"]
    assert spread([], 5) == []
