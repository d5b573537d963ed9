"""A tile of classes: planned once, and composed from that plan and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.grid.pixel_grid import Block, bounds_between
from app.grid.tile import CRS, Tile
from app.landcover.blocks import BlockPlan, LandCover, Selection
from app.monitoring import metrics
from app.render.transition import codes
from app.sampling.placer import Layer, Placed, Placer
from app.scheduling import gather
from model.windows import cover


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The blocks that may show in a tile and what they are made from, for each selection."""

    tile: Tile
    parts: tuple[tuple[Selection, Mapping[Block, BlockPlan]], ...]

    @property
    def digest(self) -> str:
        """Return a digest of all that the tile's values depend on; no pixel is read for it."""
        keys = (" ".join(plan.key for plan in blocks.values()) for _, blocks in self.parts)
        return hashlib.blake2b("\n".join(keys).encode(), digest_size=12).hexdigest()


async def plan_tile(landcover: LandCover, selections: Iterable[Selection], tile: Tile) -> TilePlan:
    """Return what a tile is to be composed from: one selection, or for change two.

    SourceUnavailable when a catalog on a network cannot be searched.
    """
    parts = []
    for selection in selections:
        if selection.source.shows(tile):
            await landcover.load(selection, tile.lonlat_bounds)
        plans = (landcover.plan(selection, block) for block in blocks_near(selection, tile))
        parts.append((selection, {plan.block: plan for plan in plans if plan is not None}))
    return TilePlan(tile, tuple(parts))


def blocks_near(selection: Selection, tile: Tile) -> list[Block]:
    """Return every block that may show in a tile, in a fixed order; none below the served zooms.

    Without that bound a tile of the whole world would be millions of blocks.
    """
    blocks: list[Block] = []
    if not selection.source.shows(tile):
        return blocks
    for grid in selection.source.grids():
        bounds = bounds_between(CRS, grid.crs, tile.bounds)
        if selection.source.catalog.search(grid.crs, bounds, selection.when):
            blocks += [Block.of(grid, window) for window in cover(grid.touching(bounds).expand(1))]
    return blocks


async def compose(landcover: LandCover, plan: TilePlan, layer: Layer, budget: int) -> Placed:
    """Return the classes or the confidence of a tile, or what became of what of its two selections:
    from · 10 + to, 255 where either shows none.

    Below native zoom at most `budget` blocks are computed for each selection; with more missing,
    the tile shows the blocks that are cached and is not `complete`.
    """
    tile = plan.tile
    shown = await gather(
        Placer(
            landcover,
            selection,
            tile.grid,
            tile.window,
            blocks,
            layer,
            tile.ground_resolution,
            budget,
        ).place()
        for selection, blocks in plan.parts
    )
    for placed in filter(lambda each: each.blocks, shown):
        metrics.REQUEST_BLOCKS.observe(placed.blocks)
    if len(shown) == 1:
        return shown[0]
    before, after = shown
    return Placed(
        codes(before.values, after.values),
        before.scenes | after.scenes,
        before.blocks + after.blocks,
        before.complete and after.complete,
    )
