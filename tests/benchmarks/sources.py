"""Catalogs, remote reads, and whether reading hides behind inference."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import random
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import rasterio
from affine import Affine
from rasterio.shutil import copy as raster_copy
from rio_tiler.io import Reader as RioTiler

from app.grid.pixel_grid import Block, PixelGrid
from app.grid.tile import TMS, Tile
from app.imagery import gdal, mosaic
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.catalog.index import Index, IndexStore
from app.imagery.catalog.temporal import LATEST
from app.imagery.reader import Reader
from app.imagery.scene import ReadOptions, Scene, inspect
from app.imagery.store.object_store import ObjectStore
from app.imagery.store.reach import Reach
from app.landcover.blocks import Selection
from app.landcover.source import Source
from app.sampling.pictures import encode, picture
from app.scheduling import Pool, prefetch
from app.services import Services
from app.settings import SHIPPED_MODEL, Settings
from model.windows import BLOCK, Window, cover
from tests.benchmarks.report import Finding, paired
from tests.world.range_server import range_server
from tests.world.scenes import write_scene

SCENES = 10_000
QUAD_M = 6000.0
HALO = 96


def measure_catalog(count: int = SCENES) -> list[Finding]:
    """An index of that many files; a tile's scene look-up in it; what it holds in memory."""
    gdal.configure()
    with tempfile.TemporaryDirectory() as folder:
        _write_quads(Path(folder) / "naip", count)
        store = IndexStore(Path(folder) / "index.json", ReadOptions())
        began = time.perf_counter()
        directory = DirectoryCatalog(Path(folder) / "naip", ReadOptions(), store)
        cold = time.perf_counter() - began
        began = time.perf_counter()
        DirectoryCatalog(Path(folder) / "naip", ReadOptions(), store)
        warm = time.perf_counter() - began
    process = psutil.Process()
    before = process.memory_info().rss
    # Ten times as many, so that the memory of the search trees, which is not Python's, shows too.
    copy = Index([_copied(scene, str(n)) for n in range(10) for scene in directory.scenes])
    held = (process.memory_info().rss - before) / 1e6 / 10
    draw, times = random.Random(1), []
    for _ in range(300):
        scene = draw.choice(copy.scenes)
        left, bottom = scene.bounds[0], scene.bounds[1]
        grid = PixelGrid(scene.crs)
        window = grid.touching((left - 152, bottom - 152, left + 552, bottom + 552))
        began = time.perf_counter()
        found = copy.search(scene.crs, grid.bounds(window), LATEST)
        mosaic.ordered(found, grid, window)
        times.append((time.perf_counter() - began) * 1000)
    look = statistics.median(times)
    return [
        Finding(
            f"index of {count:,} files, s for 10,000", cold * SCENES / count, 10, False,
            f"{cold:.1f} s; {warm:.1f} s when none has changed",
        ),
        Finding(
            f"scenes of a block among {10 * count:,}, ms", look, 2, False,
            f"median of {len(times)}; slowest {max(times):.2f} ms",
        ),
        Finding(
            f"memory of {count:,} scenes, MB for 10,000", held * SCENES / count, 100, False,
            f"{held:.1f} MB, measured on {10 * count:,}",
        ),
    ]  # fmt: skip


def measure_remote(blocks: int = 20) -> list[Finding]:
    """Requests and bytes of cold blocks over HTTP, against the least that is possible."""
    gdal.configure()
    requested = sent = least_requested = least_sent = 0
    with tempfile.TemporaryDirectory() as folder:
        path = _cog(Path(folder), 4200, 3800)
        scene, draw = inspect(path, ReadOptions()), random.Random(3)
        extent = scene.extent(PixelGrid(scene.crs))
        assert extent is not None
        with range_server(Path(folder)) as server:
            for _ in range(blocks):
                far = ObjectStore("far", reach=Reach([server.base]))
                size = BLOCK + 2 * HALO
                col, row = draw.randrange(4200 - size), draw.randrange(3800 - size)
                window = Window(extent.col + col, extent.row + row, size, size)
                before = (len(server.requested), server.nbytes)
                remote = _at(scene, server.url(path), "far")
                Reader({"far": far}).read(remote, PixelGrid(scene.crs), window)
                requested += len(server.requested) - before[0]
                sent += server.nbytes - before[1]
                header, tiles = _layout(path, Window(col, row, size, size))
                least_sent += header + sum(length for _, length in tiles)
                least_requested += 1 + len(_runs(tiles))
                far.close()
    return [
        Finding(
            "requests of a cold remote block over the least possible",
            requested / least_requested, 1.2,
            False, f"{requested / blocks:.1f} over {least_requested / blocks:.1f}, {blocks} blocks",
        ),
        Finding(
            "bytes of a cold remote block over the least possible", sent / least_sent, 1.2,
            False, f"{sent / blocks / 1e6:.2f} over {least_sent / blocks / 1e6:.2f} MB",
        ),
    ]  # fmt: skip


