"""Coarse scenes carry the mode of the net's own classes, Demo County's the mode of its truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from training.config import Preset  # noqa: E402
from training.data.crops import Crops  # noqa: E402
from training.data.dataset import Data, draft_card  # noqa: E402
from training.data.resolution import block_mean, mode_with_tiebreak  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.data.splits import Split  # noqa: E402
from training.errors import CheckpointError  # noqa: E402
from training.fit.loop import fit  # noqa: E402
from training.network.build import build  # noqa: E402
from training.network.inference import classes_of, coarse_scenes  # noqa: E402
from training.network.unet import UNet  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]

OWN = Preset(
    name="own", crop=32, batch=2, steps=2, warmup=1, evaluate_every=1, synthetic_share=0.0,
    held_out=(), left_out=(), validation_share=0.0, coarse_share=1.0, distill_coarse=True,
    clean=1.0, blur=0.0,
)  # fmt: skip


@pytest.fixture
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(name="s", resolution=1.0)


@pytest.fixture
def card(scene: Scene) -> ModelCard:
    return draft_card(OWN, Data(Split((scene,), (), ()), None))


@pytest.fixture
def net() -> UNet:
    torch.manual_seed(1)
    built: UNet = build(OWN).to(memory_format=torch.channels_last).eval()
    return built


def test_a_coarse_scene_is_averaged_and_labeled_with_the_mode_of_what_the_net_says(
    scene: Scene, card: ModelCard, net: UNet
) -> None:
    result = coarse_scenes(net, [scene], card)
    assert sorted(result) == [2, 4, 8]
    whole = tuple(n - n % 8 for n in scene.label.shape)
    image = scene.image[:, : whole[0], : whole[1]]
    fine = classes_of(net, image, card)
    for factor, (coarse,) in result.items():
        assert coarse.resolution == factor
        assert (coarse.image == block_mean(image, factor)).all()
        assert (coarse.label == mode_with_tiebreak(fine, factor)).all()


def test_demo_county_keeps_its_truth_and_what_is_unlabeled_stays_so(
    scene: Scene, card: ModelCard, net: UNet
) -> None:
    label = np.full_like(scene.label, 5)
    label[:16, :16] = 0
    result = coarse_scenes(net, [replace(scene, label=label, synthetic=True)], card)
    for factor, (coarse,) in result.items():
        edge = 16 // factor
        assert (coarse.label[:edge, :edge] == 0).all()
        assert (coarse.label[edge:, edge:] == 5).all()


def test_imagery_coarser_than_the_card_teaches_nothing(
    scene: Scene, card: ModelCard, net: UNet
) -> None:
    assert coarse_scenes(net, [replace(scene, resolution=5.0)], card) == {}


def test_coarse_crops_are_drawn_from_those_scenes(scene: Scene, card: ModelCard, net: UNet) -> None:
    own = {4: (replace(scene, image=np.full_like(scene.image, 77), resolution=4.0),)}
    images, _, _ = Crops([scene], OWN, card, own).batch(0)
    assert np.ptp(images, axis=(2, 3)).max() == 0


def test_it_learns_from_a_run_it_begins_from_or_refuses(scene: Scene, tmp_path: Path) -> None:
    data = Data(Split((scene,), (), ()), None)
    with pytest.raises(CheckpointError, match="--init-from"):
        fit(OWN, data, tmp_path, log=lambda line: None)
