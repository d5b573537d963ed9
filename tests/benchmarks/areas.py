"""Areas from 1 to 64 km²: what a km² costs and how memory grows; hectares against the truth."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from shapely.geometry import mapping

from app.grid.pixel_grid import NORTH, transformer
from app.render.geotiff import CREATION
from model.legend import LEGEND
from model.windows import BLOCK
from tests.benchmarks.report import Finding
from tests.benchmarks.served import SERVE, Served, served
from tests.world.ground import class_at, ground

CRS = "EPSG:26916"
SIDES = (2, 4, 8, 16)
"""Blocks along a square: 1.05, 4.2, 16.8 and 67.1 km², whole blocks, so that all work is useful."""

COL, ROW = 980, 12_400
SPARE = 2
"""Blocks of imagery around the largest square."""

UNLIMITED = {
    "LANDCOVER_AREA_BLOCKS": "100000",
    "LANDCOVER_DEADLINE_S": "100000",
    "LANDCOVER_CACHE_MEMORY_MB": "0",
    "MALLOC_ARENA_MAX": "2",
}


def measure_areas(_: Path) -> list[Finding]:
    """CPU per km² and peak memory of statistics and download, over HTTP, the shipped model."""
    with tempfile.TemporaryDirectory(prefix="landcover-") as folder:
        _write_imagery(Path(folder))
        environment = {"LANDCOVER_IMAGERY": folder, **UNLIMITED}
        with served(SERVE, environment) as server:
            # Arenas and pools grow to their size on ground that is not asked for again.
            _ask(server, SIDES[0], offset=SIDES[-1] - 2)
            costs = []
            peaks = []
            for side in SIDES:
                before = _cpu(server)
                _ask(server, side)
                km2 = (side * BLOCK / 1000) ** 2
                costs.append((_cpu(server) - before) / km2)
                peaks.append(_peak(server))
    listed = ", ".join(
        f"{(s * 0.512) ** 2:.0f} km²: {c:.2f} s" for s, c in zip(SIDES, costs, strict=True)
    )
    return [
        Finding(
            "CPU per km² of an area, highest over lowest, 1 to 67 km²",
            max(costs) / min(costs),
            1.1,
            False,
            f"{listed} of CPU per km²; statistics and GeoTIFF, each anew",
        ),
        Finding(
            "peak memory with an area of 67 km² over that with 1 km²",
            peaks[-1] / peaks[0],
            1.1,
            False,
            f"{peaks[-1] / 1e6:.0f} MB over {peaks[0] / 1e6:.0f} MB; nothing cached",
        ),
    ]


POLYGONS = """
import sys
from pathlib import Path
from app.area.vector_files import write_polygons
from app.imagery import gdal
from app.render.attribute_table import table_of
from model.legend import LEGEND

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

