"""A run starts from a model file: with its very classes, and better on one's own ground at the
end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.autotune import PROBE  # noqa: E402
from model.card import ModelCard  # noqa: E402
from model.legend import LEGEND, LandCoverClass, Legend  # noqa: E402
from model.normalize import normalize  # noqa: E402
from model.session import Session  # noqa: E402
from training.config import Preset, load_preset  # noqa: E402
from training.data.dataset import Data  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.data.splits import Split  # noqa: E402
from training.errors import CheckpointError  # noqa: E402
from training.evaluate.metrics import scores  # noqa: E402
from training.export.onnx_export import export, probabilities  # noqa: E402
from training.fit.loop import fit  # noqa: E402
from training.fit.monitor import contingency_of  # noqa: E402
from training.network.build import build  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402
from training.network.initial import initialize, network_of, read_initial  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]
SHIPPED = Path(__file__).parents[2] / "model" / "weights" / "landcover.onnx"


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def real() -> list[Any]:
    """Normalized real imagery: float32 (1, 4, 144, 144) each."""
    card = Session.load(SHIPPED).card
    with np.load(PROBE) as kept:
        return [torch.from_numpy(normalize(image, card)[None]) for image in kept["images"][:4]]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_weights_of_a_model_file_give_its_probabilities(
    real: list[Any], batch_norm: bool
) -> None:
    preset = Preset(name="t", batch_norm=batch_norm)
    net = build(preset)
    initialize(net, preset, read_initial(SHIPPED), real[:2])
    session = Session.load(SHIPPED)
    for image in real:
        theirs = session.predict(image.numpy())
        mine = probabilities(net.eval(), image.numpy())
        assert np.abs(mine - theirs).max() < 2e-4
        assert (mine.argmax(1) == theirs.argmax(1)).mean() > 0.9999


def test_batch_norm_keeps_what_was_learned_in_training_too(real: list[Any]) -> None:
    preset = Preset(name="t", dropout=(0.0,) * 5)
    net = build(preset)
    batch = torch.cat(real)
    initialize(net, preset, read_initial(SHIPPED), [batch])
    with torch.no_grad():
        evaluated, training = net.eval()(batch), net.train()(batch)
    same = evaluated[:, 1:].argmax(1) == training[:, 1:].argmax(1)
    assert same.float().mean() > 0.999


def test_bands_and_classes_are_taken_over_by_name(real: list[Any]) -> None:
    legend = Legend(
        classes=(
            LEGEND[3].model_copy(update={"value": 1}),
            LandCoverClass(value=2, name="lawn", title="Lawn", color_hint="00FF00"),
            LEGEND[1].model_copy(update={"value": 3}),
        )
    )
    preset = Preset(name="t", batch_norm=False, bands=("nir", "red", "edge"), legend=legend)
    net, fresh = build(preset), {}
    fresh = {name: value.clone() for name, value in net.state_dict().items()}
    initial = read_initial(SHIPPED)
    initialize(net, preset, initial, [])
    now, theirs = net.state_dict(), initial.ema
    first = "down.0.conv1.weight"
    assert torch.equal(now[first][:, 0], theirs[first][:, 3])
    assert torch.equal(now[first][:, 1], theirs[first][:, 0])
    assert torch.equal(now[first][:, 2], fresh[first][:, 2])
    for tensor in ("last.weight", "last.bias"):
        assert torch.equal(now[tensor][[1, 3]], theirs[tensor][[3, 1]])
        assert torch.equal(now[tensor][2], fresh[tensor][2])
    assert torch.equal(now["down.4.conv2.weight"], theirs["down.4.conv2.weight"])


def test_what_is_no_model_file_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "x.onnx"
    with pytest.raises(CheckpointError, match=r"no model file at .*x\.onnx"):
        read_initial(bad)
    bad.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"x\.onnx is not a model file"):
        read_initial(bad)
    with pytest.raises(CheckpointError, match="in 8 bits: start from the file in 32 bits"):
        read_initial(SHIPPED.with_suffix(".int8.onnx"))
    with pytest.raises(CheckpointError, match=r"landcover\.card\.json is not a checkpoint"):
        read_initial(SHIPPED.with_suffix(".card.json"))


@pytest.mark.slow
def test_finetuning_improves_a_place_that_the_shipped_model_never_saw(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    """The made ground has colors of its own, on which the shipped model is wrong."""
    scenes = [make_scene(seed=i, name=f"s{i}", size=64) for i in range(4)]
    data = Data(Split(tuple(scenes[:3]), tuple(scenes[3:]), ()), None)
    preset = load_preset("finetune", steps=24, warmup=2, crop=32, batch=4, evaluate_every=12)
    lines = list[str]()
    initial = read_initial(SHIPPED)
    best = fit(preset, data, tmp_path, init_from=initial, log=lines.append)
    card = ModelCard.parse(Checkpoint.load(best).card, "card")
    shipped = Session.load(SHIPPED).card
    assert (card.mean, card.std) == (shipped.mean, shipped.std)
    before, after = (
        scores(contingency_of(network_of(c), data.validation["real"], card)).overall
        for c in (initial, Checkpoint.load(best))
    )
    assert after > before + 0.2
    table = (tmp_path / "before_after.md").read_text()
    assert f"{100 * before:.1f} % → {100 * after:.1f} %" in table
    assert table.strip() in "\n".join(lines)
    exported = export(best, tmp_path / "m.onnx")
    assert exported.training.steps == initial.step + 24
