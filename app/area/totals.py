"""Square meters by pixel value, and the walk over an area's blocks that sums them."""

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
from app.render.transition import codes, transition_table
from app.sampling.placer import Classes, Placed, classes_under
from app.scheduling import gather, prefetch
from model.legend import NODATA

Progress = Callable[[int, int], None]
"""Called with (blocks done, blocks in all)."""

PartClasses = tuple[Part, Shares | None, list[Placed]]
"""A part of an area, its shares, and the classes that each selection has there."""


def silent(done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(slots=True)
class AreaTotals:
    """`square_meters`: float64 (256,), by pixel value, 255 = no imagery; the blocks they are from
    and their scenes."""

    square_meters: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))
    blocks: int = 0
    scenes: dict[SceneRef, None] = field(default_factory=dict)

    def add(self, part: Part, values: Classes, shares: Shares | None) -> None:
        """Add the values of a block, uint8 (512, 512), each pixel by its share in the area."""
        flat = values.reshape(-1)
        counts = np.bincount(flat, None if shares is None else shares.reshape(-1), minlength=256)
        self.square_meters += counts * part.pixel_area
        self.blocks += 1

    def merge(self, other: AreaTotals) -> None:
        """Add the totals of another area; ground that both share counts twice."""
        self.square_meters += other.square_meters
        self.blocks += other.blocks
        self.scenes |= other.scenes

    @property
    def covered(self) -> float:
        """Return the m² with imagery."""
        return float(self.square_meters[:NODATA].sum())

    @property
    def uncovered(self) -> float:
        """Return the m² without imagery."""
        return float(self.square_meters[NODATA])


async def walk(
    landcover: LandCover, selections: Sequence[Selection], plan: Plan, progress: Progress = silent
) -> AsyncGenerator[PartClasses, None]:
    """Yield the parts of an area in order; ground that the nearer zone leaves open is filled from
    the other one, as in tiles.

    SourceUnavailable or Busy as `LandCover.block`; cancelling stops the inference within one
    operator.
    """
    total, done = await landcover.reads.run(plan.count), 0

    async def look_up(part: Part) -> PartClasses:
        shares = await landcover.reads.run(part.coverage)
        wanted = None if shares is None else shares > 0
        grid, window = part.block.grid, part.block.window
        shown = await gather(
            classes_under(landcover, selection, grid, window, wanted) for selection in selections
        )
        return part, shares, shown

    ordered = neighbors_together(plan.parts(), _place_of, landcover.batcher.edge)
    async with aclosing(prefetch(ordered, look_up, landcover.in_flight)) as results:
        async for _, classes in results:
            yield classes
            done += 1
            progress(done, max(total, done))


def _place_of(part: Part) -> tuple[object, int, int]:
    block = part.block
    return block.grid, block.row, block.col


async def sum_area(
    landcover: LandCover, selections: Sequence[Selection], plan: Plan, progress: Progress = silent
) -> AreaTotals:
    """Return the ground area by pixel value, exact to the share of every pixel.

    Values are the classes of one selection, or the transitions (from · 10 + to) of two; 255 where a
    selection has no imagery. Errors as `walk`; InvalidRequest when two legends do not fit a byte.
    """
    if len(selections) > 1:
        transition_table(selections[-1].session.card.legend)
    totals = AreaTotals()
    async with aclosing(walk(landcover, selections, plan, progress)) as parts:
        async for part, shares, shown in parts:
            await landcover.reads.run(totals.add, part, values_of(shown), shares)
            totals.scenes |= dict.fromkeys(scene for each in shown for scene in each.scenes)
    totals.square_meters[NODATA] += plan.outside_m2
    return totals


def values_of(shown: Sequence[Placed]) -> Classes:
    """Return the pixel values of one selection's classes, or of the transitions between two."""
    return codes(*(each.values for each in shown)) if len(shown) > 1 else shown[0].values
