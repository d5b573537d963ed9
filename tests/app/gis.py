"""The programs that judge our layers: GDAL of the system, QGIS without a desktop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

from app.grid.tile import Tile
from model.legend import LEGEND, NODATA

SYSTEM_PYTHON = "/usr/bin/python3"
QGIS_JUDGE = Path(__file__).with_name("qgis_judge.py")
GDAL_JUDGE = Path(__file__).with_name("gdal_judge.py")
Classes = npt.NDArray[np.uint8]


def gdal(*command: str, **environment: str) -> str:
    """The output of a GDAL command of the system; skips where there is none."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} (apt-get install gdal-bin)")
    with tempfile.TemporaryDirectory() as folder:  # GDAL keeps the tiles it has fetched there
        found = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=110,
            cwd=folder,
            env=plain() | environment,
        )
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def gdal_drivers() -> set[str]:
    """The raster drivers of the system's GDAL."""
    return set(re.findall(r"^ +(\S+) -", gdal("gdalinfo", "--formats"), re.M))


def newest_gdal(tasks: list[dict[str, Any]], cwd: Path) -> list[dict[str, Any]]:
    """What the GDAL of pyogrio (3.12 and later) answers to tasks of `gdal_judge`."""
    pytest.importorskip("pyogrio")
    found = subprocess.run(
        [sys.executable, str(GDAL_JUDGE)],
        check=False,
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        timeout=110,
        cwd=cwd,
        env=plain(),
    )
    assert found.returncode == 0, found.stderr[-2000:]
    _, answers = json.loads(found.stdout)
    listed: list[dict[str, Any]] = answers
    return listed


def bands_of(answer: dict[str, Any], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """uint8 (bands, rows, cols): the pixels of an answer; `shape`: (cols, rows)."""
    assert "error" not in answer, answer
    cols, rows = shape
    bands = [np.frombuffer(bytes.fromhex(each), np.uint8) for each in answer["pixels"]]
    return np.stack(bands).reshape(-1, rows, cols)


def qgis(tasks: list[dict[str, Any]], home: Path) -> list[dict[str, Any]]:
    """What QGIS answers to tasks of `qgis_judge`; skips where it is not installed."""
    if not has_qgis():
        pytest.skip("no QGIS (apt-get install python3-qgis)")
    found = subprocess.run(
        [SYSTEM_PYTHON, str(QGIS_JUDGE)],
        check=False,
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        timeout=110,
        env=plain() | {"HOME": str(home)},
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith("QGIS-JUDGE:")]
    assert lines, (found.returncode, found.stderr[-2000:])
    answers: list[dict[str, Any]] = json.loads(lines[0].removeprefix("QGIS-JUDGE:"))
    return answers


@cache
def has_qgis() -> bool:
    """Whether the system's Python knows QGIS."""
    command = [SYSTEM_PYTHON, "-c", "import qgis.core"]
    try:
        found = subprocess.run(command, check=False, capture_output=True, env=plain())
    except OSError:
        return False
    return found.returncode == 0


def hex_colors(colormap: str = "landcover") -> dict[str, int]:
    """`#rrggbb` → class value."""
    colors = LEGEND.colors(colormap)
    return {"#{:02x}{:02x}{:02x}".format(*rgb): value for value, rgb in colors.items()}


def classes_of(path: Path, colormap: str = "landcover") -> Classes:
    """uint8 (rows, cols): the classes of an RGBA raster, 255 where transparent, 0 where a color is
    none of the legend's."""
    with rasterio.open(path) as dataset:
        return classes_in_rgba(dataset.read(), colormap)


def classes_in_rgba(bands: npt.NDArray[np.uint8], colormap: str = "landcover") -> Classes:
    """The same of uint8 (4, rows, cols)."""
    classes = np.where(bands[3] == 0, NODATA, 0).astype(np.uint8)
    for value, rgb in LEGEND.colors(colormap).items():
        hit = (bands[3] == 255) & (bands[:3] == np.array(rgb)[:, None, None]).all(axis=0)
        classes[hit] = value
    return classes


def box_of(first: Tile, last: Tile) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) in EPSG:3857 of the tiles from `first` to `last`."""
    left, _, _, top = first.bounds
    _, bottom, right, _ = last.bounds
    return left, bottom, right, top


def plain() -> dict[str, str]:
    """An environment without what the tests or the service set for GDAL, PROJ and Python."""
    foreign = ("GDAL_", "CPL_", "VSI_", "PROJ_", "PYTHON", "LANDCOVER_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        "XDG_RUNTIME_DIR": "/tmp",  # noqa: S108 - Qt asks for one
    }
