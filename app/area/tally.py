"""Square meters by pixel value, and the walk over an area's blocks that counts them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from app.area.plan import Part, Plan, Shares
from app.grid.classified import SceneRef
from app.landcover.batching import neighbors_together
from app.landcover.blocks import LandCover, Selection
from app.sampling.placer import Classes, Placed, classes_under
from app.scheduling import gather, prefetch
from model.legend import NODATA

Progress = Callable[[int, int], None]
"""Told (blocks done, blocks in all)."""


def silent(done: int, total: int) -> None:
    """Progress that nobody follows."""


@dataclass(slots=True)
class AreaTotals:
    """`ground`: m² by pixel value, float64 (256,); 255: no imagery. `pixels`: those with data."""

    ground: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))
    pixels: int = 0
    blocks: int = 0
    scenes: dict[SceneRef, None] = field(default_factory=dict)

    def add(self, part: Part, values: Classes, shares: Shares | None) -> None:
        """Counts the values of a block, uint8 (512, 512), each pixel by its share in the area."""
        flat = values.reshape(-1)
        counts = np.bincount(flat, None if shares is None else shares.reshape(-1), minlength=256)
        self.ground += counts * part.pixel_area
        self.pixels += int(counts[:NODATA].sum())
        self.blocks += 1

    def merge(self, other: AreaTotals) -> None:
        """Adds what another tally counted."""
        self.ground += other.ground
        self.pixels += other.pixels
        self.blocks += other.blocks
        self.scenes |= other.scenes

    @property
    def covered(self) -> float:
        """m² with imagery."""
        return float(self.ground[:NODATA].sum())


@dataclass(frozen=True, slots=True)
class Seen:
    """A block's part, its shares, and what one or more selections show in it."""

    part: Part
    shares: Shares | None
    shown: tuple[Placed, ...]


async def walk(
    landcover: LandCover,
    selections: Sequence[Selection],
    plan: Plan,
    progress: Progress = silent,
) -> AsyncGenerator[Seen, None]:
    """The blocks of an area in order; ground that the nearer zone leaves open is filled from the
    other one, as in tiles. SourceUnavailable or Busy as `LandCover.block`; cancelling stops the
    inference within one operator."""
    total, done = await landcover.reads.run(plan.count), 0

    async def look(part: Part) -> Seen:
        shares = await landcover.reads.run(part.coverage)
        wanted = None if shares is None else shares > 0
        grid, window = part.block.grid, part.block.window
        shown = await gather(
            classes_under(landcover, selection, grid, window, wanted) for selection in selections
        )
        return Seen(part, shares, tuple(shown))

    parts = neighbors_together(plan.parts(), _place_of, landcover.batcher.edge)
    async with aclosing(prefetch(parts, look, landcover.in_flight)) as results:
        async for _, seen in results:
            yield seen
            done += 1
            progress(done, max(total, done))


def _place_of(part: Part) -> tuple[object, int, int]:
    block = part.block
    return block.grid, block.row, block.col


async def count(
    landcover: LandCover, selection: Selection, plan: Plan, progress: Progress = silent
) -> AreaTotals:
    """Ground area of every class in an area, exact to the share of every pixel."""
    tally = AreaTotals()
    async with aclosing(walk(landcover, [selection], plan, progress)) as blocks:
        async for seen in blocks:
            (shown,) = seen.shown
            await landcover.reads.run(tally.add, seen.part, shown.values, seen.shares)
            tally.scenes |= dict.fromkeys(shown.scenes)
    tally.ground[NODATA] += plan.beyond
    return tally
