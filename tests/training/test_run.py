"""From drawn labels to a served model in one run: killed, refused and changed, and as if nothing
had been."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.session import Session  # noqa: E402
from tests.training.drawn import draw, town, traced  # noqa: E402
from training.cli.pipeline import perform  # noqa: E402
from training.cli.recipe import load_recipe  # noqa: E402
from training.data.chip_splits import read_split  # noqa: E402
from training.data.chips import ChipSettings, cut  # noqa: E402
from training.data.custom_dataset import held_out_scenes, read_custom, write_test_labels  # noqa: E402
from training.data.files import sha256  # noqa: E402
from training.data.imagery import inspect_image  # noqa: E402
from training.data.labels import LabelSettings, label, label_path, write_label  # noqa: E402
from training.data.manifest import read_manifest  # noqa: E402
from training.errors import ChipError, DiskError, PresetError, StepError  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]

FIT = """
[fit]
preset = "smoke"
steps = {steps}
warmup = 1
precision = "float32"
evaluate_every = 2
crop = 32
batch = 2
"""


def quiet(line: str) -> None:
    """Nobody listens."""


def ask(folder: Path, steps: int = 4, more: str = "") -> Path:
    """Four made towns, their labels drawn, and a run that learns from them."""
    scenes = town(folder / "img", 4, side=96)
    shapes, codes = [], []
    for scene in scenes:
        polygons, values = traced(scene)
        shapes += polygons
        codes += values
    draw(folder / "drawn.gpkg", shapes, codes)
    text = f'imagery = "img"\nthreads = 1\n[labels]\nsource = "drawn.gpkg"\n{more}'
    text += "[chips]\nsize = 64\nstride = 32\n" + FIT.format(steps=steps)
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def contents(folder: Path) -> dict[str, str]:
    """Digests of what a run made, records of versions and times aside."""
    return {
        p.relative_to(folder).as_posix(): sha256(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in {"run.json", "log.jsonl"} and p.suffix != ".pt"
    }


def same_weights(one: Path, other: Path) -> bool:
    a, b = Checkpoint.load(one / "fit" / "last.pt"), Checkpoint.load(other / "fit" / "last.pt")
    return a.step == b.step and all(torch.equal(a.ema[k], b.ema[k]) for k in a.ema)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, `run`, that was not disturbed."""
    folder = tmp_path_factory.mktemp("made")
    perform(load_recipe(ask(folder)), folder / "run")
    return folder


def test_a_run_ends_in_a_model_that_the_server_loads(synthetic: Path) -> None:
    session = Session.load(synthetic / "run" / "landcover.onnx")
    session.check_card()
    assert session.card.training.steps in {2, 4}  # the better of two checkpoints
    (found,) = session.card.accuracy
    assert found.pixels > 0
    record = json.loads((synthetic / "run" / "run.json").read_text())
    assert record["preset"]["chips"]["size"] == 64
    assert record["data"]["image town0_2017"] == sha256(synthetic / "img" / "town0_2017.tif")
    assert {"python", "torch", "numpy", "rasterio", "onnx"} <= record["versions"].keys()
    assert record["git"] is None or len(record["git"]) >= 40
    assert list(record["steps"]) == [
        "mosaic", "labels", "chips", "split", "fit", "export", "evaluate"
    ]  # fmt: skip
    assert (synthetic / "run" / "evaluation" / "test.html").is_file()


def test_test_ground_is_not_learned_from(synthetic: Path) -> None:
    split = json.loads((synthetic / "run" / "split.json").read_text())["sides"]
    data = read_custom(synthetic / "run" / "chips", synthetic / "run" / "split.json")
    trained_on = {s.name.split(":")[0] for s in data.train}
    selected = {s.name.split(":")[0] for s in data.validation["real"]}
    tested = {i.split(":")[0] for i in split["test"]}
    assert len(trained_on | selected | tested) == len(trained_on) + len(selected) + len(tested) == 4
    result = json.loads((synthetic / "run" / "evaluation" / "test.json").read_text())
    assert {s["name"] for s in result["scenes"]} == tested


def test_labels_of_the_test_are_those_of_its_chips_alone(synthetic: Path, tmp_path: Path) -> None:
    run = synthetic / "run"
    manifest, split = read_manifest(run / "chips"), read_split(run / "split.json")
    written = write_test_labels(run / "labels", manifest, split.sides, tmp_path)
    scenes = held_out_scenes(synthetic / "img", run / "labels", manifest, split, split.sides)
    assert len(written) == len(scenes) == 1
    with rasterio.open(written[0]) as raster:
        assert (raster.read(1) == scenes[0].label).all()
    assert scenes[0].label.any()


