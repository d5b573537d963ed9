"""A run learns, can be killed, and goes on as if it had not been."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
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
from training.errors import CheckpointError, ComputeError, Interrupted  # noqa: E402
from training.evaluate.metrics import scores  # noqa: E402
from training.export.onnx_export import net_of  # noqa: E402
from training.fit.compute import (  # noqa: E402
    Compute,
    ComputeRequest,
    candidates,
    fastest,
    request_of,
)
from training.fit.loop import fit  # noqa: E402
from training.fit.monitor import contingency_of  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402
from training.network.schedule import decay_start, rate  # noqa: E402
from training.progress import progress_bar  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]

SHORT = Preset(name="short", crop=32, batch=4, steps=8, warmup=2, evaluate_every=4, ema=0.5)


def quiet(line: str) -> None:
    """The run is not listened to."""


@pytest.fixture
def data(make_scene: MakeScene) -> Data:
    return data_of(make_scene)


def data_of(make_scene: MakeScene) -> Data:
    scenes = [make_scene(seed=i, name=f"s{i}") for i in range(3)]
    return Data(Split(tuple(scenes[:2]), tuple(scenes[2:]), ()), None)


@pytest.fixture(scope="module")
def whole(make_scene_anywhere: MakeScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    fit(SHORT, data_of(make_scene_anywhere), folder, log=quiet)
    return folder


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    data: Data, whole: Path, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path / "parts", log=quiet, stop_after=3)
    fit(SHORT, data, tmp_path / "parts", log=quiet, stop_after=2)
    fit(SHORT, data, tmp_path / "parts", log=quiet)
    undisturbed = Checkpoint.load(whole / "last.pt")
    parts = Checkpoint.load(tmp_path / "parts" / "last.pt")
    assert undisturbed.step == parts.step == 8
    for mine, theirs in ((undisturbed.net, parts.net), (undisturbed.ema, parts.ema)):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def same(one: Path, other: Path) -> bool:
    a, b = Checkpoint.load(one), Checkpoint.load(other)
    return a.step == b.step and all(torch.equal(a.ema[k], b.ema[k]) for k in a.ema)


@pytest.mark.slow
def test_a_prolonged_run_has_the_weights_of_one_that_was_always_long(
    data: Data, whole: Path, tmp_path: Path
) -> None:
    longer = SHORT.model_copy(update={"steps": 12})
    fit(longer, data, tmp_path / "always", log=quiet)
    shutil.copytree(whole, tmp_path / "run")  # its rate has fallen
    fit(longer, data, tmp_path / "run", log=quiet)
    fit(SHORT, data, tmp_path / "early", log=quiet, stop_after=2)  # its rate has not
    fit(longer, data, tmp_path / "early", log=quiet)
    for name in ("last.pt", "best.pt"):
        for run in ("run", "early"):
            assert same(tmp_path / run / name, tmp_path / "always" / name)
        kept = (tmp_path / "run" / name.replace(".pt", "-8.pt")).read_bytes()
        assert kept == (whole / name).read_bytes()


def test_a_run_is_not_shortened_to_where_its_rate_has_fallen(
    data: Data, whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    before = sorted((tmp_path / "run").iterdir())
    with pytest.raises(CheckpointError, match="too late to change the length of the run to 6"):
        fit(SHORT.model_copy(update={"steps": 6}), data, tmp_path / "run", log=quiet)
    assert sorted((tmp_path / "run").iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_the_run_ends_as_an_undisturbed_one(
    data: Data, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    handler = signal.getsignal(number)

    def stop(share: float) -> None:
        if round(share * SHORT.steps) == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match=rf"{number.name} after step 3 of 8") as stopped:
        fit(SHORT, data, tmp_path / "parts", log=quiet, progress=stop)
    assert stopped.value.number == number
    assert signal.getsignal(number) is handler
    assert Checkpoint.load(tmp_path / "parts" / "last.pt").step == 3
    fit(SHORT, data, tmp_path / "parts", log=quiet)
    assert same(tmp_path / "parts" / "last.pt", whole / "last.pt")
    one, other = (Checkpoint.load(p / "last.pt").history for p in (tmp_path / "parts", whole))
    assert one == other


def test_a_checkpoint_is_written_when_time_has_passed(data: Data, tmp_path: Path) -> None:
    often = SHORT.model_copy(update={"checkpoint_every_s": 1e-9, "evaluate_every": 100})
    often = often.model_copy(update={"steps": 3})
    steps = []
    path = tmp_path / "last.pt"
    fit(
        often, data, tmp_path, log=quiet,
        progress=lambda share: steps.append(Checkpoint.load(path).step if path.exists() else 0),
    )  # fmt: skip
    assert steps == [0, 1, 2]  # the last step is validated and saved


def test_every_validation_is_a_line_of_json(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]
    assert all(line["steps_per_s"] > 0 and line["loss"] > 0 for line in lines)


def test_tensorboard_reads_the_curves(data: Data, tmp_path: Path) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="an extra"
    )
    fit(SHORT.model_copy(update={"steps": 4}), data, tmp_path, log=quiet, tensorboard=True)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    history = Checkpoint.load(tmp_path / "last.pt").history
    (loss,) = events.Scalars("loss")
    assert (loss.step, loss.value) == (4, pytest.approx(history[0]["loss"]))


def test_the_fastest_is_taken_and_a_hopeless_one_is_not_timed_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, naps = [0.0], {1: 0.33, 2: 5.5, 4: 0.2}
    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("training.fit.compute.time", clock)
    done = dict.fromkeys(naps, 0)
    before = torch.get_num_threads()

    def trial(compute: Compute) -> Callable[[], object]:
        assert torch.get_num_threads() == compute.threads

        def step() -> None:
            done[compute.threads] += 1
            now[0] += naps[compute.threads]

        return step

    result = fastest([Compute(threads=n) for n in naps], trial, quiet)
    torch.set_num_threads(before)
    assert result.threads == 4
    assert done == {1: 4, 2: 1, 4: 4}


def test_what_a_run_computes_with_is_recorded_and_kept(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fit.compute.available_cores", lambda: 2)
    monkeypatch.setattr("training.fit.compute.has_bfloat16", lambda device: False)
    before, lines = torch.get_num_threads(), list[str]()
    request = ComputeRequest("cpu")
    fit(SHORT, data, tmp_path, request=request, log=lines.append, stop_after=1)
    recorded = json.loads((tmp_path / "run.json").read_text())["compute"]
    assert recorded == Checkpoint.load(tmp_path / "last.pt").compute
    assert f"computing with {Compute(**recorded)}" in lines
    assert sum("s/step" in line and line.startswith("cpu") for line in lines) == 2
    lines.clear()
    fit(SHORT, data, tmp_path, request=request, log=lines.append, stop_after=1)
    assert not any("computing with" in line for line in lines)
    torch.set_num_threads(before)


def test_a_device_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ComputeError, match="no CUDA device"):
        candidates(ComputeRequest("cuda"))
    with pytest.raises(ComputeError, match="'tpu' is not one of auto, cpu, cuda"):
        request_of("tpu", None)


def test_the_bar_without_a_terminal_is_a_line_now_and_then() -> None:
    now, lines = [0.0], list[str]()
    with progress_bar("fit", 1000) as bar:
        bar.clock = lambda: now[0]
        bar.log = lines.append  # type: ignore[method-assign,assignment]
        for step in range(0, 101, 10):
            now[0] = float(step)
            bar.update(step / 1000)
    assert lines == [
        f"fit: step {n} of 1,000, 1.00 steps/s, {left} min left"
        for n, left in ((30, 16), (60, 16), (90, 15))
    ]


def test_another_preset_or_other_data_is_not_resumed(
    data: Data, make_scene: MakeScene, tmp_path: Path
) -> None:
    fit(SHORT, data, tmp_path, log=quiet, stop_after=1)
    with pytest.raises(CheckpointError, match=r"learning_rate is 0\.1"):
        fit(SHORT.model_copy(update={"learning_rate": 0.1}), data, tmp_path, log=quiet)
    other = Data(Split((make_scene(seed=9),), data.validation["real"], ()), None)
    with pytest.raises(CheckpointError, match="other data"):
        fit(SHORT, other, tmp_path, log=quiet)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
