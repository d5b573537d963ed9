"""Cold blocks, a cold viewport and a warm tile of Demo County, against their bare minimum."""

from __future__ import annotations

import asyncio
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import morecantile
import numpy as np
from fastapi import FastAPI
from starlette.responses import Response

from app.grid.pixel_grid import Block, transformer
from app.grid.projection import cells_under
from app.grid.tile import Tile
from app.imagery.catalog.temporal import TemporalFilter
from app.landcover.blocks import Selection
from app.sampling.tiles import blocks_near
from app.services import Services
from app.settings import Settings
from model.cores import available_cores
from tests.benchmarks.report import Finding, paired, seconds
from tests.benchmarks.served import served

TMS = morecantile.tms.get("WebMercatorQuad")
YEARS = ("2013", "2017")
WARM = 3000
CONSTANT = bytes(2700)


def bare_app() -> FastAPI:
    """A FastAPI application that returns constant bytes, as many as a tile has."""
    app = FastAPI()

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {}

    @app.get("/tiles/{tms}/{z}/{x}/{y}")
    async def tile(tms: str, z: int, x: int, y: str) -> Response:
        return Response(CONSTANT, media_type="image/png")

    return app


def grid_of_tiles(county: Path, zoom: int, cols: int, rows: int) -> list[Tile]:
    """cols × rows tiles around the middle of the county, row by row."""
    with Opened(county) as services:
        west, south, east, north = services.sources.get(None).bounds
    middle = TMS.tile((west + east) / 2, (south + north) / 2, zoom)
    left, top = middle.x - cols // 2, middle.y - rows // 2
    return [Tile(zoom, left + c, top + r) for r in range(rows) for c in range(cols)]


class Opened:
    """Services on the county that are closed at the end, nothing cached on disk."""

    def __init__(self, county: Path) -> None:
        self._county = county

    def __enter__(self) -> Services:
        self._services = Services(Settings(imagery=self._county))
        return self._services

    def __exit__(self, *_: object) -> None:
        self._services.close()


def measure_block(county: Path) -> Finding:
    """A cold block through scenes, reading, inference and cache, against its inference alone."""
    with Opened(county) as services:
        source, session = services.sources.get(None), services.model(None)
        selections = [
            Selection(source, TemporalFilter.of_year(int(year)), session) for year in YEARS
        ]
        addresses = _full_blocks(services, selections[0])
        fresh = iter([(s, b) for b in addresses for s in selections])
        size = session.card.window
        batch = np.random.default_rng(0).standard_normal((1, 4, size, size)).astype(np.float32)

        def cold() -> None:
            selection, block = next(fresh)
            asyncio.run(services.landcover.block(selection, block))

        ratio, block_s, infer_s = paired(cold, lambda: session.predict(batch), rounds=9)
    return Finding(
        "cold block ÷ its inference alone",
        ratio,
        1.3,
        False,
        f"{block_s * 1000:.0f} ms over {infer_s * 1000:.0f} ms, one thread",
    )


def measure_viewport(county: Path) -> Finding:
    """40 cold tiles at native zoom over HTTP, against the pure inference of their blocks."""
    tiles = grid_of_tiles(county, 17, 8, 5)
    with Opened(county) as services:
        session = services.model(None)
        selection = Selection(services.sources.get(None), TemporalFilter.of_year(2013), session)
        blocks = len(_blocks_under(services, selection, tiles))
    size = session.card.window
    batch = np.random.default_rng(0).standard_normal((1, 4, size, size)).astype(np.float32)
    pairs: list[tuple[float, float]] = []
    environment = {"LANDCOVER_IMAGERY": str(county)}
    with ThreadPoolExecutor(available_cores()) as pool:

        def infer() -> None:
            list(pool.map(lambda _: session.predict(batch), range(blocks)))

        infer()
        for year in YEARS * 2:
            with served("app.main:create_app", environment) as server:
                server.get([path_of(_far_tile(), year)], 1)
                paths = [path_of(tile, year) for tile in tiles]
                pairs.append((seconds(lambda: server.get(paths, 12)), seconds(infer)))  # noqa: B023
    return Finding(
        "cold 40-tile viewport ÷ inference of its blocks alone",
        statistics.median(served_s / bare_s for served_s, bare_s in pairs),
        1.3,
        False,
        ", ".join(f"{served_s:.1f} over {bare_s:.1f} s" for served_s, bare_s in pairs)
        + f"; {blocks} blocks, {available_cores()} cores, over HTTP",
    )


