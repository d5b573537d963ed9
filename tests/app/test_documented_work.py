"""The commands of docs/planners.md and the session of docs/client.md, word for word on Demo County.

Only the server's address is another one. The model is the shipped one, so that the hectares of the
page are checked, too.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyogrio
import pytest
import rasterio

from app.demo import write_county
from model.legend import LEGEND, NODATA
from tests.app.running import server
from tests.snippets import DOCS, snippet, snippets
from tests.world.world import World

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "model" / "weights" / "landcover.onnx"
ROWS = {
    "buildings": "buildings", "roads, parking": "roads", "water": "water",
    "open or bare": "bare", "forest": "forest", "planted": "planted",
}  # fmt: skip


@pytest.fixture(scope="module")
def county(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over Demo County."""
    folder = tmp_path_factory.mktemp("county")
    write_county(folder)
    with server(World(folder, ()), MODEL, tmp_path_factory.mktemp("jobs")) as (base, _):
        yield base


@pytest.fixture(scope="module")
def session(county: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder in which the page's commands ran, and the JSON documents that they wrote."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    folder = tmp_path_factory.mktemp("planner")
    script = "\n".join(["set -euo pipefail", *snippets("planners.md", "sh")])
    script, count = re.subn(r"^SERVER=.*$", f"SERVER={county}", script, flags=re.MULTILINE)
    assert count == 1
    done = subprocess.run(
        ["bash", "-c", script], check=False, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    decoder, text, documents = json.JSONDecoder(), done.stdout.strip(), []
    while text.startswith("{"):
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].strip()
    (folder / "matrix.csv").write_text(text)  # the one table that the page does not save
    return folder, documents


def test_the_commands_for_areas_answer_with_the_hectares_of_the_page(
    session: tuple[Path, list[Any]],
) -> None:
    folder, (estimate, feature, _) = session
    assert estimate["blocks"] > 0
    classes = feature["properties"]["statistics"]["classes"]
    mapped = {each["name"]: round(each["hectares"], 1) for each in classes}
    page = (DOCS / "planners.md").read_text("utf-8")
    documented = {
        name: float(re.findall(rf"^\| {title} \| ([0-9.]+) ", page, re.MULTILINE)[0])
        for title, name in ROWS.items()
    }
    # Engines differ in a few pixels of a thousand, and the page is of one of them.
    assert mapped == pytest.approx(documented, abs=0.2)
    with (folder / "hectares.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: round(float(rows[name]["hectares"]), 1) for name in mapped} == mapped


def test_the_downloads_open(session: tuple[Path, list[Any]]) -> None:
    folder, _ = session
    for name in ("creek.tif", "box.tif"):
        with rasterio.open(folder / name) as dataset:
            assert (dataset.dtypes, dataset.nodata, dataset.res) == (("uint8",), NODATA, (1, 1))
            values = set(dataset.read(1).ravel().tolist())
        assert values <= {*LEGEND.values, NODATA}
        assert len(values) >= 5
    with zipfile.ZipFile(folder / "creek.zip") as archive:
        suffixes = {name.partition(".")[2] for name in archive.namelist()}
    assert {"tif", "tif.aux.xml", "qml", "clr", "csv"} <= suffixes
    assert pyogrio.read_info(folder / "creek.gpkg", layer="classes")["features"] > 10


def test_the_commands_for_change_answer_and_save(session: tuple[Path, list[Any]]) -> None:
    folder, (_, _, change) = session
    text = json.dumps(change)
    assert all(f'"{name}"' in text for name in ROWS.values())
    with (folder / "matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["2013 \\ 2017", *ROWS.values()]
    assert [row[0] for row in rows[1:]] == list(ROWS.values())
    with zipfile.ZipFile(folder / "change.zip") as archive:
        assert any(name.endswith(".tif") for name in archive.namelist())


def test_the_python_session_runs(
    county: str,
    session: tuple[Path, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, (_, feature, _) = session
    monkeypatch.chdir(folder)
    source, count = re.subn(
        r"http://localhost:8000", county, snippet("client.md", "python", "Client(")
    )
    assert count == 1
    names: dict[str, Any] = {}
    exec(compile(source, "client.md", "exec"), names)  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert "title" in ast.literal_eval(printed[0])
    assert {"km2", "blocks", "cached", "seconds", "bytes"} <= ast.literal_eval(printed[1]).keys()
    expected = feature["properties"]["statistics"]["classes"]
    assert ast.literal_eval(printed[2])["classes"] == expected
    assert all(name in printed[-1] for name in ROWS.values())
    with (
        rasterio.open(folder / "classes.tif") as job,
        rasterio.open(folder / "creek.tif") as direct,
    ):
        assert (job.read(1) == direct.read(1)).all()
