"""Estimates against the exact blocks they stand for: how soon they come, how often they agree."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from pyproj import Transformer

from app.grid.pixel_grid import LONLAT
from app.grid.tile import Tile
from app.imagery.catalog.temporal import TemporalFilter
from app.landcover.blocks import Selection
from app.sampling.tiles import Quality, compose, plan_tile
from app.services import Services
from app.settings import Settings
from model.legend import NODATA
from tests.benchmarks.report import Finding, seconds
from tests.benchmarks.tiles import grid_of_tiles

ZOOMS = range(10, 17)
VIEW = (15, 5, 4)
"""Zoom, columns and rows of the view that is timed."""


def measure(county: Path) -> list[Finding]:
    """Return how a cold view of estimates compares with the exact one, and how often they agree."""
    zoom, cols, rows = VIEW
    tiles = grid_of_tiles(county, zoom, cols, rows)
    times: dict[Quality, float] = {}
    values: dict[Quality, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}
    for quality in ("estimate", "auto"):  # each cold: in services of its own
        services = Services(Settings(imagery=county, engine="onnxruntime", queue_blocks=4096))
        try:
            times[quality] = seconds(
                lambda q=quality, s=services: values.update({q: _view(s, tiles, q)})  # type: ignore[misc]
            )
        finally:
            services.close()
    both = (values["estimate"] != NODATA) & (values["auto"] != NODATA)
    agree = float((values["estimate"] == values["auto"])[both].mean())
    return [
        Finding(
            "cold view of estimates ÷ the exact view",
            times["estimate"] / times["auto"],
            0.10,
            False,
            f"{len(tiles)} tiles at z{zoom}: {times['estimate']:.2f} s over {times['auto']:.1f} s",
        ),
        Finding(
            "pixels of estimates that show the exact class",
            agree,
            0.88,
            True,
            f"{int(both.sum()):,} pixels of {len(tiles)} tiles at z{zoom}, Demo County",
        ),
        *_single_tiles(county),
    ]


def _view(
    services: Services, tiles: list[Tile], quality: Quality
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the values of all tiles, uint8 (n, size, size), requested at once."""
    selection = _selection(services)

    async def one(tile: Tile) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        plan = await plan_tile(services.landcover, [selection], tile)
        composed = await compose(services.landcover, plan, "class", quality=quality)
        return composed.placed.values

    async def everything() -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        return await asyncio.gather(*(one(tile) for tile in tiles))

    return np.stack(asyncio.run(everything()))


def _single_tiles(county: Path) -> list[Finding]:
    """Return the worst cold tile of the low zooms against the inference of one block."""
    services = Services(Settings(imagery=county, engine="onnxruntime"))
    try:
        session = services.model(None)
        size = session.card.window
        batch = np.random.default_rng(0).standard_normal((1, 4, size, size)).astype(np.float32)
        session.predict(batch)
        block = min(seconds(lambda: session.predict(batch)) for _ in range(3))
    finally:
        services.close()
    west, south, east, north = _bounds(county)
    x, y = Transformer.from_crs(LONLAT, 3857, always_xy=True).transform(
        (west + east) / 2, (south + north) / 2
    )
    half = 20037508.342789244
    worst = {}
    for zoom in ZOOMS[:5]:
        edge = 2 * half / 2**zoom
        tile = Tile(zoom, int((x + half) / edge), int((half - y) / edge))
        services = Services(Settings(imagery=county, engine="onnxruntime"))
        try:
            worst[zoom] = seconds(lambda s=services, t=tile: _view(s, [t], "estimate"))  # type: ignore[misc]
        finally:
            services.close()
    zoom = max(worst, key=lambda z: worst[z])
    detail = ", ".join(f"z{z} {s:.2f} s" for z, s in worst.items())
    return [
        Finding(
            "slowest cold tile of z10–z14 ÷ one block's inference",
            worst[zoom] / block,
            3,
            False,
            f"{detail}; one block {block:.2f} s",
        )
    ]


def _selection(services: Services) -> Selection:
    return Selection(services.sources.get(None), TemporalFilter.of_year(2017), services.model(None))


def _bounds(county: Path) -> tuple[float, float, float, float]:
    services = Services(Settings(imagery=county, engine="onnxruntime"))
    try:
        return services.sources.get(None).bounds
    finally:
        services.close()
