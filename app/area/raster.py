"""Class rasters of an area, block by block; memory does not grow with the area."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.area.frame import OutputGrid
from app.area.statistics import when_of
from app.area.tally import Progress, silent
from app.grid.pixel_grid import PixelGrid
from app.landcover.batching import neighbors_together
from app.landcover.blocks import LandCover, Selection
from app.render.attribute_table import Table, table_of
from app.render.geotiff import class_cog
from app.render.transition import TRANSITION, codes, transition_table
from app.sampling.placer import Classes, Placed, classes_under
from app.scheduling import gather, prefetch
from model.legend import NODATA, Legend
from model.windows import BLOCK, Window

Chunk = tuple[Window, npt.NDArray[np.bool_]]


async def write_raster(
    landcover: LandCover,
    selections: Sequence[Selection],
    frame: OutputGrid,
    path: Path,
    progress: Progress = silent,
) -> None:
    """Writes what `frame` shows as a Cloud Optimized GeoTIFF: the classes of one selection, or of
    two what became of what (from · 10 + to).

    SourceUnavailable or Busy as `LandCover.block`, OSError when the file cannot be written; then
    nothing is left at `path`.
    """
    grids = selections[0].source.grids()
    native = frame.is_native(grids)
    count, edge = (landcover.in_flight, landcover.batcher.edge) if native else (0, 1)
    total, done = frame.count(), 0
    table, description = raster_table([s.session.card.legend for s in selections])

    async def look(chunk: Chunk) -> Sequence[Placed]:
        window, inside = chunk
        return await gather(
            classes_under(landcover, selection, frame.lattice, window, inside)
            for selection in selections
        )

    chunks_of = neighbors_together(frame.chunks(), _place_of, edge)
    with class_cog(path, frame.lattice, frame.window, table, description) as raster:
        async with aclosing(prefetch(chunks_of, look, count)) as chunks:
            async for (window, inside), shown in chunks:
                values = np.where(inside, _values(shown), NODATA).astype(np.uint8)
                scenes = [scene for each in shown for scene in each.scenes]
                await landcover.reads.run(raster.write, window, values, scenes)
                done += 1
                progress(done, total)
        card = selections[-1].session.metadata
        years = {"LANDCOVER_YEARS": ",".join(map(when_of, selections))}
        await landcover.reads.run(raster.finish, card, years)
    progress(total, total)


async def write_window(
    landcover: LandCover,
    selection: Selection,
    grid: PixelGrid,
    extent: Window,
    path: Path,
    progress: Progress = silent,
) -> None:
    """Classifies `extent` of `grid` into the GeoTIFF `path`; errors as `write_raster`."""
    frame = OutputGrid(grid, extent, None)
    await write_raster(landcover, [selection], frame, path, progress)


def raster_table(legends: Sequence[Legend]) -> tuple[Table, str]:
    """The values of a raster of one selection or two, and the name of its band."""
    if len(legends) == 1:
        return table_of(legends[0]), "land cover class"
    return transition_table(legends[-1]), TRANSITION


def _place_of(chunk: Chunk) -> tuple[object, int, int]:
    window, _ = chunk
    return None, window.row // BLOCK, window.col // BLOCK


def _values(shown: Sequence[Placed]) -> Classes:
    if len(shown) == 1:
        return shown[0].values
    before, after = (each.values for each in shown)
    return codes(before, after)