@pytest.mark.slow
def test_what_is_unchanged_is_not_done_again(
    synthetic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(synthetic, tmp_path / "copy")
    folder = tmp_path / "copy"
    perform(load_recipe(folder / "run.toml"), folder / "run")
    assert capfd.readouterr().out.count("unchanged") == 7
    # What came out was damaged: that step is done again, and ends in what it was.
    (folder / "run" / "chips" / "3_water.h5").write_bytes(b"half")
    perform(load_recipe(folder / "run.toml"), folder / "run")
    issue = capfd.readouterr().out
    assert "chips: unchanged" not in issue
    assert issue.count("unchanged") == 6
    assert contents(folder / "run") == contents(synthetic / "run")
    # What goes in has changed: so has what follows from it.
    text = (folder / "run.toml").read_text().replace("stride = 32", "stride = 16")
    (folder / "run.toml").write_text(text)
    perform(load_recipe(folder / "run.toml"), folder / "run")
    issue = capfd.readouterr().out
    assert "labels: unchanged" in issue
    assert "fit: unchanged" not in issue


@pytest.mark.slow
def test_the_same_run_gives_the_same_model(synthetic: Path, tmp_path: Path) -> None:
    perform(load_recipe(synthetic / "run.toml"), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(synthetic / "run")


@pytest.mark.slow
def test_attribution_and_more_steps_do_not_begin_anew(
    synthetic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(synthetic, tmp_path / "copy")
    folder = tmp_path / "copy"
    toml = folder / "run.toml"
    toml.write_text('attribution = "NAIP; labels by me"\n' + toml.read_text())
    perform(load_recipe(toml), folder / "run")
    output = capfd.readouterr().out
    assert "fit: unchanged" in output
    assert "export: unchanged" not in output
    assert Session.load(folder / "run" / "landcover.onnx").card.attribution == "NAIP; labels by me"
    toml.write_text(toml.read_text().replace("steps = 4", "steps = 8"))
    perform(load_recipe(toml), folder / "run")
    output = capfd.readouterr().out
    assert "resumed after step 3" in output  # the step before the rate decays
    assert Checkpoint.load(folder / "run" / "fit" / "last.pt").step == 8
    assert Checkpoint.load(folder / "run" / "fit" / "last-4.pt").step == 4
    assert same_weights(folder / "run", perform(load_recipe(toml), tmp_path / "long").parent)


@pytest.mark.slow
def test_a_changed_fit_is_moved_aside(
    synthetic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(synthetic, tmp_path / "copy")
    folder = tmp_path / "copy"
    before = sha256(folder / "run" / "fit" / "last.pt")
    toml = folder / "run.toml"
    toml.write_text(toml.read_text().replace("batch = 2", "batch = 3\nlearning_rate = 1e-4"))
    perform(load_recipe(toml), folder / "run")
    assert "as batch, learning_rate changed; what there was is kept in" in capfd.readouterr().out
    assert sha256(folder / "run" / "fit.1" / "last.pt") == before
    assert sha256(folder / "run" / "fit" / "last.pt") != before


KILLER = """
import os, signal, sys
from pathlib import Path
import h5py
from training.cli import pipeline
from training.cli.recipe import load_recipe
from training.data import chips
from training.fit import learner

step, left = sys.argv[3], int(sys.argv[4])

def counted(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

if step == "chips":
    chips.Chip = counted(chips.Chip)
else:
    learner.Learner.step = counted(learner.Learner.step)
pipeline.perform(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("step", "after"), [("chips", 7), ("fit", 3)])
def test_a_killed_run_ends_as_an_undisturbed_one(
    synthetic: Path, tmp_path: Path, step: str, after: int
) -> None:
    killed = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(synthetic / "run.toml"), str(killed), step, str(after)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=110,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not (killed / "landcover.onnx").exists()
    if step == "chips":
        assert not (killed / "chips").exists()  # no half files under a whole file's name
    else:
        assert Checkpoint.load(killed / "fit" / "last.pt").step == 2
    perform(load_recipe(synthetic / "run.toml"), killed)
    assert contents(killed) == contents(synthetic / "run")
    assert same_weights(killed, synthetic / "run")
    assert not list(killed.rglob(".*"))


def fill(folder: Path) -> None:
    """Leaves no byte free."""
    with (folder / "full").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system is mounted by root only")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a tmpfs be mounted")
    yield folder
    for _ in range(20):
        if not subprocess.run(["umount", str(folder)], check=False).returncode:
            break
        time.sleep(0.1)


def test_chips_on_a_full_disk_are_refused_and_leave_nothing(
    tmp_path: Path, small_disk: Path
) -> None:
    for synthetic in town(tmp_path / "img", 2, side=400):
        write_label(
            synthetic.classes(),
            inspect_image(synthetic.path),
            label_path(tmp_path / "l", inspect_image(synthetic.path)),
        )
    settings = ChipSettings(size=64, stride=32)
    with pytest.raises(DiskError, match=r"no room for .*chips"):
        cut(tmp_path / "img", tmp_path / "l", settings, small_disk / "chips", log=quiet)
    assert list(small_disk.iterdir()) == []


def test_labels_on_a_full_disk_are_refused_and_leave_nothing(
    tmp_path: Path, small_disk: Path
) -> None:
    (scene,) = town(tmp_path / "img", 1, side=160)
    polygons, codes = traced(scene)
    source = draw(tmp_path / "d.gpkg", polygons, codes)
    fill(small_disk)
    with pytest.raises(DiskError, match=r"no room for .*_label\.tif"):
        label(tmp_path / "img", LabelSettings(source=source), small_disk / "out", quiet)
    assert not list(small_disk.rglob("*.tif"))


@pytest.mark.slow
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(
    synthetic: Path, small_disk: Path, tmp_path: Path
) -> None:
    with pytest.raises((StepError, DiskError), match="no room"):
        perform(load_recipe(synthetic / "run.toml"), small_disk / "run")
    assert not (small_disk / "run" / "landcover.onnx").exists()
    shutil.copytree(small_disk / "run", tmp_path / "moved")
    perform(load_recipe(synthetic / "run.toml"), tmp_path / "moved")
    assert contents(tmp_path / "moved") == contents(synthetic / "run")


def test_a_truncated_chip_file_is_never_learned_from(synthetic: Path, tmp_path: Path) -> None:
    shutil.copytree(synthetic / "run" / "chips", tmp_path / "chips")
    largest = max((tmp_path / "chips").glob("*.h5"), key=lambda p: p.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    with pytest.raises(ChipError, match=f"{largest.name} is truncated"):
        read_custom(tmp_path / "chips", synthetic / "run" / "split.json")


@pytest.mark.parametrize(
    ("before", "after", "issue"),
    [
        ("size = 64", "size = 65", "multiple of 16"),
        ("size = 64", "sizes = 64", "sizes"),
        ("batch = 2", "batches = 2", "batches"),
        ('preset = "smoke"', 'preset = "none"', "there are"),
        ('imagery = "img"', "", "imagery"),
    ],
)
def test_an_impossible_value_is_named_before_anything_is_done(
    synthetic: Path, tmp_path: Path, before: str, after: str, issue: str
) -> None:
    text = (synthetic / "run.toml").read_text()
    assert before in text
    (tmp_path / "run.toml").write_text(text.replace(before, after))
    with pytest.raises(PresetError, match=issue):
        load_recipe(tmp_path / "run.toml")


def test_a_folder_of_something_else_is_not_written_into(synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(StepError, match="is not empty and not a run"):
        perform(load_recipe(synthetic / "run.toml"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.docx"]


@pytest.mark.real
@pytest.mark.slow
def test_real_polygons_become_a_model(
    real_data: Path, tmp_path: Path, make_run: Callable[[Path, Path], Path]
) -> None:
    folder = real_data / "labels" / "chico"
    (tmp_path / "img").mkdir()
    for name in ("chico_2018_17", "chico_2020_80", "chico_2020_10"):
        shutil.copy(folder / f"{name}.tif", tmp_path / "img")
    model = make_run(tmp_path, real_data / "labels" / "polygons.geojson")
    card = Session.load(model).card
    assert card.training.steps in {2, 4}
    assert card.accuracy[0].pixels > 40_000
    manifest = json.loads((tmp_path / "run" / "chips" / "manifest.json").read_text())
    assert sum(c["stored"] for c in manifest["classes"]) == 3
    assert np.sum([c["pixels"] for c in manifest["chips"]]) == 46_124 + 47_872 + 45_213


@pytest.fixture
def make_run() -> Callable[[Path, Path], Path]:
    def build(folder: Path, source: Path) -> Path:
        text = f'imagery = "img"\nthreads = 1\n[labels]\nsource = "{source}"\n'
        text += 'image_field = "chip"\n' + FIT.format(steps=4)
        (folder / "run.toml").write_text(text)
        return perform(load_recipe(folder / "run.toml"), folder / "run")

    return build


@pytest.mark.parametrize(
    ("words", "issue"),
    [
        (["chips", "img", "labels", "--size", "65"], "multiple of 16"),
        (["labels", "img", "none.gpkg"], "no imagery"),
        (["split", "none"], "no chips in none"),
        (["run", "none.toml"], "no run at none.toml"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    words: list[str],
    issue: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from training.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["landcover-train", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert issue in error
    assert "Traceback" not in error


def test_the_former_name_of_the_initial_checkpoint_is_still_read(tmp_path: Path) -> None:
    recipe = 'imagery = "img"\n[labels]\nsource = "x.gpkg"\n[fit]\n{} = "a/last.pt"\n'
    (tmp_path / "old.toml").write_text(recipe.format("begin"))
    (tmp_path / "new.toml").write_text(recipe.format("init_from"))
    old, new = (load_recipe(tmp_path / name) for name in ("old.toml", "new.toml"))
    assert old == new
    assert old.fit.init_from == tmp_path / "a" / "last.pt"