def measure_picture(tiles: int = 12) -> Finding:
    """True-color tiles of one scene, against rio-tiler on the same open file.

    In a process of its own: rio-tiler needs GDAL's VRT driver, which the service switches off.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _all_drivers) as pool:
        ratio, ours, peer = pool.submit(_pictures, tiles).result()
    return Finding(
        "an imagery tile over rio-tiler's", ratio, 1.0, False,
        f"{ours * 1000:.0f} over {peer * 1000:.0f} ms, WebP",
    )  # fmt: skip


def _all_drivers() -> None:
    os.environ.pop("GDAL_SKIP", None)


def _pictures(tiles: int) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = _cog(Path(folder), 4200, 3800)
        source = Source("one", "", "", DirectoryCatalog(path, ReadOptions()), Pool("read", 1))
        west, south, east, north = source.bounds
        middle = TMS.tile((west + east) / 2, (south + north) / 2, 17)
        addresses = itertools.cycle(
            (middle.x + number % 4 - 2, middle.y + number // 4 % 4 - 2) for number in range(16)
        )
        ours = Reader()
        with RioTiler(str(path)) as reader:

            def paint() -> None:
                x, y = next(addresses)
                encode(picture(ours, source, LATEST, Tile(17, x, y), "rgb"), "webp")

            def peer() -> None:
                x, y = next(addresses)
                reader.tile(x, y, 17, indexes=(1, 2, 3)).render(img_format="WEBP")

            return paired(paint, peer, rounds=tiles)


def measure_area(rounds: int = 3, side: int = 4, delay_s: float = 0.05) -> Finding:
    """An area over a source that takes 50 ms a request, against the same area from disk."""
    with tempfile.TemporaryDirectory() as folder:
        edge = side * BLOCK + 2 * HALO + BLOCK
        path = _cog(Path(folder), edge, edge)
        with range_server(Path(folder), delay_s=delay_s) as server:
            toml = Path(folder) / "sources.toml"
            toml.write_text(
                f'[[source]]\nid = "far"\ntype = "cogs"\nurls = ["{server.url(path)}"]\n'
                f'[[source]]\nid = "near"\ntype = "directory"\npath = "{path}"\n'
            )
            pairs = []
            for number in range(rounds):
                times = {}
                for name in ("far", "near") if number % 2 else ("near", "far"):
                    with _opened(toml) as services:
                        times[name] = _seconds_of_area(services, name, side)
                pairs.append((times["far"], times["near"]))
    return Finding(
        f"an area over {delay_s * 1000:.0f} ms a request over the same from disk",
        statistics.median(far / near for far, near in pairs),
        1.15,
        False,
        f"{side * side} blocks: {statistics.median(far for far, _ in pairs):.1f} over "
        f"{statistics.median(near for _, near in pairs):.1f} s",
    )


@contextmanager
def _opened(toml: Path) -> Iterator[Services]:
    services = Services(Settings(sources=toml, model=SHIPPED_MODEL, refresh_s=0))
    try:
        yield services
    finally:
        services.close()


def _seconds_of_area(services: Services, name: str, side: int) -> float:
    source = services.sources.get(name)
    (grid,) = source.grids()
    extent = source.catalog.scenes[0].extent(grid)
    assert extent is not None
    col, row = (-(-(edge + HALO) // BLOCK) * BLOCK for edge in (extent.col, extent.row))
    window = Window(col, row, side * BLOCK, side * BLOCK)
    selection = Selection(source, LATEST, services.model(None))

    async def run() -> int:
        blocks = [Block.of(grid, part) for part in cover(window)]
        look, most = services.landcover.block, 2 * services.infers.workers
        found = prefetch(blocks, lambda block: look(selection, block), most)
        return len([block async for block, classified in found if classified is not None])

    began = time.perf_counter()
    if asyncio.run(run()) != side * side:
        raise RuntimeError("the area has other blocks than planned")
    return time.perf_counter() - began


def _write_quads(folder: Path, count: int) -> None:
    """Quads of 6 km in a square, of four years; each file holds 8 × 8 pixels of zeros of its own
    size on the ground (750 m), so that only headers cost."""
    folder.mkdir()
    across = round(count**0.5)
    profile = {"driver": "GTiff", "width": 6000, "height": 6000, "count": 4, "dtype": "uint8"}
    how = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "crs": 26916}
    for number in range(count):
        x = 200_000 + number % across * (QUAD_M - 300)
        y = 4_500_000 - number // across * (QUAD_M - 300)
        name = f"m_{3_000_000 + number}_nw_16_1_{2013 + 2 * (number % 4)}0701.tif"
        where = {"transform": Affine(1, 0, x, 0, -1, y)}
        with rasterio.open(folder / name, "w", **profile, **how, **where):
            pass


def _copied(scene: Scene, name: str) -> Scene:
    """The same scene with nothing shared, so that its memory counts."""
    return Scene(
        id=scene.id + name,
        href=scene.href + name,
        crs=scene.crs,
        bounds=tuple(value + 0.0 for value in scene.bounds),  # type: ignore[arg-type]
        resolution=scene.resolution,
        acquired=scene.acquired[:-1] + scene.acquired[-1],
        nodata=scene.nodata,
        identity=scene.identity[:-1] + scene.identity[-1],
    )


def _at(scene: Scene, href: str, store: str) -> Scene:
    return Scene(
        scene.id, href, scene.crs, scene.bounds, scene.resolution, scene.acquired, scene.nodata,
        "1", store=store,
    )  # fmt: skip


def _cog(folder: Path, cols: int, rows: int) -> Path:
    plain = write_scene(folder / "plain.dat", cols=cols, rows=rows, overviews=False, blocksize=512)
    path = folder / "m_3208601_nw_16_1_20170903.tif"
    options = {"driver": "COG", "blocksize": 512, "compress": "deflate"}
    raster_copy(plain.path, path, overview_resampling="average", **options)
    return path


def _layout(path: Path, window: Window) -> tuple[int, list[tuple[int, int]]]:
    """(bytes before the first tile, (offset, size) of the tiles under a window), from the TIFF."""
    data = path.read_bytes()
    at = struct.unpack_from("<I", data, 4)[0]
    tags = {}
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, count, value = struct.unpack_from("<HHII", data, at + 2 + 12 * entry)
        tags[tag] = (kind, count, value)
    across = -(-tags[256][2] // 512)
    count = tags[324][1]
    offsets = struct.unpack_from(f"<{count}I", data, tags[324][2])
    form = f"<{count}" + {3: "H", 4: "I"}[tags[325][0]]
    sizes = struct.unpack_from(form, data, tags[325][2])
    last_row, last_col = (window.row_stop - 1) // 512, (window.col_stop - 1) // 512
    tiles = [
        (offsets[y * across + x], sizes[y * across + x])
        for y in range(window.row // 512, last_row + 1)
        for x in range(window.col // 512, last_col + 1)
    ]
    header = max(value + count * 4 for _, count, value in (tags[324], tags[325]))
    return header, tiles


def _runs(tiles: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Tiles with those that lie next to each other (a COG keeps 8 bytes between) made one."""
    runs: list[tuple[int, int]] = []
    for offset, size in sorted(tiles):
        if runs and offset - sum(runs[-1]) <= 16:
            runs[-1] = (runs[-1][0], offset + size - runs[-1][0])
        else:
            runs.append((offset, size))
    return runs
