"""Classes without the pixels that the model is less sure of than a client asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.landcover.backfill import Backfill
from app.landcover.blocks import LandCover
from app.sampling.placer import Layer
from app.sampling.tiles import Composed, Quality, TilePlan, compose
from model.legend import NODATA


async def compose_confident(
    landcover: LandCover,
    plan: TilePlan,
    minimum: int,
    *,
    quality: Quality = "auto",
    budget: int | None = None,
    backfill: Backfill | None = None,
) -> Composed:
    """Return a tile's classes with nodata where the confidence (percent) is below `minimum`.

    The confidence is of the tile's own pixels: below native zoom that of the pyramid level shown.
    Errors as `compose`.
    """

    async def layer(name: Layer) -> Composed:
        return await compose(
            landcover, plan, name, quality=quality, budget=budget, backfill=backfill
        )

    sure, classes = await layer("confidence"), await layer("class")
    if sure.plan.factor != classes.plan.factor:
        # The exact blocks arrived between the two.
        sure = await layer("confidence")
    # 255 marks pixels without confidence, which is more than any minimum.
    is_sure = (sure.placed.values != NODATA) & (sure.placed.values >= minimum)
    values = np.where(is_sure, classes.placed.values, NODATA).astype(np.uint8)
    return replace(classes, placed=replace(classes.placed, values=values))
