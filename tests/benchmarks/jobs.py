"""Jobs against the pure inference of their blocks; what they cost from 1 to 64 km²; Dask."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import psutil
import rasterio
from affine import Affine
from rasterio.windows import Window as RasterWindow
from shapely import to_geojson, transform
from shapely.geometry import box

from app.grid.pixel_grid import PixelGrid, transformer
from app.jobs.files import Folder
from app.jobs.job import Spec, spec_of
from app.jobs.local import LocalRunner
from app.services import Services
from app.settings import SHIPPED_MODEL, Settings
from model.cores import available_cores
from model.windows import BLOCK, Window
from tests.benchmarks.inference import GEMM, flops_of
from tests.benchmarks.report import Finding, seconds

GRID = PixelGrid("EPSG:26916")
FIRST_COL, FIRST_ROW = 1000, 12000
EDGE = 18
"""Blocks along the edge of the imagery: 16 and one of context on every side."""

ALABAMA_KM2 = 131_000
DOLLARS = 0.04
"""Assumed price of a core-hour."""


def write_noise(path: Path, edge: int = EDGE) -> None:
    """Imagery of noise: what the network sees does not change what it costs."""
    random = np.random.default_rng(0)
    size = edge * BLOCK
    extent = Window((FIRST_COL - 1) * BLOCK, (FIRST_ROW - 1) * BLOCK, size, size)
    options = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "crs": GRID.crs}
    where: Affine = GRID.transform(extent)
    shape = {"width": size, "height": size, "count": 4, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", transform=where, **shape, **options) as raster:
        for row in range(0, size, BLOCK):
            pixels = random.integers(1, 255, (4, BLOCK, size), dtype=np.uint8)
            raster.write(pixels, window=RasterWindow(0, row, size, BLOCK))


def square(services: Services, cols: int, rows: int) -> Spec:
    """A job of cols × rows whole blocks."""
    window = Window(FIRST_COL * BLOCK, FIRST_ROW * BLOCK, cols * BLOCK, rows * BLOCK)
    left, bottom, right, top = GRID.bounds(window)
    # A meter within: the edge in degrees must not touch a neighbor.
    ground = box(left + 1, bottom + 1, right - 1, top - 1).segmentize(100)
    project = transformer(GRID.crs, "OGC:CRS84").transform
    area = json.loads(to_geojson(transform(ground, project, interleaved=False)))
    return spec_of(services, "classify-area", area, outputs=("cog", "statistics"))


@contextmanager
def local_of(imagery: Path, workers: int = 0, scheduler: str = "") -> Iterator[LocalRunner]:
    """Yield a fresh runner that keeps nothing in memory."""
    settings = Settings(
        imagery=imagery, cache_memory_mb=0, infer_workers=workers, scheduler=scheduler
    )
    with closing(LocalRunner(Services(settings))) as local:
        yield local


def run(local: LocalRunner, cols: int, rows: int) -> tuple[float, int]:
    """(seconds of a job with its raster, most resident bytes meanwhile)."""
    process, most = psutil.Process(), 0

    def look(_: int, __: int) -> None:
        nonlocal most
        most = max(most, process.memory_info().rss)

    spec = square(local.services, cols, rows)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Folder(Path(scratch))
        began = time.perf_counter()
        local.compute(spec, folder, (0, 1), look)
        local.write(spec, folder, Path(scratch) / "out.tif")
        took = time.perf_counter() - began
    look(0, 0)
    return took, most


def measure(edge: int = 16) -> list[Finding]:
    """All findings; `edge`: blocks along the edge of the largest job, less to try it out."""
    cores = available_cores()
    with tempfile.TemporaryDirectory() as folder:
        imagery = Path(folder) / "m_3208601_nw_16_1_20170903.tif"
        write_noise(imagery)
        with local_of(imagery) as local:
            return [
                *_throughput(local, cores, min(edge, 10)),
                *_growth(local, edge),
                *_dask(imagery, min(edge, 6)),
            ]


def _throughput(local: LocalRunner, cores: int, edge: int) -> list[Finding]:
    session = local.services.model(None)
    size = session.card.window
    window = np.random.default_rng(0).standard_normal((1, 4, size, size)).astype(np.float32)
    matrix = np.random.default_rng(1).standard_normal((GEMM, GEMM)).astype(np.float32)
    blocks, times = edge * edge, 10
    with ThreadPoolExecutor(cores) as pool:

        def infer() -> None:
            list(pool.map(lambda _: session.predict(window), range(blocks // 2)))

        def multiply() -> None:
            list(pool.map(lambda _: [matrix @ matrix for _ in range(times)], range(cores)))

        run(local, 1, 1)
        multiply()
        # Either side of the job, as shared cores change their speed.
        bare, gemm = seconds(infer), seconds(multiply)
        took, _ = run(local, edge, edge)
        bare += seconds(infer)
        gemm = (gemm + seconds(multiply)) / 2
    bare *= blocks / (2 * (blocks // 2))
    rate = blocks * BLOCK**2 / took / cores
    hours = ALABAMA_KM2 * 1e6 / rate / 3600
    flops = flops_of(SHIPPED_MODEL, size) * blocks / took
    best = 2 * GEMM**3 * times * cores / gemm
    km2 = blocks * BLOCK**2 / 1e6
    return [
        Finding(
            f"job of {km2:.0f} km², whole blocks, as a share of pure inference",
            bare / took,
            0.9,
            True,
            f"{rate / 1e3:.0f} k useful pixels a second and core; Alabama ({ALABAMA_KM2:,} km², "
            f"1 m): {hours:,.0f} core-hours, {hours * DOLLARS:,.0f} dollars at an assumed "
            f"{DOLLARS} a core-hour",
        ),
        Finding(
            "the same as a share of sgemm",
            flops / best,
            0.65,
            True,
            f"{flops / 1e9:.0f} of {best / 1e9:.0f} GFLOP/s",
        ),
    ]


def _growth(local: LocalRunner, edge: int) -> list[Finding]:
    small = [run(local, 2, 2) for _ in range(5)]
    large = run(local, edge, edge)
    small += [run(local, 2, 2) for _ in range(4)]
    per_small = float(np.median([took for took, _ in small])) / 4
    per_large = large[0] / edge**2
    early = max(most for _, most in small[:5])
    km2 = edge**2 * BLOCK**2 / 1e6
    return [
        Finding(
            f"cost per km² at {km2:.0f} km² over that at 1 km²",
            per_large / per_small,
            1.1,
            False,
            f"{per_large * 1000:.0f} over {per_small * 1000:.0f} ms a block",
        ),
        Finding(
            f"RSS of a job of {km2:.0f} km² over one of 1 km²",
            large[1] / early,
            1.1,
            False,
            f"{large[1] / 1e6:.0f} over {early / 1e6:.0f} MB",
        ),
    ]


def _dask(imagery: Path, edge: int) -> list[Finding]:
    try:
        from distributed import LocalCluster
    except ImportError:
        return []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        local_of(imagery, 1, cluster.scheduler_address) as there,
        local_of(imagery, 2) as here,
    ):
        run(there, 2, 2), run(here, 2, 2)
        pairs = [(run(here, edge, edge)[0], run(there, edge, edge)[0]) for _ in range(3)]
    return [
        Finding(
            "Dask LocalCluster, 2 workers of one thread, as a share of 2 threads here",
            float(np.median([ours / theirs for ours, theirs in pairs])),
            0.9,
            True,
            ", ".join(f"{theirs:.1f} against {ours:.1f} s" for ours, theirs in pairs),
        )
    ]
