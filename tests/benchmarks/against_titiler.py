"""Tiles of classes against titiler's tiles of the raw imagery: the same files, the same places."""

from __future__ import annotations

import statistics
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from fastapi import FastAPI

from app.grid.tile import Tile
from app.imagery.catalog.temporal import TemporalFilter
from tests.benchmarks.report import Finding, seconds
from tests.benchmarks.served import SERVE, Served, served
from tests.benchmarks.tiles import Opened, grid_of_tiles, path_of

YEAR = "2017"
CONNECTIONS = 12
WARM, RAW = 3000, 100


def titiler_app() -> FastAPI:
    """An application with titiler's tiler as it comes, and a route to see that it is up."""
    from titiler.core.factory import TilerFactory

    app = FastAPI()
    app.include_router(TilerFactory().router)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {}

    return app


def measure(county: Path) -> list[Finding]:
    """Return one finding for a warm tile and one for the tiles of a cold viewport; none without
    titiler."""
    if find_spec("titiler") is None:
        return []
    tiles = grid_of_tiles(county, 17, 8, 5)
    raw = _raw_paths(county, tiles)
    ours = [path_of(tile, YEAR) for tile in tiles]
    environment = {"LANDCOVER_IMAGERY": str(county)}
    own = {"GDAL_SKIP": ""}  # titiler needs a driver that this process has switched off
    with served("tests.benchmarks.against_titiler:titiler_app", own) as titiler:
        titiler.get(raw, CONNECTIONS)
        with served(SERVE, environment) as server:
            cold_s = seconds(lambda: server.get(ours, CONNECTIONS))
            raw_s = min(seconds(lambda: titiler.get(raw, CONNECTIONS)) for _ in range(3))
            warm = _warm(server, titiler, ours[0], raw[0])
    return [
        warm,
        Finding(
            "cold tile of a 40-tile viewport ÷ titiler's tile of the raw imagery",
            cold_s / raw_s,
            5,
            False,
            f"{cold_s / len(tiles) * 1000:.0f} over {raw_s / len(raw) * 1000:.1f} ms, "
            f"{CONNECTIONS} connections",
        ),
    ]


def _warm(server: Served, titiler: Served, ours: str, raw: str) -> Finding:
    """Return the throughput of a cached tile against titiler's, by the server's CPU time."""
    server.hammer(ours, 500), titiler.hammer(raw, 20)
    pairs = [(titiler.hammer(raw, RAW) / RAW, server.hammer(ours, WARM) / WARM) for _ in range(3)]
    raw_s, ours_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    return Finding(
        "warm tile: throughput ÷ titiler's tile of the raw imagery",
        statistics.median(a / b for a, b in pairs),
        100,
        True,
        f"{ours_s * 1e6:.0f} µs against {raw_s * 1000:.1f} ms of server CPU per request",
    )


def _raw_paths(county: Path, tiles: list[Tile]) -> list[str]:
    """Return titiler's addresses of the tiles in true color, of the scene at each one's middle."""
    paths = []
    with Opened(county) as services:
        catalog = services.sources.get(None).catalog
        for tile in tiles:
            west, south, east, north = tile.lonlat_bounds
            quarter_x, quarter_y = (east - west) / 4, (north - south) / 4
            middle = west + quarter_x, south + quarter_y, east - quarter_x, north - quarter_y
            scene = catalog.within(middle, TemporalFilter.of_year(int(YEAR)))[0]
            query = urlencode([("url", scene.href), *(("bidx", str(band)) for band in (1, 2, 3))])
            paths.append(f"/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.png?{query}")
    return paths
