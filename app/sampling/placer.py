"""The one placer: which class, or confidence, a pixel of any grid shows.

It is what a point query at the pixel's center answers: blocks are looked up, never resampled. Tiles
below native zoom look up the level of the mode pyramid whose pixels come nearest to theirs.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from app.grid.classified import LEVELS, ClassifiedBlock, SceneRef
from app.grid.pixel_grid import Block, Cells, PixelGrid
from app.grid.projection import cells_under
from app.imagery.scene import Scene
from app.landcover.blocks import BlockPlan, LandCover, Selection
from app.sampling.newest import Candidate, candidates_near, choices
from app.scheduling import gather, prefetch
from model.legend import NODATA
from model.windows import BLOCK, Window

_SHIFT = BLOCK.bit_length() - 1
_FEW = 16
"""Blocks under a window that are faster found one by one than by sorting."""

Layer = Literal["class", "confidence"]
Classes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.intp]


@dataclass(slots=True)
class Placed:
    """What a window shows.

    `values`: uint8 (rows, cols), classes or confidence in percent, 255 = nodata. `scenes`: those
    of the blocks that show, in order of use; `blocks`: how many these are. `missing`: blocks that
    were left out because there are more than the budget.
    """

    values: Classes
    scenes: dict[SceneRef, None] = field(default_factory=dict)
    blocks: int = 0
    missing: list[BlockPlan] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Placer:
    """How the pixels of a window of `grid` are filled from the blocks of a selection.

    `planned`: the blocks that may show and what they are made from; None: planned as they are met.
    `ground_resolution`: meters on the ground per pixel, to choose the level of the mode pyramid by;
    0 for full resolution. `budget`: the blocks that may be computed, None for all.
    """

    landcover: LandCover
    selection: Selection
    grid: PixelGrid
    window: Window
    planned: Mapping[Block, BlockPlan] | None = None
    layer: Layer = "class"
    ground_resolution: float = 0.0
    budget: int | None = None

    async def place(self, wanted: Mask | None = None) -> Placed:
        """Return what the pixels of `wanted`, bool of the window's shape (None: all), show.

        Each pixel looks in the work grid that has the newest imagery there, of one year in that
        whose central meridian is nearest; then in the next one. SourceUnavailable or Busy as
        `LandCover.block`.
        """
        placed = Placed(np.full(self.window.shape, NODATA, dtype=np.uint8))
        is_open = np.ones(self.window.shape, dtype=bool) if wanted is None else wanted.copy()
        candidates = self._candidates()
        for choice in choices(self.grid, self.window, candidates, self.selection.when):
            for number, candidate in enumerate(candidates):
                here = is_open & (choice == number)
                if here.any():
                    await self._place_grid(candidate.grid, here, placed)
            if placed.missing:
                break  # what other grids would add is not shown either
            is_open &= placed.values == NODATA
        return placed

    def _candidates(self) -> list[Candidate]:
        """Return the work grids that may show, sorted, and their scenes."""
        if self.planned is None:
            return candidates_near(self.selection, self.grid, self.window)
        scenes: dict[PixelGrid, dict[Scene, None]] = {}
        for block, plan in self.planned.items():
            scenes.setdefault(block.grid, {}).update(dict.fromkeys(plan.scenes))
        return [Candidate(grid, list(scenes[grid])) for grid in sorted(scenes)]

    async def _place_grid(self, grid: PixelGrid, wanted: Mask, placed: Placed) -> None:
        """Write the pixels of `wanted` from the blocks of one work grid."""
        block = Block.of(grid, self.window)
        if self.grid == grid and block.window == self.window and self.planned is None:
            classified = await self.landcover.block(self.selection, block)
            if classified is not None:
                np.copyto(placed.values, classified.level(0, self.layer), where=wanted)
                placed.scenes |= dict.fromkeys(classified.scenes)
                placed.blocks += 1
            return
        level = self._level(grid)
        run = self.landcover.reads.run  # not on the event loop, which others are waiting for
        located, inner = await run(self._locate, grid, wanted, level)
        pixels = {
            plan: where for block, where in located if (plan := self._plan(block)) is not None
        }
        placed.blocks += len(pixels)
        flat = placed.values.reshape(-1)

        def show(plan: BlockPlan, classified: ClassifiedBlock) -> None:
            where = pixels[plan]
            flat[where] = classified.level(level, self.layer).reshape(-1)[inner[where]]

        async with aclosing(self._blocks(pixels, placed)) as blocks:
            async for plan, classified in blocks:
                await run(show, plan, classified)
                placed.scenes |= dict.fromkeys(classified.scenes)

    def _locate(
        self, grid: PixelGrid, wanted: Mask, level: int
    ) -> tuple[list[tuple[Block, Pixels]], Cells]:
        """Return the blocks under the pixels of `wanted`, with the numbers of their pixels in the
        flat window, and where each pixel is in the flat array of its block at a level."""
        cols, rows = cells_under(self.grid, self.window, grid)
        located = list(_by_block(grid, cols, rows, wanted))
        return located, _inner(cols, rows, level)

    def _plan(self, block: Block) -> BlockPlan | None:
        if self.planned is not None:
            return self.planned.get(block)
        return self.landcover.plan(self.selection, block)

    def _level(self, grid: PixelGrid) -> int:
        return level_of(self.ground_resolution, grid.resolution) if self.ground_resolution else 0

    async def _blocks(
        self, plans: Collection[BlockPlan], placed: Placed
    ) -> AsyncGenerator[tuple[BlockPlan, ClassifiedBlock], None]:
        """Yield the blocks; none when more than the budget are missing."""
        if self.budget is not None:
            cached = await gather(self.landcover.cache.find(plan.key) for plan in plans)
            missing = [plan for plan, block in zip(plans, cached, strict=True) if block is None]
            if len(missing) > self.budget:
                placed.missing += missing
                return
            for plan, block in zip(plans, cached, strict=True):
                if block is not None:
                    yield plan, block
            plans = missing
        # The blocks of a tile at once; those under a coarse raster would not fit in memory.
        count = len(plans) if self.planned is not None else self.landcover.in_flight
        async with aclosing(prefetch(plans, self._compute, count)) as results:
            async for plan, classified in results:
                if classified is not None:
                    yield plan, classified

    async def _compute(self, plan: BlockPlan) -> ClassifiedBlock | None:
        if self.planned is not None:
            return await self.landcover.compute(self.selection, plan)
        # A window may reach beyond the ground that is loaded: then its plans are not complete.
        return await self.landcover.block(self.selection, plan.block)


async def classes_under(
    landcover: LandCover,
    selection: Selection,
    grid: PixelGrid,
    window: Window,
    wanted: Mask | None = None,
) -> Placed:
    """Return the classes of the pixels of a window of any grid, at full resolution."""
    return await Placer(landcover, selection, grid, window).place(wanted)


def level_of(ground_resolution: float, block_resolution: float) -> int:
    """Return the pyramid level whose pixels come nearest to `ground_resolution` meters."""
    return max(0, min(LEVELS, round(math.log2(ground_resolution / block_resolution))))


def _by_block(
    grid: PixelGrid, cols: Cells, rows: Cells, wanted: Mask
) -> Iterator[tuple[Block, Pixels]]:
    """Yield each block that holds any of the wanted pixels, and their numbers in the flat window.

    `cols`, `rows`: the pixels of `grid`, int64 (rows, cols) as `wanted`.
    """
    first_col, first_row = int(cols.min()) >> _SHIFT, int(rows.min()) >> _SHIFT
    across = (int(cols.max()) >> _SHIFT) - first_col + 1
    numbers = rows >> _SHIFT
    numbers -= first_row
    numbers *= across
    numbers += cols >> _SHIFT
    numbers -= first_col
    none = int(numbers.max()) + 1
    numbers[~wanted] = none
    # In as few bits as they fit: numpy sorts 16 by radix.
    flat = numbers.astype(np.min_scalar_type(none)).reshape(-1)
    for number, where in _groups(flat):
        if number != none:
            row, col = divmod(number, across)
            yield Block(grid, col + first_col, row + first_row), where


def _groups(numbers: npt.NDArray[Any]) -> Iterator[tuple[int, Pixels]]:
    """Yield each number of (n,) and where it is, ascending."""
    if numbers.max() < _FEW:
        for number in np.flatnonzero(np.bincount(numbers)).tolist():
            yield number, np.flatnonzero(numbers == number)
        return
    # Sorted once, so that many blocks under a coarse window do not each look at every pixel.
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    yield from zip(ordered[starts].tolist(), np.split(order, starts[1:]), strict=True)


def _inner(cols: Cells, rows: Cells, level: int) -> Cells:
    """Return where the pixels are in the flat array of their block at a level; overwrites them."""
    for axis in (cols, rows):
        np.bitwise_and(axis, BLOCK - 1, out=axis)
        np.right_shift(axis, level, out=axis)
    rows *= BLOCK >> level
    rows += cols
    return rows.reshape(-1)
