"""The command line: what it writes, what it says, and how it ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import uvicorn
from rich.console import Console
from typer.testing import CliRunner, Result

from app import __version__
from app.cli import cli, server, terminal
from app.settings import Settings
from model.legend import NODATA
from tests.world.graphs import classes_by_hand, decided, probabilities_by_hand
from tests.world.scenes import write_scene
from tests.world.world import World


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables on a terminal wide enough for every path."""
    monkeypatch.setattr(terminal, "out", Console(width=400))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def one_line_of(result: Result, code: int = 2) -> str:
    """What a refused command says: one line, an exit code, no traceback."""
    assert result.exit_code == code, result.output
    lines = result.output.strip().splitlines()
    assert len(lines) == 1, result.output
    assert lines[0].startswith("error: ")
    return lines[0]


def altered(model: Path, folder: Path) -> Path:
    """A copy of a model one byte of which is not what its card promises."""
    for path in model.parent.glob(f"{model.stem}*"):
        shutil.copy(path, folder / path.name)
    copy = folder / model.name
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(bytes(content))
    return copy


def test_doctor_names_every_file_that_is_not_served_and_why(
    bad_files: dict[str, Path], pixelwise_model: Path, tmp_path: Path
) -> None:
    write_scene(tmp_path / "m_3208601_nw_16_1_20170903.tif", cols=300, rows=260, overviews=False)
    for path in bad_files.values():
        shutil.copy(path, tmp_path / path.name)
    result = run("doctor", "--imagery", tmp_path, "--model", pixelwise_model)
    assert result.exit_code == 0, result.output
    assert "1 scenes, years 2017, CRS EPSG:26916" in result.output
    assert f"{len(bad_files)} files skipped" in result.output
    reasons = {
        "three_band": "has 3 bands",
        "uint16": "is uint16",
        "ungeoreferenced": "has no CRS",
        "truncated": "is truncated",
        "vrt": "cannot be opened",
        "empty": "cannot be opened",
        "text": "cannot be opened",
    }
    assert set(reasons) == set(bad_files)
    for kind, reason in reasons.items():
        (line,) = [line for line in result.output.splitlines() if f"{kind}.tif " in line]
        assert reason in line


def test_doctor_says_when_everything_is_served(two_quads: World, pixelwise_model: Path) -> None:
    result = run("doctor", "--imagery", two_quads.directory, "--model", pixelwise_model)
    assert result.exit_code == 0, result.output
    assert "Everything is served." in result.output
    assert "skipped" not in result.output
    assert "pixelwise 1.0" in result.output


def test_classify_writes_the_classes_of_the_whole_scene(
    pixelwise_model: Path, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "in.tif", cols=700, rows=530, collar=20, overviews=False)
    out = tmp_path / "new" / "folder" / "out.tif"
    result = run("classify", scene.path, out, "--model", pixelwise_model)
    assert result.exit_code == 0, result.output
    assert f"Wrote {out}" in result.output
    with rasterio.open(out) as dataset:
        found = dataset.read(1)
        assert tuple(dataset.bounds) == scene.bounds
        assert dataset.crs.to_epsg() == scene.epsg
    valid = scene.valid()
    sure = decided(probabilities_by_hand("pixelwise", scene.image())) & valid
    assert (found[sure] == classes_by_hand("pixelwise", scene.image())[sure]).all()
    assert (found[~valid] == NODATA).all()
    assert (found[valid] != NODATA).all()
    assert np.unique(found[valid]).tolist() == [1, 2, 3, 4, 5, 6]


def test_classify_of_a_missing_scene_ends_with_one_line(
    pixelwise_model: Path, tmp_path: Path
) -> None:
    missing, out = tmp_path / "gone.tif", tmp_path / "out.tif"
    line = one_line_of(run("classify", missing, out, "--model", pixelwise_model))
    assert f"{missing}: no such file" in line
    assert not out.exists()


