"""Classes without the pixels that the model is less sure of than a client asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.grid.tile import Tile
from app.landcover.blocks import LandCover, Selection
from app.sampling.tiles import View, compose
from model.legend import NODATA


async def without_doubtful(
    view: View,
    landcover: LandCover,
    selection: Selection,
    tile: Tile,
    minimum: int,
    budget: int,
) -> View:
    """Return a tile's classes with nodata where the confidence (percent) is below `minimum`.

    The confidence is of the tile's own pixels: below native zoom that of the pyramid level shown.
    """
    sure = await compose(landcover, selection, tile, "confidence", budget)
    # 255 marks pixels without confidence: what a later block brought has no class in `view` either.
    known = (sure.array != NODATA) & (sure.array >= minimum)
    array = np.where(known, view.array, NODATA).astype(np.uint8)
    return replace(view, array=array, complete=view.complete and sure.complete)
