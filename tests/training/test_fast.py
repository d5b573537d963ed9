"""The network `fast`: what it maps, what is exported of it, and how it is distilled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")
onnx = pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from model.engines import DEFAULT, EngineSpec, create, offered  # noqa: E402
from model.segment import segment_blocks, segment_window  # noqa: E402
from model.session import Session  # noqa: E402
from model.windows import BLOCK  # noqa: E402
from training.config import Preset, load_preset  # noqa: E402
from training.data.crops import Crops  # noqa: E402
from training.data.dataset import SUBJECTS, Data, draft_card  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.data.splits import Split  # noqa: E402
from training.errors import CheckpointError, ExportError  # noqa: E402
from training.export.int8 import quantized  # noqa: E402
from training.export.onnx_export import export, probabilities  # noqa: E402
from training.export.stac import item_of  # noqa: E402
from training.fit.learner import Learner  # noqa: E402
from training.fit.loop import fit  # noqa: E402
from training.network.build import NETWORKS, build, fold  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402
from training.network.ensemble import Ensemble  # noqa: E402
from training.network.fast import FastNet  # noqa: E402
from training.network.initial import initialize, network_of, read_initial  # noqa: E402
from training.network.unet import parameter_count  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]
SHIPPED = Path(__file__).parents[2] / "model" / "weights" / "landcover.onnx"
CARD = ModelCard(name="test", version="1", mean=(0.4, 0.4, 0.4, 0.5), std=(0.2,) * 4, halo=32)
TINY: dict[str, object] = {"steps": 2, "warmup": 1, "crop": 32, "batch": 2, "evaluate_every": 2}


def quiet(line: str) -> None:
    """Nobody listens."""


def worn(**changes: object) -> tuple[Preset, FastNet]:
    """A network whose batch norms have seen data, and its preset."""
    torch.manual_seed(0)
    preset = load_preset("fast", **changes)
    net = build(preset).train()
    for _ in range(3):
        net(torch.randn(2, 4, 32, 32))
    return preset, net.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fast")
    preset, net = worn()
    state = Checkpoint(
        preset.model_dump(mode="json"), "data", 7, {}, net.state_dict(), {}, card=CARD.embedded()
    )
    state.save(folder / "best.pt")
    export(folder / "best.pt", folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 32, 80)])
def test_it_maps_as_the_unet_does(shape: tuple[int, int, int]) -> None:
    count, rows, cols = shape
    with torch.no_grad():
        assert FastNet().eval()(torch.zeros(count, 4, rows, cols)).shape == (count, 7, rows, cols)


def test_the_cards_number_of_parameters_is_the_networks() -> None:
    for name, kind in NETWORKS.items():
        assert SUBJECTS[name][2] == parameter_count(kind())


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_folding_batch_norm_changes_nothing(activation: str) -> None:
    _, net = worn(activation=activation)
    folded, batch = fold(net), torch.randn(2, 4, 64, 48)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(batch), net(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", list(NETWORKS.values()))
def test_no_pixel_of_a_block_depends_on_what_is_beyond_the_halo(kind: Any) -> None:  # noqa: ANN401
    net, at, side = kind().eval(), 160, 16
    image = torch.randn(1, 4, 2 * at + side, 2 * at + side, requires_grad=True)
    net(image)[0, :, at : at + side, at : at + side].sum().backward()
    touched = image.grad.abs().sum(dim=(0, 1))
    for line in (touched.sum(0), touched.sum(1)):
        reached = torch.nonzero(line).flatten()
        left, right = at - int(reached[0]), int(reached[-1]) - at - side + 1
        assert net.halo - 16 < max(left, right) <= net.halo


def test_a_halo_that_is_too_small_is_refused(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastNet, "halo", 48)
    with pytest.raises(ExportError, match="farther than the halo of 48 px"):
        export(exported.parent / "best.pt", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("spec", ["onnxruntime:fp32", "openvino:fp32"])
def test_a_pixel_has_one_class_in_every_window(exported: Path, spec: str) -> None:
    session, engine = Session.load(exported), EngineSpec.parse(spec)
    if engine not in (DEFAULT, *offered(int8=False)):
        pytest.skip("needs OpenVINO: pip install 'landcover[openvino]'")
    if engine != DEFAULT:
        session = session.with_engine(create(engine, exported.read_bytes(), None))
    halo, size = session.card.halo, session.card.window
    assert (halo, size) == (64, 640)
    assert session.halo_covers_reach
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (4, size, size + BLOCK), dtype=np.uint8)
    valid = np.ones(image.shape[1:], dtype=np.bool_)
    joined = segment_blocks(session, image, valid, 1, 2)
    for number, block in enumerate(joined):
        part = slice(number * BLOCK, number * BLOCK + size)
        alone = segment_window(session, image[:, :, part], valid[:, part])
        assert (block.classes == alone.classes).all()
        assert (block.confidence == alone.confidence).all()
    assert len(np.unique(joined[0].classes)) > 1


def test_its_file_can_be_trained_further(exported: Path) -> None:
    initial = read_initial(exported)
    batch = np.random.default_rng(0).standard_normal((1, 4, 64, 64), dtype=np.float32)
    wanted = Session.load(exported).predict(batch)
    assert np.abs(probabilities(network_of(initial), batch) - wanted).max() < 1e-5
    preset = load_preset("fast", batch_norm=True)
    net = build(preset)
    initialize(net, preset, initial, [torch.from_numpy(batch)])
    assert np.abs(probabilities(net.eval(), batch) - wanted).max() < 2e-4
    with pytest.raises(CheckpointError, match="are for fast, the preset for unet"):
        initialize(build(Preset(name="t")), Preset(name="t"), initial, [])


def test_classes_are_taken_over_by_name(exported: Path) -> None:
    initial, preset = read_initial(exported), load_preset("fast", batch_norm=False)
    classes = preset.legend.classes
    kept = [classes[4], classes[1]]
    legend = preset.legend.model_copy(
        update={
            "classes": tuple(c.model_copy(update={"value": n}) for n, c in enumerate(kept, start=1))
        }
    )
    own = preset.model_copy(update={"legend": legend})
    net = build(own)
    initialize(net, own, initial, [])
    batch = torch.randn(1, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(batch), network_of(initial)(batch)[:, [0, 5, 2]])


def test_it_is_distilled_from_a_model_file(make_scene: MakeScene, tmp_path: Path) -> None:
    scenes = tuple(make_scene(seed=i, name=f"s{i}", size=64) for i in range(2))
    data = Data(Split(scenes[:1], scenes[1:], ()), None, unlabeled=scenes[1:])
    preset = load_preset("fast", **TINY)
    with pytest.raises(CheckpointError, match="distill needs teachers"):
        fit(preset, data, tmp_path / "none", log=quiet)
    best = fit(preset, data, tmp_path / "run", teachers=[read_initial(SHIPPED)], log=quiet)
    card = export(best, tmp_path / "fast.onnx")
    assert (card.name, card.halo, card.training.steps) == ("landcover-fast", 64, 2)
    assert card.description.startswith("Small U-Net at half the resolution of 1,219,999 parameters")
    assert "distilled" in card.description
    item = item_of(tmp_path / "fast.onnx")["properties"]
    assert item["mlm:total_parameters"] == SUBJECTS["fast"][2]
    assert item_of(SHIPPED)["properties"]["mlm:total_parameters"] == SUBJECTS["unet"][2]


def test_the_student_learns_what_the_teacher_says(make_scene: MakeScene) -> None:
    scene = make_scene(seed=0, size=64)
    preset = load_preset("fast", **{**TINY, "distill": 1.0})
    card = draft_card(preset, Data(Split((scene,), (), ()), None))
    teacher = read_initial(SHIPPED)
    theirs = ModelCard.parse(teacher.card, "teacher")
    images, labels, uncertain = map(torch.from_numpy, Crops([scene], preset, card).batch(0))
    soft = Ensemble([network_of(teacher)], [theirs], card, preset.distill_flip).probabilities(
        images
    )
    learner = Learner.fresh(preset)
    wrong = torch.full_like(labels, 1)
    losses = [
        learner.step((images, wrong, uncertain), torch.ones(6), preset, 0.0, soft)
        for _ in range(25)
    ]
    learner.net.eval()
    with torch.no_grad():
        classes = learner.net(images)[:, 1:].argmax(1)
    assert losses[-1] < 0.7 * losses[0]
    assert (classes == soft.argmax(1)).float().mean() > 0.6


def test_a_teacher_may_look_once(make_scene: MakeScene) -> None:
    card = draft_card(load_preset("smoke"), Data(Split((make_scene(),), (), ()), None))
    seen = list[Any]()
    module: Any = torch.nn.Module

    class Spy(module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:  # noqa: ANN401
            seen.append(x)
            return torch.arange(7.0)[None, :, None, None].expand(1, 7, 16, 16)

    image = torch.rand(1, 4, 16, 16)
    result = Ensemble([Spy()], [card], card, flip=False).probabilities(image)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], image)
    wanted = torch.softmax(torch.arange(1.0, 7.0), dim=0)[None, :, None, None]
    torch.testing.assert_close(result, wanted.expand(1, 6, 16, 16))


def test_8_bits_spare_its_outer_levels(exported: Path) -> None:
    rng = np.random.default_rng(0)
    small = quantized(onnx.load(exported), [rng.standard_normal((4, 64, 64), dtype=np.float32)], 1)
    full, held = (
        {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
        for model in (onnx.load(exported), small)
    )
    weights = {name for name in full if name.endswith(".weight")}
    exact = {name for name in weights & held.keys() if (held[name] == full[name]).all()}
    assert exact == {
        n for n in weights if n.startswith(("down0", "join0", "up0", "down1.conv1", "last"))
    }
    session = Session(small.SerializeToString(), Session.load(exported).embedded_card())
    batch = rng.standard_normal((1, 4, 64, 64), dtype=np.float32)
    difference = np.abs(session.predict(batch) - Session.load(exported).predict(batch))
    assert difference.mean() < 0.05
