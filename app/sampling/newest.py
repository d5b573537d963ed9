"""Which work grid shows a place where several have imagery: that of the newest, whatever its CRS.

Within a year it is the grid whose central meridian is nearest, so that zones meet along one line;
of grids with one meridian (one zone on two datums) that of the newest date. The outlines of the
images decide, pixel by pixel; where the first grid turns out to hold no data the next one follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.grid.pixel_grid import (
    LONLAT,
    Block,
    Cells,
    Coordinates,
    PixelGrid,
    bounds_between,
    central_meridian,
    transformer,
)
from app.grid.projection import cells_under
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.scene import Scene
from app.landcover.blocks import Selection
from model.windows import BLOCK, Window

Choice = npt.NDArray[np.intp]

_EVERY = 32
"""Pixels between the points by which the blocks of a job are chosen."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A work grid and the scenes on it that may show."""

    grid: PixelGrid
    scenes: Sequence[Scene]


def candidates_near(selection: Selection, grid: PixelGrid, window: Window) -> list[Candidate]:
    """Return the work grids that have imagery near a window of any grid, sorted; the only grid of
    a source without a search, as there is nothing to choose."""
    catalog, bounds = selection.source.catalog, grid.bounds(window)
    grids = sorted(selection.source.grids())
    if len(grids) == 1:
        return [Candidate(grids[0], [])]
    candidates = []
    for each in grids:
        there = bounds if each.crs == grid.crs else bounds_between(grid.crs, each.crs, bounds)
        # Where a projection ends there is no imagery in it.
        scenes = catalog.search(each.crs, there, selection.when) if np.isfinite(there).all() else []
        if scenes:
            candidates.append(Candidate(each, scenes))
    return candidates


def choices(
    grid: PixelGrid, window: Window, candidates: Sequence[Candidate], when: TemporalFilter
) -> list[Choice]:
    """Return for the first, second … choice the number of the candidate: of all pixels of a window,
    (1, 1), or of each, (rows, cols)."""
    grids = [each.grid for each in candidates]
    if len(grids) < 2:
        return [np.zeros((1, 1), dtype=np.intp)] * len(grids)
    x, y = grid.centers(window)
    to_longitude = transformer(grid.crs, LONLAT).transform
    if _by_meridian(candidates, when):
        corners, _ = to_longitude(x[[0, 0, -1, -1]], y[[0, -1, 0, -1]])
        order = order_of(candidates, None, np.array([[min(corners), max(corners)]]), when)
        if (order[:, :, 0] == order[:, :, 1]).all():
            # Going east two grids change places once: the same at both ends is the same between.
            return list(order[:, :, :1])
    everywhere, _ = to_longitude(*np.meshgrid(x, y))
    cells = [cells_under(grid, window, each) for each in grids]
    return list(order_of(candidates, cells, everywhere, when))


def order_of(
    candidates: Sequence[Candidate],
    cells: Sequence[tuple[Cells, Cells]] | None,
    longitude: Coordinates,
    when: TemporalFilter,
) -> Choice:
    """Return the numbers of the candidates at places of any shape, best first: (choices, *shape).

    `cells`: for each candidate the (cols, rows) of its pixels at the places; None: all of one year.
    `longitude`: degrees.
    """
    distance = [np.abs(longitude - central_meridian(each.grid.crs)) for each in candidates]
    keys = [np.stack(distance)]
    if cells is not None and not _by_meridian(candidates, when):
        newest = [
            _newest(each, *there, when) for each, there in zip(candidates, cells, strict=True)
        ]
        years, dates = (np.stack(values) for values in zip(*newest, strict=True))
        keys = [-dates, *keys, -years]
    # By the last key first; ties in the order of the candidates.
    order: Choice = np.lexsort(keys, axis=0)
    return order


def newest_blocks(selection: Selection, block: Block) -> list[Block]:
    """Return the blocks of any work grid that show on the ground of a block, as far as the outlines
    of the images tell: itself where there is imagery of its grid alone, or none."""
    if len(selection.source.grids()) < 2:
        return [block]
    candidates = candidates_near(selection, block.grid, block.window)
    grids = [each.grid for each in candidates]
    if set(grids) <= {block.grid}:
        return [block]
    steps = np.arange(_EVERY // 2, BLOCK, _EVERY)
    x, y = block.grid.centers(block.window)
    places = np.meshgrid(x[steps], y[steps])
    cells = [
        each.cells(*map(np.asarray, transformer(block.grid.crs, each.crs).transform(*places)))
        for each in grids
    ]
    longitude, _ = transformer(block.grid.crs, LONLAT).transform(*places)
    first = order_of(candidates, cells, longitude, selection.when)[0]
    shown: dict[Block, None] = {}
    for number, (grid, (cols, rows)) in enumerate(zip(grids, cells, strict=True)):
        here = first == number
        for col, row in zip((cols // BLOCK)[here], (rows // BLOCK)[here], strict=True):
            shown[Block(grid, int(col), int(row))] = None
    return list(shown)


def _by_meridian(candidates: Sequence[Candidate], when: TemporalFilter) -> bool:
    """Return whether the nearest meridian decides: all scenes are of one year, and no two grids
    share a meridian."""
    years = {_year(scene, when) for each in candidates for scene in each.scenes}
    meridians = {central_meridian(each.grid.crs) for each in candidates}
    return len(years) == 1 and len(meridians) == len(candidates)


def _newest(
    candidate: Candidate, cols: Cells, rows: Cells, when: TemporalFilter
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (year, date) of the newest image at each pixel of a candidate as numbers that grow
    with them, -1 where none reaches."""
    years = np.full(cols.shape, -1, dtype=np.int64)
    dates = years.copy()
    is_open = np.ones(cols.shape, dtype=np.bool_)

    def newest_first(scene: Scene) -> tuple[int, int]:
        return -_year(scene, when), -_date(scene)

    for scene in sorted(candidate.scenes, key=newest_first):
        extent = scene.extent(candidate.grid)
        if extent is None:
            continue
        inside = is_open & (cols >= extent.col) & (cols < extent.col_stop)
        inside &= (rows >= extent.row) & (rows < extent.row_stop)
        years[inside], dates[inside] = _year(scene, when), _date(scene)
        is_open &= ~inside
        if not is_open.any():
            break
    return years, dates


def _year(scene: Scene, when: TemporalFilter) -> int:
    """Return the year, above all others when its date was requested and does not only fill."""
    return scene.year + 10_000 * when.contains(scene.acquired)


def _date(scene: Scene) -> int:
    return int(scene.acquired.replace("-", "").ljust(8, "0") or 0)