def measure_warm(county: Path) -> Finding:
    """A cached tile against a bare FastAPI route with constant bytes: server CPU per request."""
    path = path_of(grid_of_tiles(county, 17, 1, 1)[0], "2017")
    environment = {"LANDCOVER_IMAGERY": str(county)}
    with (
        served("app.main:create_app", environment) as ours,
        served("tests.benchmarks.tiles:bare_app", {}) as bare,
    ):
        ours.get([path], 1)
        ours.hammer(path, 500), bare.hammer("/tiles/a/1/2/3", 500)
        pairs = [(bare.hammer("/tiles/a/1/2/3", WARM), ours.hammer(path, WARM)) for _ in range(5)]
    ratio = statistics.median(b / o for b, o in pairs)
    bare_us, ours_us = (statistics.median(side) / WARM * 1e6 for side in zip(*pairs, strict=True))
    return Finding(
        "warm tile: throughput ÷ empty FastAPI route",
        ratio,
        0.85,
        True,
        f"{ours_us:.0f} µs against {bare_us:.0f} µs of server CPU a request",
    )


def measure_memory(county: Path) -> Finding:
    """Resident memory after 2,000 distinct cold tiles against that after 200."""
    tiles = [
        *grid_of_tiles(county, 18, 20, 22),
        *grid_of_tiles(county, 17, 10, 11),
        *grid_of_tiles(county, 19, 22, 22),
    ]
    paths = [path_of(tile, year) for year in YEARS for tile in tiles][:2000]
    if len(set(paths)) != 2000:
        raise RuntimeError(f"{len(set(paths))} distinct tiles, 2000 are needed")
    environment = {
        "LANDCOVER_IMAGERY": str(county),
        "LANDCOVER_CACHE_MEMORY_MB": "16",
        "LANDCOVER_RENDERED_MEMORY_MB": "4",
        "MALLOC_ARENA_MAX": "2",
    }
    with served("app.main:create_app", environment) as server:
        server.get(paths[:200], 6)
        early = server.rss
        server.get(paths[200:], 6)
        late = server.rss
    return Finding(
        "memory (RSS) after 2,000 different cold tiles ÷ after 200",
        late / early,
        1.1,
        False,
        f"{late / 1e6:.0f} MB over {early / 1e6:.0f} MB; block cache 16 MB",
    )


def path_of(tile: Tile, year: str) -> str:
    """The address of a tile of classes."""
    return f"/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.png?year={year}"


def _far_tile() -> Tile:
    return Tile(17, 1, 1)


def _blocks_under(services: Services, selection: Selection, tiles: list[Tile]) -> set[Block]:
    """The blocks whose pixels show in the tiles and that have imagery."""
    found = set()
    for tile in tiles:
        for block in blocks_near(selection, tile):
            cols, rows = cells_under(tile.grid, tile.window, block.grid)
            shown = ((cols >> 9) == block.col) & ((rows >> 9) == block.row)
            if shown.any() and services.landcover.plan(selection, block):
                found.add(block)
    return found


def _full_blocks(services: Services, selection: Selection) -> list[Block]:
    """Blocks around the county's middle, imagery everywhere in them."""
    source = selection.source
    west, south, east, north = source.bounds
    (grid,) = source.grids()
    x, y = transformer("OGC:CRS84", grid.crs).transform((west + east) / 2, (south + north) / 2)
    cols, rows = grid.cells(np.asarray(x), np.asarray(y))
    col, row = int(cols) >> 9, int(rows) >> 9
    return [Block(grid, col + c, row + r) for r in (-1, 0, 1) for c in (-1, 0, 1)]
