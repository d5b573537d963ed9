"""What an area would take, before anything is computed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from app.area.plan import MANY_BLOCKS, Plan
from app.landcover.blocks import LandCover, Selection

LOOKED_AT = 512
"""Blocks looked up one by one; of larger areas these stand for the rest."""

BYTES_PER_PIXEL = 0.05
"""Of a class GeoTIFF with its overviews, per pixel in the area; 0.042 for the watershed of
docs/planners.md."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """`blocks` to classify, how many of them are `cached`, `seconds` and `bytes` of the raster.

    `exact` is False when the figures are drawn from a part of the blocks.
    """

    blocks: int
    cached: int
    seconds: float
    bytes: int
    exact: bool

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def estimate(
    landcover: LandCover, selections: Sequence[Selection], plans: Sequence[Plan]
) -> Estimate:
    """For all selections and plans together. The first one of a process runs a block to time it."""
    total = sum(plan.count() for plan in plans)
    looked, imagery, cached = 0, 0, 0
    for plan in plans:
        if total > MANY_BLOCKS:
            break
        for part in islice(plan.parts(), LOOKED_AT - looked):
            looked += 1
            for selection in selections:
                key = landcover.key(selection, part.block)
                imagery += key is not None
                cached += key is not None and landcover.cache.contains(key)
    scale = total / looked if looked else float(len(selections))
    blocks = round(imagery * scale) if looked else total * len(selections)
    kept = min(round(cached * scale), blocks)
    pixels = sum(
        region.shape.area / region.grid.resolution**2 for plan in plans for region in plan.regions
    )
    each = await seconds_per_block(landcover, selections[0])
    return Estimate(
        blocks=blocks,
        cached=kept,
        seconds=round((blocks - kept) * each, 1),
        bytes=round(pixels * BYTES_PER_PIXEL),
        exact=looked == total,
    )


async def seconds_per_block(landcover: LandCover, selection: Selection) -> float:
    """Seconds per block with all inference threads at work: as measured, or timed now."""
    gate = landcover.gate
    if not gate.measured:
        session, size = selection.session, selection.session.card.window
        empty = np.zeros((1, len(session.card.bands), size, size), dtype=np.float32)
        async with gate.admitted():
            await landcover.infers.run(session.predict, empty)
    return gate.seconds_per_block