gdal.configure(64)
before = kilobytes("VmRSS")
count = write_polygons(Path(sys.argv[1]), table_of(LEGEND), Path(sys.argv[2]))
print(count, before, kilobytes("VmHWM"))
"""


def measure_polygons(_: Path) -> Finding:
    """Memory that a process needs for the class polygons of 67 km², half of them in one forest."""
    side = SIDES[-1] * BLOCK
    with tempfile.TemporaryDirectory(prefix="landcover-") as folder:
        raster, target = Path(folder) / "classes.tif", Path(folder) / "classes.gpkg"
        x = COL * BLOCK + np.arange(side, dtype=np.float64) + 0.5
        y = NORTH - ROW * BLOCK - np.arange(side, dtype=np.float64) - 0.5
        place = {"crs": CRS, "transform": Affine(1, 0, COL * BLOCK, 0, -1, NORTH - ROW * BLOCK)}
        size = {"width": side, "height": side}
        with rasterio.open(raster, "w", **CREATION, **size, **place) as dataset:
            for row in range(0, side, BLOCK):
                classes = class_at(x[None, :], y[row : row + BLOCK, None])
                forest = np.where(classes > 3, 5, classes).astype(np.uint8)
                dataset.write(forest, 1, window=rasterio.windows.Window(0, row, side, BLOCK))
        command = [sys.executable, "-c", POLYGONS, str(raster), str(target)]
        began = time.perf_counter()
        text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        took = time.perf_counter() - began
    count, before, peak = (int(word) for word in text.split())
    return Finding(
        "memory of class polygons of 67 km², above the process's own, over 200 MB",
        (peak - before) * 1024 / 200e6,
        1.0,
        False,
        f"from {before / 1e3:.0f} to {peak / 1e3:.0f} MB, {count:,} polygons in {took:.0f} s",
    )


def measure_hectares(county: Path) -> Finding:
    """A polygon of Demo County: what is mapped against the ground it was made from."""
    area = shapely.Polygon(
        [
            (-86.9475, 32.9345),
            (-86.9420, 32.9300),
            (-86.9350, 32.9315),
            (-86.9300, 32.9365),
            (-86.9310, 32.9430),
            (-86.9370, 32.9470),
            (-86.9440, 32.9440),
        ]
    )
    truth = _truth(county, area)
    with served(SERVE, {"LANDCOVER_IMAGERY": str(county)}) as server:
        answer = httpx.post(
            f"{server.base}/statistics?year=2017", json=mapping(area), timeout=600
        ).json()
    found = answer["properties"]["statistics"]["classes"]
    rows, off = [], 0.0
    for entry in found:
        true = truth[entry["value"]]
        off += abs(entry["hectares"] - true) / 2
        by = ", ".join(f"{k} {v:.1f}" for k, v in entry["adjusted"]["by_assessment"].items())
        rows.append(f"{entry['name']} {entry['hectares']:.1f} (true {true:.1f}; adjusted {by})")
    share = off / sum(truth[value] for value in LEGEND.values)
    return Finding("hectares in the wrong class", share, 0.1, False, "; ".join(rows))


def _write_imagery(folder: Path) -> None:
    """One scene of made ground, a piece of it again and again: its content does not matter."""
    blocks = SIDES[-1] + 2 * SPARE
    side = blocks * BLOCK
    left, top = (COL - SPARE) * BLOCK, NORTH - (ROW - SPARE) * BLOCK
    x = left + np.arange(2 * BLOCK, dtype=np.float64) + 0.5
    y = top - np.arange(2 * BLOCK, dtype=np.float64) - 0.5
    piece = ground(x[None, :], y[:, None])
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": side, "height": side, "count": 4, "dtype": "uint8",
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate",
        "zlevel": 1, "interleave": "pixel", "crs": CRS,
        "transform": Affine(1, 0, left, 0, -1, top),
    }  # fmt: skip
    with rasterio.open(folder / "m_3208601_nw_16_1_20170903.tif", "w", **profile) as dataset:
        for row in range(0, side, 2 * BLOCK):
            for col in range(0, side, 2 * BLOCK):
                window = rasterio.windows.Window(col, row, 2 * BLOCK, 2 * BLOCK)
                dataset.write(piece, window=window)


def _ask(server: Served, side: int, offset: int = 0) -> None:
    """Statistics and download of a square of whole blocks."""
    left, top = (COL + offset) * BLOCK, NORTH - ROW * BLOCK
    # A hair inside, so that no neighboring block is touched.
    square = shapely.box(left, top - side * BLOCK, left + side * BLOCK, top).buffer(-0.01)
    back = transformer(CRS, "OGC:CRS84").transform
    body = mapping(shapely.transform(square.segmentize(200), back, interleaved=False))
    for path in ("/statistics", "/feature.tif"):
        answer = httpx.post(f"{server.base}{path}", json=body, timeout=3600)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")


def _cpu(server: Served) -> float:
    times = server.process.cpu_times()
    return float(times.user + times.system)


def _peak(server: Served) -> float:
    """Most bytes that were ever resident (VmHWM)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) * 1024


def _truth(county: Path, area: shapely.Polygon) -> dict[int, float]:
    """True hectares by class in 2017; where quarters overlap they show the same ground."""
    shape = shapely.transform(area, transformer("OGC:CRS84", CRS).transform, interleaved=False)
    left, bottom, right, top = (int(value) for value in shape.bounds)
    whole = np.zeros((top - bottom + 2, right - left + 2), dtype=np.uint8)
    affine = Affine(1, 0, left, 0, -1, top + 1)
    for path in sorted((county / "truth").glob("*_2017*_label.tif")):
        with rasterio.open(path) as dataset:
            window = dataset.window(left, top + 1 - whole.shape[0], left + whole.shape[1], top + 1)
            part = dataset.read(1, window=window, boundless=True, fill_value=0)
        whole = np.where(part > 0, part, whole)
    inside = geometry_mask([shape], whole.shape, affine, invert=True)
    counts = np.bincount(whole[inside], minlength=256)
    return {value: float(counts[value]) / 1e4 for value in LEGEND.values}