@pytest.mark.parametrize(
    "kind", ["three_band", "uint16", "ungeoreferenced", "truncated", "vrt", "empty", "text"]
)
def test_classify_of_a_bad_scene_ends_with_one_line(
    bad_files: dict[str, Path], pixelwise_model: Path, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out.tif"
    line = one_line_of(run("classify", bad_files[kind], out, "--model", pixelwise_model))
    assert f"{kind}.tif" in line
    assert not any(tmp_path.iterdir())


def test_classify_onto_a_directory_ends_with_one_line_and_leaves_nothing(
    pixelwise_model: Path, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "in.tif", cols=300, rows=260, overviews=False)
    out = tmp_path / "out.tif"
    out.mkdir()
    result = run("classify", scene.path, out, "--model", pixelwise_model)
    assert result.exit_code == 2, result.output
    assert "directory" in result.output.splitlines()[-1]
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.tif", "out.tif"]
    assert not any(out.iterdir())


def commands_that_need_imagery() -> Sequence[str]:
    return ("serve", "doctor")


@pytest.mark.parametrize("command", commands_that_need_imagery())
def test_without_imagery_it_says_how_to_give_it(command: str, pixelwise_model: Path) -> None:
    assert "--imagery" in one_line_of(run(command, "--model", pixelwise_model))


def test_serve_on_a_port_in_use_ends_with_one_line(two_quads: World, pixelwise_model: Path) -> None:
    options = ("--imagery", two_quads.directory, "--model", pixelwise_model, "--port")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = one_line_of(run("serve", *options, port), 3)
    assert f"127.0.0.1:{port}, address already in use" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("host", "shown"),
    [("::1", "http://[::1]:8"), ("0.0.0.0", "http://localhost:8"), ("::", "http://localhost:8")],
)
def test_the_printed_address_works(
    host: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server._announce(uvicorn.Config("app", host=host), 8)
    assert f"{shown}/map" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands_that_need_imagery())
def test_with_missing_imagery_it_ends_with_one_line(
    command: str, pixelwise_model: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "nowhere"
    line = one_line_of(run(command, "--imagery", missing, "--model", pixelwise_model))
    assert f"{missing}: no such directory" in line


@pytest.mark.parametrize("command", commands_that_need_imagery())
def test_an_empty_directory_ends_with_one_line(
    command: str, pixelwise_model: Path, tmp_path: Path
) -> None:
    line = one_line_of(run(command, "--imagery", tmp_path, "--model", pixelwise_model))
    assert "no GeoTIFF in it" in line


@pytest.mark.parametrize("command", commands_that_need_imagery())
def test_an_altered_model_is_refused_with_one_line(
    command: str, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    model = altered(pixelwise_model, tmp_path)
    line = one_line_of(run(command, "--imagery", two_quads.directory, "--model", model))
    assert "the model is refused" in line
    assert "sha256" in line


def test_a_missing_model_is_refused_with_one_line(two_quads: World, tmp_path: Path) -> None:
    missing = tmp_path / "none.onnx"
    line = one_line_of(run("serve", "--imagery", two_quads.directory, "--model", missing))
    assert str(missing) in line


def test_a_path_in_brackets_is_shown_as_it_is(pixelwise_model: Path, tmp_path: Path) -> None:
    for name in ("[old]", "[/]"):
        missing = Path(f"{tmp_path}{name}")
        line = one_line_of(run("doctor", "--imagery", missing, "--model", pixelwise_model))
        assert str(missing) in line


def test_a_skipped_file_in_brackets_is_named_as_it_is(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    write_scene(tmp_path / "good.tif", cols=300, rows=260, overviews=False)
    (tmp_path / "[red]odd[bold].tif").write_text("no image")
    result = run("doctor", "--imagery", tmp_path, "--model", pixelwise_model)
    assert result.exit_code == 0, result.output
    assert "[red]odd[bold].tif" in result.output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("DEADLINE_S", "0"),
        ("INFER_WORKERS", "-1"),
        ("REFRESH_S", "soon"),
        ("CORS_ORIGINS", "https://a.org"),
    ],
)
def test_a_setting_out_of_range_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, two_quads: World, name: str, value: str
) -> None:
    monkeypatch.setenv(f"LANDCOVER_{name}", value)
    line = one_line_of(run("serve", "--imagery", two_quads.directory))
    assert name in line.upper()


def test_the_version_is_the_package_s() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"landcover {__version__}\n")


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "app.cli", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout == f"landcover {__version__}\n"


def test_the_settings_page_names_every_variable() -> None:
    result = run("settings")
    assert result.exit_code == 0
    rows = [line for line in result.output.splitlines() if line.startswith("| `LANDCOVER_")]
    assert [row.split("`")[1] for row in rows] == [
        f"LANDCOVER_{name.upper()}" for name in Settings.model_fields
    ]
