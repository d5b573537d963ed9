"""A run learns, can be killed, and goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Pillow

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from model.legend import LEGEND, rgb_of  # noqa: E402
from training.config import Preset  # noqa: E402
from training.data.dataset import Data, draft_card  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.data.splits import Split  # noqa: E402
from training.errors import CheckpointError  # noqa: E402
from training.evaluate.metrics import scores  # noqa: E402
from training.export.onnx_export import net_of  # noqa: E402
from training.fit.loop import fit  # noqa: E402
from training.fit.monitor import contingency_of  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402
from training.network.schedule import decay_start, rate  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]

SHORT = Preset(name="short", crop=32, batch=4, steps=8, warmup=2, evaluate_every=4, ema=0.5)


def quiet(line: str) -> None:
    """The run is not listened to."""


@pytest.fixture
def data(make_scene: MakeScene) -> Data:
    scenes = [make_scene(seed=i, name=f"s{i}") for i in range(3)]
    return Data(Split(tuple(scenes[:2]), tuple(scenes[2:]), ()), None)


def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    data: Data, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path / "whole", log=quiet)
    fit(SHORT, data, tmp_path / "parts", log=quiet, stop_after=3)
    fit(SHORT, data, tmp_path / "parts", log=quiet, stop_after=2)
    fit(SHORT, data, tmp_path / "parts", log=quiet)
    whole = Checkpoint.load(tmp_path / "whole" / "last.pt")
    parts = Checkpoint.load(tmp_path / "parts" / "last.pt")
    assert whole.step == parts.step == 8
    for mine, theirs in ((whole.net, parts.net), (whole.ema, parts.ema)):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_may_be_prolonged_before_its_rate_falls_and_not_after(
    data: Data, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path, log=quiet, stop_after=4)
    longer = SHORT.model_copy(update={"steps": 12})
    fit(longer, data, tmp_path, log=quiet)
    assert Checkpoint.load(tmp_path / "last.pt").step == 12
    with pytest.raises(CheckpointError, match="too late"):
        fit(SHORT.model_copy(update={"steps": 20}), data, tmp_path, log=quiet)


def test_another_preset_or_other_data_is_not_resumed(
    data: Data, make_scene: MakeScene, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path, log=quiet, stop_after=1)
    with pytest.raises(CheckpointError, match=r"learning_rate is 0\.1"):
        fit(SHORT.model_copy(update={"learning_rate": 0.1}), data, tmp_path, log=quiet)
    other = Data(Split((make_scene(seed=9),), data.validation["real"], ()), None)
    with pytest.raises(CheckpointError, match="other data"):
        fit(SHORT, other, tmp_path, log=quiet)


def test_a_run_begins_from_the_judged_weights_of_another(data: Data, tmp_path: Path) -> None:
    first = Checkpoint.load(fit(SHORT, data, tmp_path / "first", log=quiet))
    still = SHORT.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0})
    fit(still, data, tmp_path / "second", init_from=first, log=quiet, stop_after=1)
    fit(still, data, tmp_path / "second", init_from=first, log=quiet)
    second = Checkpoint.load(tmp_path / "second" / "last.pt")
    assert (second.before, second.step) == (first.step, 8)
    assert torch.allclose(second.net["last.weight"], first.ema["last.weight"], atol=1e-6)
    with pytest.raises(CheckpointError, match="other data"):
        fit(still, data, tmp_path / "second", log=quiet)


def test_a_run_is_normalized_like_the_one_that_it_begins_from(
    data: Data, make_scene: MakeScene, tmp_path: Path
) -> None:
    first = Checkpoint.load(fit(SHORT, data, tmp_path / "first", log=quiet))
    other = Data(Split((make_scene(seed=9),), (), ()), None)
    assert draft_card(SHORT, other).mean != draft_card(SHORT, data).mean
    fit(SHORT, other, tmp_path / "second", init_from=first, log=quiet)
    second = Checkpoint.load(tmp_path / "second" / "last.pt")
    theirs, mine = (ModelCard.parse(c.card, "card") for c in (first, second))
    assert (mine.mean, mine.std) == (theirs.mean, theirs.std)


def test_a_run_in_bfloat16_learns_and_keeps_float32_weights(data: Data, tmp_path: Path) -> None:
    half = SHORT.model_copy(update={"precision": "bfloat16"})
    fit(half, data, tmp_path / "half", log=quiet)
    fit(SHORT, data, tmp_path / "full", log=quiet)
    half_net = Checkpoint.load(tmp_path / "half" / "last.pt").net
    full_net = Checkpoint.load(tmp_path / "full" / "last.pt").net
    weights = half_net["down.0.conv1.weight"]
    assert weights.dtype == torch.float32
    assert not torch.equal(weights, full_net["down.0.conv1.weight"])
    torch.testing.assert_close(weights, full_net["down.0.conv1.weight"], atol=0.05, rtol=0)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        Checkpoint.load(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Checkpoint.load(tmp_path / "none.pt")


@pytest.mark.slow
def test_the_made_world_is_learned(make_scene: MakeScene, tmp_path: Path) -> None:
    scenes = [make_scene(seed=i, name=f"s{i}") for i in range(4)]
    data = Data(Split(tuple(scenes[:3]), tuple(scenes[3:]), ()), None)
    preset = Preset(
        name="overfit",
        crop=32,
        batch=8,
        steps=120,
        warmup=10,
        evaluate_every=60,
        learning_rate=3e-3,
        ema=0.9,
        dropout=(0.0,) * 5,
        gain=(0.9, 1.1),
        band_gain=(0.95, 1.05),
        offset=(-5.0, 5.0),
        gamma=(0.95, 1.05),
        noise=(0.0, 2.0),
    )
    best = fit(preset, data, tmp_path, log=quiet)
    net = net_of(Checkpoint.load(best))
    figures = scores(contingency_of(net, data.validation["real"], draft_card(preset, data)))
    assert figures.overall > 0.9
    assert figures.macro_f1 > 0.9


def test_a_run_without_validation_keeps_its_last_weights(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    data = Data(Split((make_scene(),), (), ()), None)
    best = Checkpoint.load(fit(SHORT, data, tmp_path, log=quiet))
    assert best.step == 8


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    preset = Preset(name="test", steps=1000, warmup=100, decay=0.4)
    rates = np.array([rate(preset, step) for step in range(1000)])
    assert decay_start(preset) == 600
    assert (np.diff(rates[:100]) > 0).all()
    assert (rates[99:600] == 1).all()
    assert (np.diff(rates[600:]) < 0).all()
    assert rates[-1] < 1e-4


def test_a_run_shows_its_curves_and_what_it_says_of_scenes_it_does_not_learn_from(
    data: Data, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path, log=quiet)
    history = Checkpoint.load(tmp_path / "last.pt").history
    assert [entry["step"] for entry in history] == [4, 8]
    assert all(entry["loss"] > 0 for entry in history)
    drawn = ElementTree.parse(tmp_path / "curves.svg").getroot()  # noqa: S314 (our own)
    lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
    named = {text.text for text in drawn.findall("{http://www.w3.org/2000/svg}text")}
    assert {"training loss", "real macro f1", "real overall"} <= named
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 2, 2]
    with Pillow.open(tmp_path / "samples.png") as sheet:
        pixels = np.asarray(sheet)
    (kept,) = data.validation["real"]
    side = kept.label.shape[0]
    colors = {tuple(rgb_of(c.color_hint)) for c in LEGEND.classes} | {(255, 255, 255)}
    label = pixels[:side, 196 : 196 + side].reshape(-1, 3)
    assert {tuple(int(v) for v in pixel) for pixel in label} <= colors


def test_a_run_goes_on_after_the_program_has_learned_a_new_setting(
    data: Data, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path, log=quiet, stop_after=4)
    state = Checkpoint.load(tmp_path / "last.pt")
    del state.preset["infrared_contrast"]
    state.save(tmp_path / "last.pt")
    fit(SHORT, data, tmp_path, log=quiet)
    assert Checkpoint.load(tmp_path / "last.pt").step == 8
    state.save(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="infrared_contrast is"):
        fit(SHORT.model_copy(update={"infrared_contrast": (0.5, 2.0)}), data, tmp_path, log=quiet)
