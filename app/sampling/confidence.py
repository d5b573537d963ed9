"""Classes without the pixels that the model is less sure of than a client asks for."""

from __future__ import annotations

import numpy as np

from app.landcover.blocks import LandCover
from app.sampling.placer import Placed
from app.sampling.tiles import TilePlan, compose
from model.legend import NODATA


async def drop_doubtful(
    placed: Placed, landcover: LandCover, plan: TilePlan, minimum: int, budget: int
) -> Placed:
    """Return a tile's classes with nodata where the confidence (percent) is below `minimum`.

    The confidence is of the tile's own pixels: below native zoom that of the pyramid level shown.
    """
    sure = await compose(landcover, plan, "confidence", budget)
    # 255 marks pixels without confidence, which is more than any minimum.
    known = (sure.values != NODATA) & (sure.values >= minimum)
    values = np.where(known, placed.values, NODATA).astype(np.uint8)
    return Placed(values, placed.scenes, placed.blocks, placed.complete and sure.complete)
