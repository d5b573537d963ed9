"""A tile of classes: planned once, and composed from that plan and nothing else.

Where too many exact blocks are missing a tile shows an estimate: the same network on imagery read
4, 8 or 16 times as coarse. These are blocks of coarser work grids, with keys of their own, which
no statistics and no exact tile ever read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from app.errors import Busy, InvalidRequest
from app.grid.pixel_grid import Block, PixelGrid, bounds_between
from app.grid.tile import View
from app.landcover.backfill import Backfill
from app.landcover.blocks import BlockPlan, LandCover, Selection, lonlat_of
from app.monitoring import metrics
from app.render.transition import codes
from app.sampling.placer import Layer, Placed, Placer
from app.scheduling import gather
from model.windows import cover

Quality = Literal["auto", "exact", "estimate"]

MOST_BACKFILLED = 16
"""Blocks that an estimate may have computed behind it: of a tile further out there are too many."""

COARSEST = 16
"""The network errs too often on imagery coarser than this many of its pixels."""

FINEST = 4
"""An estimate at this factor costs 1/16 and shows the class of the exact blocks in 9 of 10
pixels (docs/accuracy.md)."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The blocks that may show in a tile and what they are made from, for each selection.

    `factor`: 1 for exact blocks, else how many times as coarse those of an estimate are.
    """

    tile: View
    parts: tuple[tuple[Selection, Mapping[Block, BlockPlan]], ...]
    factor: int = 1

    @property
    def digest(self) -> str:
        """Return a digest of all that the tile's values depend on; no pixel is read for it."""
        keys = (" ".join(plan.key for plan in blocks.values()) for _, blocks in self.parts)
        return hashlib.blake2b("\n".join(keys).encode(), digest_size=12).hexdigest()

    @property
    def selections(self) -> tuple[Selection, ...]:
        """Return what the tile shows: one selection, or for change two."""
        return tuple(selection for selection, _ in self.parts)

    @property
    def is_native(self) -> bool:
        """Return whether the tile's pixels are no larger than those of the imagery."""
        return self.tile.z >= min(s.source.zooms[1] for s in self.selections)


@dataclass(frozen=True, slots=True)
class Composed:
    """What a tile shows, and from which plan: that of the exact blocks or that of an estimate."""

    placed: Placed
    plan: TilePlan

    @property
    def is_exact(self) -> bool:
        """Return whether the tile shows exact blocks and nothing else."""
        return self.plan.factor == 1


async def plan_tile(
    landcover: LandCover, selections: Iterable[Selection], tile: View, factor: int = 1
) -> TilePlan:
    """Return what a tile is to be composed from: one selection, or for change two.

    `factor`: how many times as coarse as exact ones its blocks are. SourceUnavailable when a
    catalog on a network cannot be searched.
    """
    parts = []
    for selection in selections:
        source = selection.source
        if source.shows(tile):
            await landcover.load(selection, tile.lonlat_bounds)
        blocks = blocks_near(selection, tile, factor)
        if factor > 1:
            for block in blocks:
                reach = selection.session.card.halo * block.grid.resolution
                await landcover.load(selection, lonlat_of(block), reach)
        plans = (landcover.plan(selection, block) for block in blocks)
        parts.append((selection, {plan.block: plan for plan in plans if plan is not None}))
    return TilePlan(tile, tuple(parts), factor)


def blocks_near(selection: Selection, tile: View, factor: int = 1) -> list[Block]:
    """Return every block that may show in a tile, in a fixed order.

    None at zooms at which there would be more of them than the tile has pixels.
    """
    source, blocks = selection.source, list[Block]()
    if not source.shows(tile) or (factor == 1 and not source.is_exact_at(tile.z)):
        return blocks
    for grid in source.grids():
        bounds = bounds_between(tile.grid.crs, grid.crs, tile.bounds)
        if source.catalog.search(grid.crs, bounds, selection.when):
            coarse = PixelGrid(grid.crs, grid.resolution * factor, grid.north)
            window = coarse.touching(bounds).expand(1)
            blocks += [Block.of(coarse, each) for each in cover(window)]
    return blocks


def estimate_factor(ground_resolution: float, block_resolution: float) -> int:
    """Return how many times as coarse as exact blocks those of an estimate are: 4, 8 or 16, the
    largest that does not exceed the tile's pixels."""
    ratio = max(ground_resolution / block_resolution, 1.0)
    return int(min(max(2 ** math.floor(math.log2(ratio)), FINEST), COARSEST))


async def compose(
    landcover: LandCover,
    plan: TilePlan,
    layer: Layer,
    *,
    quality: Quality = "auto",
    budget: int | None = None,
    backfill: Backfill | None = None,
) -> Composed:
    """Return the classes or the confidence of a tile, or what became of what of its two selections:
    from · 10 + to, 255 where either shows none.

    `auto`: exact at native zoom and above; below it exact where at most `budget` blocks of a
    selection are missing, else an estimate. `estimate`: exact only where nothing is missing.
    `exact`: Busy below native zoom while more than `budget` blocks are missing, InvalidRequest
    where a tile is too far out to be exact. What is missing is left to `backfill`, so that a tile
    requested again becomes exact.
    """
    tile = plan.tile
    sources = [selection.source for selection in plan.selections]
    if all(each.is_exact_at(tile.z) or not each.touches(tile) for each in sources):
        native = plan.is_native and quality != "estimate"
        most = None if native else 0 if quality == "estimate" else budget
        placed = await _place(landcover, plan, layer, most)
        if not placed.missing:
            return Composed(placed, plan)
        if quality == "exact" or len(placed.missing) <= MOST_BACKFILLED:
            _leave(backfill, plan, placed)
        if quality == "exact":
            seconds = len(placed.missing) * landcover.gate.seconds_per_block
            raise Busy(len(placed.missing), most or 0, max(1, math.ceil(min(seconds, 60))))
    elif quality == "exact":
        raise InvalidRequest("quality", quality, f"`auto` or `estimate` at zoom {tile.z}")
    resolution = min((grid.resolution for s in sources for grid in s.grids()), default=1.0)
    factor = estimate_factor(tile.ground_resolution, resolution)
    estimate = await plan_tile(landcover, plan.selections, tile, factor)
    return Composed(await _place(landcover, estimate, layer, None), estimate)


async def _place(landcover: LandCover, plan: TilePlan, layer: Layer, budget: int | None) -> Placed:
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
        before.missing + after.missing,
    )


def _leave(backfill: Backfill | None, plan: TilePlan, placed: Placed) -> None:
    """Leave the missing blocks of a tile to the backfill."""
    if backfill is None:
        return
    missing = {each.key for each in placed.missing}
    for selection, blocks in plan.parts:
        backfill.add(selection, [each for each in blocks.values() if each.key in missing])
